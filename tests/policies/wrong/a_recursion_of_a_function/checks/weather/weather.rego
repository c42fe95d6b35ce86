# METADATA
# title: The weather
# custom:
#   legal_ground: By-law of the port, s. 1
package exchange.checks.weather

# METADATA
# title: Gusts
# custom:
#   legal_ground: By-law of the port, s. 1
gusts(n) := gusts(n - 1) + 1

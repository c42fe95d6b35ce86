# METADATA
# title: The weather
# custom:
#   legal_ground: By-law of the port, s. 1
package exchange.checks.weather

# METADATA
# title: Proven
# custom:
#   legal_ground: By-law of the port, s. 1
default proven := true

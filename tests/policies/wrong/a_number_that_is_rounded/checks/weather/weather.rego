# METADATA
# title: The weather
# custom:
#   legal_ground: By-law of the port, s. 1
package exchange.checks.weather

# METADATA
# title: Nothing is shared in a storm
# custom:
#   legal_ground: By-law of the port, s. 1
most := 9007199254740993

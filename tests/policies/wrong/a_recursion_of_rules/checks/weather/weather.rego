# METADATA
# title: The weather
# custom:
#   legal_ground: By-law of the port, s. 1
package exchange.checks.weather

# METADATA
# title: Wind
# custom:
#   legal_ground: By-law of the port, s. 1
wind if {
	rain
}

# METADATA
# title: Rain
# custom:
#   legal_ground: By-law of the port, s. 1
rain if {
	wind
}

# METADATA
# title: The weather
# custom:
#   legal_ground: By-law of the port, s. 1
package exchange.checks.weather

# METADATA
# title: Drops
# custom:
#   legal_ground: By-law of the port, s. 1
drops := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]

# METADATA
# title: Nothing is shared in a storm
# custom:
#   legal_ground: By-law of the port, s. 1
deny contains reason if {
	"storm" in input.client.roles
	count([1 | some a0 in drops; some a1 in drops; some a2 in drops; some a3 in drops; some a4 in drops; some a5 in drops; some a6 in drops; some a7 in drops; some a8 in drops; some a9 in drops; some a10 in drops; some a11 in drops]) > 0
	reason := {
		"code": "storm",
		"title": {"en": "There is a storm.", "fr": "Il y a une tempête."},
		"rule": {
			"title": "Nothing is shared in a storm",
			"file": "checks/weather/weather.rego",
			"line": 1,
			"legal_ground": "By-law of the port, s. 1",
		},
	}
}

# METADATA
# title: The weather
# custom:
#   legal_ground: By-law of the port, s. 1
package exchange.checks.weather

# METADATA
# title: Nothing is shared in a storm
# custom:
#   legal_ground: By-law of the port, s. 1
deny contains reason if {
	count([1]) == 1 with count as lower
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

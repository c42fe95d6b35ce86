# METADATA
# title: The weather
# custom:
#   legal_ground: By-law of the port, s. 1
package exchange.checks.weather

deny contains reason if {
	"storm" in input.client.roles
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

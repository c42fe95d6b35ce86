# METADATA
# title: The decision
# description: |
#   Collects what the packages below `exchange.checks` say. A new check is a new folder there: its `deny`, `grounds` and
#   `obligations` count at once, without being named here. What must be proven is named here, so that a check that is
#   taken away denies instead of falling silent.
# custom:
#   legal_ground: Policy of the exchange, no release without a stated ground
package exchange.main

# METADATA
# title: The checks that must each have proven their part
required := {
	"classification",
	"consent",
	"contract",
	"dataset",
	"facts",
	"fields",
	"organization",
	"purpose",
}

# METADATA
# title: The decision about `input`
# description: |
#   `{allow, reasons, obligations, until}`. `until` is the first instant at which this answer could change by time alone,
#   or null if time alone does not change it.
# entrypoint: true
decision := {
	"allow": true,
	"reasons": [],
	"obligations": [obligation | some name; some obligation in data.exchange.checks[name].obligations],
	"until": until,
} if {
	permitted
}

decision := {
	"allow": false,
	"reasons": [reason | some reason in refusals],
	"obligations": [],
	"until": until,
} if {
	not permitted
}

# METADATA
# title: Permitted is what every check has proven and none denies
permitted if {
	count(denials) == 0
	count(required - proven) == 0
}

# METADATA
# title: Every reason of every check against it
denials contains reason if {
	some name
	some reason in data.exchange.checks[name].deny
}

# METADATA
# title: The required checks that have proven their part
proven contains name if {
	some name in required
	data.exchange.checks[name].proven == true
}

# METADATA
# title: The reasons of a refusal
refusals contains reason if {
	some reason in denials
}

# METADATA
# title: What is not shown to be allowed is not allowed
# custom:
#   legal_ground: Policy of the exchange, no release without a stated ground
refusals contains reason if {
	count(denials) == 0
	reason := {
		"code": "not_proven",
		"title": {
			"en": "The policy found nothing against this, but could not show that it is allowed.",
			"fr": "La politique n'a rien trouvé contre cette demande, mais n'a pas pu établir qu'elle est permise.",
		},
		"rule": {
			"title": "What is not shown to be allowed is not allowed",
			"file": "main/main.rego",
			"line": 79,
			"legal_ground": "Policy of the exchange, no release without a stated ground",
		},
	}
}

# METADATA
# title: Without a contract time alone changes nothing
default until := null

# METADATA
# title: What a contract allows ends with the contract
until := input.contract.valid_until if {
	permitted
	input.contract != null
}

# METADATA
# title: A contract that has not begun may be allowed when it does
until := input.contract.valid_from if {
	not permitted
	data.exchange.checks.facts.proven
	input.action == "receive"
	input.at < input.contract.valid_from
}

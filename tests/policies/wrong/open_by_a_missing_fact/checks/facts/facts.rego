# METADATA
# title: The facts are all there, and of the right type
# description: Rules that compare a missing fact are silent, so this check speaks for all of them.
# custom:
#   legal_ground: Policy of the exchange, no release on incomplete facts
package exchange.checks.facts

# METADATA
# title: A decision needs all its facts
# custom:
#   legal_ground: Policy of the exchange, no release on incomplete facts
deny contains reason if {
	not proven
	reason := {
		"code": "facts_incomplete",
		"title": {
			"en": "A fact that the decision needs is missing, is of the wrong type or contradicts another.",
			"fr": "Un fait nécessaire à la décision manque, n'est pas du bon type ou en contredit un autre.",
		},
		"rule": {
			"title": "A decision needs all its facts",
			"file": "checks/facts/facts.rego",
			"line": 12,
			"legal_ground": "Policy of the exchange, no release on incomplete facts",
		},
	}
}

# METADATA
# title: All facts fit
proven if {
	instant(input.at)
	dataset_fits
	caller_fits
	purpose_fits
	contract_fits
	enough
}

# METADATA
# title: An instant is RFC 3339 in UTC with whole seconds
# description: Only of this one form can two instants be compared as strings.
instant(value) if {
	is_string(value)
	regex.match("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$", value)
}

# METADATA
# title: The dataset is described
dataset_fits if {
	named(input.dataset.slug)
	named(input.dataset.owner)
	input.dataset.owner_standing in {"approved", "pending", "suspended"}
	input.dataset.classification in {"open", "internal", "personal", "sensitive"}
	is_boolean(input.dataset.licence_revoked)
	is_boolean(input.dataset.has_subject)
	is_boolean(input.dataset.retired)
}

# METADATA
# title: Nobody is calling, or a client of a known organization is
caller_fits if {
	input.client == null
	input.organization == null
}

caller_fits if {
	client_fits
	organization_fits
	input.client.organization == input.organization.id
}

# METADATA
# title: The client is described
client_fits if {
	named(input.client.id)
	input.client.standing in {"active", "pending", "revoked"}
	is_boolean(input.client.strong)
	strings(input.client.roles)
	strings(input.client.contracts)
}

# METADATA
# title: The client's organization is described
organization_fits if {
	named(input.organization.id)
	input.organization.kind in {"department", "partner"}
	input.organization.standing in {"approved", "pending", "suspended"}
}

# METADATA
# title: There is no purpose, or it is described
purpose_fits if input.purpose == null

purpose_fits if {
	named(input.purpose.code)
	strings(input.purpose.broader)
}

# METADATA
# title: There is no contract, or it is described and its purpose is the purpose
contract_fits if input.contract == null

contract_fits if {
	is_string(input.contract.id)
	input.contract.state in {"proposed", "active", "suspended", "ended"}
	named(input.contract.provider)
	named(input.contract.consumer)
	instant(input.contract.valid_from)
	instant(input.contract.valid_until)
	purpose_agrees
}

# METADATA
# title: The purpose of the contract is the purpose of the decision, if that has one
purpose_agrees if input.purpose == null

purpose_agrees if input.contract.purpose == input.purpose.code

# METADATA
# title: The action has the facts that it is about
enough if {
	input.action == "publish"
	input.client != null
	input.contract == null
}

enough if {
	input.action == "propose"
	input.client != null
	input.contract.state == "proposed"
}

enough if {
	input.action == "receive"
	input.client != null
	named(input.contract.id)
}

enough if {
	input.action == "receive"
	input.contract == null
}

# METADATA
# title: A name is a string that is not empty
named(value) if {
	is_string(value)
	value != ""
}

# METADATA
# title: A list of strings
strings(value) if {
	is_array(value)
	every item in value {
		is_string(item)
	}
}

# METADATA
# title: The contract is in force, between these two, and named by the token
# custom:
#   legal_ground: The contract, its state, term and parties
package exchange.checks.contract

# METADATA
# title: Events are delivered under an active contract only
# custom:
#   legal_ground: The contract, its state
deny contains reason if {
	input.action == "receive"
	input.contract.state in {"proposed", "suspended", "ended"}
	reason := {
		"code": "contract_not_active",
		"title": {
			"en": "The contract is not in force: it is proposed, suspended or ended.",
			"fr": "Le contrat n'est pas en vigueur : il est proposé, suspendu ou terminé.",
		},
		"rule": {
			"title": "Events are delivered under an active contract only",
			"file": "checks/contract/contract.rego",
			"line": 11,
			"legal_ground": "The contract, its state",
		},
	}
}

# METADATA
# title: A contract begins on its first day
# custom:
#   legal_ground: The contract, its term
deny contains reason if {
	input.action == "receive"
	input.at < input.contract.valid_from
	reason := {
		"code": "contract_not_yet_valid",
		"title": {
			"en": "The contract has not begun yet.",
			"fr": "Le contrat n'a pas encore commencé.",
		},
		"rule": {
			"title": "A contract begins on its first day",
			"file": "checks/contract/contract.rego",
			"line": 33,
			"legal_ground": "The contract, its term",
		},
	}
}

# METADATA
# title: A contract ends on its last day
# custom:
#   legal_ground: The contract, its term
deny contains reason if {
	input.action in {"propose", "receive"}
	input.at >= input.contract.valid_until
	reason := {
		"code": "contract_expired",
		"title": {
			"en": "The term of the contract is over.",
			"fr": "La durée du contrat est écoulée.",
		},
		"rule": {
			"title": "A contract ends on its last day",
			"file": "checks/contract/contract.rego",
			"line": 55,
			"legal_ground": "The contract, its term",
		},
	}
}

# METADATA
# title: A contract serves its own parties only
# custom:
#   legal_ground: The contract, its parties
deny contains reason if {
	input.action in {"propose", "receive"}
	input.contract != null
	not parties_agree
	reason := {
		"code": "contract_of_another_organization",
		"title": {
			"en": "The contract is not one between your organization and the owner of this dataset.",
			"fr": "Le contrat ne lie pas votre organisme au propriétaire de ce jeu de données.",
		},
		"rule": {
			"title": "A contract serves its own parties only",
			"file": "checks/contract/contract.rego",
			"line": 77,
			"legal_ground": "The contract, its parties",
		},
	}
}

# METADATA
# title: A token reads the contracts that it names
# description: Personal data needs a token that names the contract; a token that names any contract reads no other (RFC 9396).
# custom:
#   legal_ground: MFIPPA (R.S.O. 1990, c. M.56), R.R.O. 1990, Reg. 823, s. 3 (security of records)
deny contains reason if {
	input.action == "receive"
	input.contract != null
	not named_in_token
	reason := {
		"code": "contract_not_named_in_token",
		"title": {
			"en": "The access token does not name this contract; ask for one that does.",
			"fr": "Le jeton d'accès ne nomme pas ce contrat; demandez-en un qui le nomme.",
		},
		"rule": {
			"title": "A token reads the contracts that it names",
			"file": "checks/contract/contract.rego",
			"line": 101,
			"legal_ground": "MFIPPA (R.S.O. 1990, c. M.56), R.R.O. 1990, Reg. 823, s. 3 (security of records)",
		},
	}
}

# METADATA
# title: The consumer is the caller and the provider owns the dataset
parties_agree if {
	input.contract.consumer == input.organization.id
	input.contract.provider == input.dataset.owner
}

# METADATA
# title: The token names the contract, or names none where it need not
named_in_token if input.contract.id in input.client.contracts

named_in_token if {
	input.client.contracts == []
	input.dataset.classification in {"open", "internal"}
}

# METADATA
# title: The contract carries this act, or none is needed
proven if input.action == "publish"

proven if {
	input.action == "receive"
	input.contract == null
	input.dataset.classification == "open"
}

proven if {
	input.action == "propose"
	parties_agree
	input.at < input.contract.valid_until
}

proven if {
	input.action == "receive"
	input.contract.state == "active"
	parties_agree
	named_in_token
	input.contract.valid_from <= input.at
	input.at < input.contract.valid_until
}

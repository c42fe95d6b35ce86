# METADATA
# title: What the classification of the data asks for
# custom:
#   legal_ground: MFIPPA (R.S.O. 1990, c. M.56), s. 32; for internal data the terms of the exchange
package exchange.checks.classification

# METADATA
# title: Only open data is read without a contract
# custom:
#   legal_ground: MFIPPA (R.S.O. 1990, c. M.56), s. 32; for internal data the terms of the exchange
deny contains reason if {
	input.action == "receive"
	input.contract == null
	input.dataset.classification in {"internal", "personal", "sensitive"}
	reason := {
		"code": "contract_missing",
		"title": {
			"en": "This dataset is not open: it is read under a contract only.",
			"fr": "Ce jeu de données n'est pas ouvert : on ne le lit qu'en vertu d'un contrat.",
		},
		"rule": {
			"title": "Only open data is read without a contract",
			"file": "checks/classification/classification.rego",
			"line": 11,
			"legal_ground": "MFIPPA (R.S.O. 1990, c. M.56), s. 32; for internal data the terms of the exchange",
		},
	}
}

# METADATA
# title: Personal data goes only to a client that proves itself by key
# custom:
#   legal_ground: MFIPPA (R.S.O. 1990, c. M.56), R.R.O. 1990, Reg. 823, s. 3 (security of records)
deny contains reason if {
	input.action in {"propose", "receive"}
	protected
	input.client.strong == false
	reason := {
		"code": "strong_client_required",
		"title": {
			"en": "Personal data goes only to a client that authenticates with a key and holds a bound token; this one has a secret or a bearer token.",
			"fr": "Les données personnelles ne vont qu'à un client authentifié par clé, à jeton lié; celui-ci a un secret ou un jeton au porteur.",
		},
		"rule": {
			"title": "Personal data goes only to a client that proves itself by key",
			"file": "checks/classification/classification.rego",
			"line": 34,
			"legal_ground": "MFIPPA (R.S.O. 1990, c. M.56), R.R.O. 1990, Reg. 823, s. 3 (security of records)",
		},
	}
}

# METADATA
# title: The data is about people
protected if input.dataset.classification in {"personal", "sensitive"}

# METADATA
# title: The classification's demands are met
proven if input.action == "publish"

proven if {
	input.action == "receive"
	input.dataset.classification == "open"
}

proven if {
	input.action in {"propose", "receive"}
	input.dataset.classification in {"open", "internal"}
	input.contract != null
}

proven if {
	input.action in {"propose", "receive"}
	protected
	input.contract != null
	input.client.strong == true
}

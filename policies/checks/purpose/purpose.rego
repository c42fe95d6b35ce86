# METADATA
# title: The rule sheet covers the purpose and the recipient
# custom:
#   legal_ground: MFIPPA (R.S.O. 1990, c. M.56), ss. 31 to 33 (use and disclosure for a purpose)
package exchange.checks.purpose

import data.exchange.sheet

# METADATA
# title: Data is shared for a stated purpose
# custom:
#   legal_ground: MFIPPA (R.S.O. 1990, c. M.56), ss. 31 to 33 (use and disclosure for a purpose)
deny contains reason if {
	input.action in {"propose", "receive"}
	input.purpose == null
	purpose_needed
	reason := {
		"code": "purpose_missing",
		"title": {
			"en": "No purpose is stated; this dataset is shared for a stated purpose only.",
			"fr": "Aucune fin n'est indiquée; ce jeu de données n'est partagé que pour une fin déclarée.",
		},
		"rule": {
			"title": "Data is shared for a stated purpose",
			"file": "checks/purpose/purpose.rego",
			"line": 13,
			"legal_ground": "MFIPPA (R.S.O. 1990, c. M.56), ss. 31 to 33 (use and disclosure for a purpose)",
		},
	}
}

# METADATA
# title: Data that is not open needs a rule sheet
# custom:
#   legal_ground: MFIPPA (R.S.O. 1990, c. M.56), s. 32 (disclosure only where permitted)
deny contains reason if {
	input.action in {"propose", "receive"}
	input.dataset.classification in {"internal", "personal", "sensitive"}
	not sheet.present
	reason := {
		"code": "no_rule_sheet",
		"title": {
			"en": "The privacy officer has not yet written rules for this dataset, so it goes to nobody.",
			"fr": "La personne responsable de la vie privée n'a pas encore établi de règles pour ce jeu de données; il n'est remis à personne.",
		},
		"rule": {
			"title": "Data that is not open needs a rule sheet",
			"file": "checks/purpose/purpose.rego",
			"line": 36,
			"legal_ground": "MFIPPA (R.S.O. 1990, c. M.56), s. 32 (disclosure only where permitted)",
		},
	}
}

# METADATA
# title: A purpose that no rule covers is refused
# custom:
#   legal_ground: MFIPPA (R.S.O. 1990, c. M.56), ss. 31 to 33 (use and disclosure for a purpose)
deny contains reason if {
	input.action in {"propose", "receive"}
	sheet.present
	input.purpose != null
	count(sheet.for_purpose) == 0
	reason := {
		"code": "purpose_not_covered",
		"title": {
			"en": "The rules of this dataset do not allow this purpose.",
			"fr": "Les règles de ce jeu de données ne permettent pas cette fin.",
		},
		"rule": {
			"title": "A purpose that no rule covers is refused",
			"file": "checks/purpose/purpose.rego",
			"line": 59,
			"legal_ground": "MFIPPA (R.S.O. 1990, c. M.56), ss. 31 to 33 (use and disclosure for a purpose)",
		},
	}
}

# METADATA
# title: A recipient that no rule covers is refused
# custom:
#   legal_ground: MFIPPA (R.S.O. 1990, c. M.56), s. 32 (disclosure only where permitted)
deny contains reason if {
	input.action in {"propose", "receive"}
	count(sheet.for_purpose) > 0
	count(sheet.covering) == 0
	reason := {
		"code": "recipient_not_covered",
		"title": {
			"en": "The rules of this dataset allow this purpose, but not to your organization.",
			"fr": "Les règles de ce jeu de données permettent cette fin, mais pas à votre organisme.",
		},
		"rule": {
			"title": "A recipient that no rule covers is refused",
			"file": "checks/purpose/purpose.rego",
			"line": 83,
			"legal_ground": "MFIPPA (R.S.O. 1990, c. M.56), s. 32 (disclosure only where permitted)",
		},
	}
}

# METADATA
# title: Open data without a sheet goes to everyone
# custom:
#   legal_ground: Licence of the dataset
grounds contains reason if {
	input.action in {"propose", "receive"}
	open_without_sheet
	reason := {
		"code": "open_data",
		"title": {
			"en": "This dataset is open to everyone under its licence.",
			"fr": "Ce jeu de données est ouvert à tous, selon sa licence.",
		},
		"rule": {
			"title": "Open data without a sheet goes to everyone",
			"file": "checks/purpose/purpose.rego",
			"line": 106,
			"legal_ground": "Licence of the dataset",
		},
	}
}

# METADATA
# title: The first rule that covers purpose and recipient decides
# description: The legal ground is that of the rule in the sheet; `sheet_rule` says which, as file and JSON Pointer.
# custom:
#   legal_ground: The one that the rule sheet states
grounds contains reason if {
	input.action in {"propose", "receive"}
	reason := {
		"code": "allowed_by_rule_sheet",
		"title": {
			"en": "A rule of this dataset allows this purpose to your organization.",
			"fr": "Une règle de ce jeu de données permet cette fin à votre organisme.",
		},
		"rule": {
			"title": "The first rule that covers purpose and recipient decides",
			"file": "checks/purpose/purpose.rego",
			"line": 129,
			"legal_ground": sprintf("%s: %s", [sheet.legal_ground, sheet.legal_reference]),
			"sheet_rule": sprintf("rules/%s.json#/rules/%d", [input.dataset.slug, sheet.first]),
		},
	}
}

# METADATA
# title: A contract has a purpose, and a sheet asks for one
purpose_needed if input.contract != null

purpose_needed if sheet.present

# METADATA
# title: The dataset is open and has no sheet
open_without_sheet if {
	input.dataset.classification == "open"
	not sheet.present
}

# METADATA
# title: The purpose is covered, or the data is open
proven if input.action == "publish"

proven if {
	input.action == "receive"
	input.contract == null
	open_without_sheet
}

proven if {
	input.action in {"propose", "receive"}
	input.purpose.code == input.contract.purpose
	open_without_sheet
}

proven if {
	input.action in {"propose", "receive"}
	is_object(sheet.permit)
}

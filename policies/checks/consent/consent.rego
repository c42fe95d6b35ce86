# METADATA
# title: Consent, or another ground
# custom:
#   legal_ground: MFIPPA (R.S.O. 1990, c. M.56), s. 32 (disclosure only where permitted)
package exchange.checks.consent

import data.exchange.sheet

# METADATA
# title: Where consent is required, only events of people who gave it pass
# custom:
#   legal_ground: MFIPPA (R.S.O. 1990, c. M.56), s. 32 (b) (disclosure with consent)
obligations contains {"kind": "consent_filter", "purpose": input.purpose.code, "standing": "enforced"} if {
	input.action in {"propose", "receive"}
	sheet.permit.consent == "required"
}

# METADATA
# title: Where people may opt out, events of those who have done so do not pass
# custom:
#   legal_ground: MFIPPA (R.S.O. 1990, c. M.56), s. 32 (disclosure only where permitted)
obligations contains {"kind": "opt_out_filter", "purpose": input.purpose.code, "standing": "enforced"} if {
	input.action in {"propose", "receive"}
	sheet.permit.consent == "opt_out"
}

# METADATA
# title: Consent can only be asked of people whom the events name
# custom:
#   legal_ground: MFIPPA (R.S.O. 1990, c. M.56), s. 32 (b) (disclosure with consent)
deny contains reason if {
	input.action in {"propose", "receive"}
	sheet.permit.consent in {"required", "opt_out"}
	input.dataset.has_subject == false
	reason := {
		"code": "consent_needs_subject",
		"title": {
			"en": "The rule depends on what people say, but the events of this dataset do not say whom they are about.",
			"fr": "La règle dépend de ce que disent les personnes, mais les événements de ce jeu de données ne disent pas qui ils concernent.",
		},
		"rule": {
			"title": "Consent can only be asked of people whom the events name",
			"file": "checks/consent/consent.rego",
			"line": 31,
			"legal_ground": "MFIPPA (R.S.O. 1990, c. M.56), s. 32 (b) (disclosure with consent)",
		},
	}
}

# METADATA
# title: Personal data without consent needs another ground
# custom:
#   legal_ground: MFIPPA (R.S.O. 1990, c. M.56), s. 32 (disclosure only where permitted)
deny contains reason if {
	input.action in {"propose", "receive"}
	input.dataset.classification in {"personal", "sensitive"}
	is_object(sheet.permit)
	not asks_consent
	not other_ground
	not opt_out
	reason := {
		"code": "no_ground_without_consent",
		"title": {
			"en": "The rule would share personal data without consent and states no other legal ground.",
			"fr": "La règle communiquerait des données personnelles sans consentement et n'énonce aucun autre fondement juridique.",
		},
		"rule": {
			"title": "Personal data without consent needs another ground",
			"file": "checks/consent/consent.rego",
			"line": 54,
			"legal_ground": "MFIPPA (R.S.O. 1990, c. M.56), s. 32 (disclosure only where permitted)",
		},
	}
}

# METADATA
# title: The rule asks for consent
asks_consent if sheet.permit.consent == "required"

# METADATA
# title: The rule states a ground that needs no consent
other_ground if {
	sheet.permit.consent == "not_required"
	sheet.legal_ground in {"statute", "public_interest", "public_record"}
}

# METADATA
# title: The rule lets people opt out, and rests on the notice that says so
opt_out if {
	sheet.permit.consent == "opt_out"
	sheet.legal_ground == "notice_with_opt_out"
}

# METADATA
# title: Consent is asked for, or is not needed
proven if input.action == "publish"

proven if {
	input.action in {"propose", "receive"}
	input.dataset.classification == "open"
	not sheet.present
}

proven if {
	input.action in {"propose", "receive"}
	asks_consent
	input.dataset.has_subject == true
}

proven if {
	input.action in {"propose", "receive"}
	input.dataset.classification in {"open", "internal"}
	sheet.permit.consent == "not_required"
}

proven if {
	input.action in {"propose", "receive"}
	input.dataset.classification in {"personal", "sensitive"}
	other_ground
}

proven if {
	input.action in {"propose", "receive"}
	opt_out
	input.dataset.has_subject == true
}

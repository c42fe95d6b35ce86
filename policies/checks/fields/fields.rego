# METADATA
# title: Which fields pass and how, by the rule sheet
# custom:
#   legal_ground: MFIPPA (R.S.O. 1990, c. M.56), s. 32; the rule sheet of the dataset names each field
package exchange.checks.fields

import data.exchange.sheet

# METADATA
# title: The obligations of the rule that decides
obligations contains obligation if {
	input.action in {"propose", "receive"}
	some obligation in (((fields | rows) | limits) | promises)
}

# METADATA
# title: A field passes as it is
fields contains {"kind": "keep", "pointer": pointer, "standing": "enforced"} if {
	some pointer, how in sheet.permit.keep
	how == "as_is"
}

# METADATA
# title: A person becomes a pseudonym that holds for the contract's life
fields contains {"kind": "pseudonymise", "pointer": pointer, "period": null, "standing": "enforced"} if {
	some pointer, how in sheet.permit.keep
	how == "pseudonymise"
}

# METADATA
# title: A person becomes a pseudonym that changes with each period
fields contains {"kind": "pseudonymise", "pointer": pointer, "period": how.pseudonymise, "standing": "enforced"} if {
	some pointer, how in sheet.permit.keep
	is_object(how)
	is_string(how.pseudonymise)
}

# METADATA
# title: An instant is rounded down to its bucket
fields contains {"kind": "time_bucket", "pointer": pointer, "period": how.time_bucket, "standing": "enforced"} if {
	some pointer, how in sheet.permit.keep
	is_object(how)
	is_string(how.time_bucket)
}

# METADATA
# title: A number is rounded down to a multiple
fields contains {"kind": "generalise", "pointer": pointer, "step": how.generalise, "standing": "enforced"} if {
	some pointer, how in sheet.permit.keep
	is_object(how)
	is_number(how.generalise)
	how.generalise > 0
}

# METADATA
# title: Of a text only its last characters are legible
fields contains {"kind": "mask", "pointer": pointer, "keep_last": how.mask, "standing": "enforced"} if {
	some pointer, how in sheet.permit.keep
	is_object(how)
	is_number(how.mask)
	how.mask >= 0
}

# METADATA
# title: A field is left out
fields contains {"kind": "drop", "pointer": pointer, "standing": "enforced"} if {
	some pointer in sheet.permit.drop
	is_string(pointer)
}

# METADATA
# title: Only events with one of these values pass
rows contains {"kind": "row_filter", "pointer": pointer, "values": values, "standing": "enforced"} if {
	some pointer, values in sheet.permit.rows
	is_array(values)
}

# METADATA
# title: Only so many events pass in a time
limits contains {"kind": "rate_limit", "events": limit.events, "per": limit.per, "standing": "enforced"} if {
	limit := sheet.permit.rate_limit
	is_number(limit.events)
	is_string(limit.per)
}

# METADATA
# title: The recipient promises to delete the data after a time
# custom:
#   legal_ground: MFIPPA (R.S.O. 1990, c. M.56), s. 30 (retention)
promises contains {"kind": "retain", "period": sheet.permit.retain, "standing": "promised"} if {
	is_string(sheet.permit.retain)
}

# METADATA
# title: The recipient promises to name the source
promises contains {"kind": "attribution", "text": sheet.permit.attribution, "standing": "promised"} if {
	is_string(sheet.permit.attribution)
}

# METADATA
# title: The recipient promises not to pass the data on, unless the rule says that it may
promises contains {"kind": "no_onward_transfer", "standing": "promised"} if {
	is_object(sheet.permit)
	not onward_transfer_allowed
}

# METADATA
# title: The rule says that the data may be passed on
onward_transfer_allowed if sheet.permit.onward_transfer == true

# METADATA
# title: Of personal data only fields that the rule names pass
# custom:
#   legal_ground: MFIPPA (R.S.O. 1990, c. M.56), s. 32 (disclosure only where permitted)
deny contains reason if {
	input.action in {"propose", "receive"}
	input.dataset.classification in {"personal", "sensitive"}
	is_object(sheet.permit)
	count(object.get(sheet.permit, "keep", {})) == 0
	reason := {
		"code": "nothing_kept",
		"title": {
			"en": "The rule names no field that may pass, and of personal data only named fields do.",
			"fr": "La règle ne nomme aucun champ transmissible, et seuls les champs nommés de données personnelles le sont.",
		},
		"rule": {
			"title": "Of personal data only fields that the rule names pass",
			"file": "checks/fields/fields.rego",
			"line": 115,
			"legal_ground": "MFIPPA (R.S.O. 1990, c. M.56), s. 32 (disclosure only where permitted)",
		},
	}
}

# METADATA
# title: A rule that cannot be carried out word for word is not carried out at all
# custom:
#   legal_ground: Policy of the exchange, no release on incomplete facts
deny contains reason if {
	input.action in {"propose", "receive"}
	is_object(sheet.permit)
	not readable
	reason := {
		"code": "rule_sheet_unreadable",
		"title": {
			"en": "The rule of this dataset says something that the exchange does not understand.",
			"fr": "La règle de ce jeu de données contient un élément que la plateforme ne comprend pas.",
		},
		"rule": {
			"title": "A rule that cannot be carried out word for word is not carried out at all",
			"file": "checks/fields/fields.rego",
			"line": 139,
			"legal_ground": "Policy of the exchange, no release on incomplete facts",
		},
	}
}

# METADATA
# title: The members of a rule
members := {
	"assessment",
	"attribution",
	"consent",
	"drop",
	"keep",
	"legal_ground",
	"legal_reference",
	"onward_transfer",
	"purposes",
	"rate_limit",
	"recipients",
	"retain",
	"rows",
}

# METADATA
# title: Each part of the rule has become an obligation
readable if {
	count(object.keys(sheet.permit) - members) == 0
	count(fields) == count(object.get(sheet.permit, "keep", {})) + count(object.get(sheet.permit, "drop", []))
	count(rows) == count(object.get(sheet.permit, "rows", {}))
	count(limits) == count([1 | some name in object.keys(sheet.permit); name == "rate_limit"])
	stated := {"retain", "attribution"} & object.keys(sheet.permit)
	count([1 | some promise in promises; promise.kind in {"retain", "attribution"}]) == count(stated)
	is_boolean(object.get(sheet.permit, "onward_transfer", false))
}

# METADATA
# title: The fields are named, or the data is open and has no sheet
proven if input.action == "publish"

proven if {
	input.action in {"propose", "receive"}
	input.dataset.classification == "open"
	not sheet.present
}

proven if {
	input.action in {"propose", "receive"}
	input.dataset.classification in {"open", "internal"}
	readable
}

proven if {
	input.action in {"propose", "receive"}
	readable
	count(sheet.permit.keep) > 0
}

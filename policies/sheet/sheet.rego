# METADATA
# title: The rule sheet of the dataset
# description: |
#   Which rule of the sheet speaks about this purpose and this recipient. Rules are ordered: the first that covers both
#   decides alone, so that two rules are never mixed.
# custom:
#   legal_ground: The rule sheet of the dataset, which names its own
package exchange.sheet

# METADATA
# title: The sheet of the dataset, if it has one
sheet := data.exchange.rules[input.dataset.slug]

# METADATA
# title: Whether the dataset has a sheet
present if is_object(sheet)

# METADATA
# title: The purpose and those that contain it
# description: A rule for a purpose covers its narrower ones, never its broader ones.
purposes contains input.purpose.code

purposes contains code if {
	is_array(input.purpose.broader)
	some code in input.purpose.broader
}

# METADATA
# title: The words of a sheet that mean this recipient
recipients contains "anyone"

recipients contains "approved_organizations" if {
	input.organization.standing == "approved"
}

recipients contains input.organization.kind if {
	input.organization.standing == "approved"
}

recipients contains input.organization.id if {
	input.organization.standing == "approved"
}

# METADATA
# title: The rules, by place in the sheet, that cover the purpose
for_purpose contains place if {
	some place, candidate in sheet.rules
	some code in candidate.purposes
	code in purposes
}

# METADATA
# title: The rules, by place in the sheet, that cover the recipient
for_recipient contains place if {
	some place, candidate in sheet.rules
	some word in candidate.recipients
	word in recipients
}

# METADATA
# title: The rules that cover both
covering := for_purpose & for_recipient

# METADATA
# title: The place of the rule that decides
first := min(covering) if {
	count(covering) > 0
}

# METADATA
# title: The rule that decides
permit := sheet.rules[first]

# METADATA
# title: The legal ground of the rule, or else of its sheet
legal_ground := object.get(permit, "legal_ground", sheet.legal_ground)

# METADATA
# title: Where that ground is written
legal_reference := object.get(permit, "legal_reference", sheet.legal_reference)

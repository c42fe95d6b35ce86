package exchange.sheet_test

import data.exchange.samples_test as samples
import data.exchange.sheet

test_the_first_rule_that_covers_purpose_and_recipient_decides if {
	sheet.first == 1 with input as samples.receive with data.exchange.rules as samples.sheets
}

test_a_rule_for_one_organization_comes_before_the_rule_for_all if {
	facts := samples.changed(samples.receive, {"organization": {"id": "org_7"}})
	sheet.first == 0 with input as facts with data.exchange.rules as samples.sheets
}

test_a_rule_covers_narrower_purposes if {
	1 in sheet.for_purpose with input as samples.receive with data.exchange.rules as samples.sheets
}

test_a_rule_never_covers_broader_purposes if {
	facts := samples.changed(samples.receive, {"purpose": {"code": "city-operations", "broader": []}})
	count(sheet.for_purpose) == 0 with input as facts
		with data.exchange.rules as samples.sheet_of({"purposes": ["transit-planning"]})
}

test_a_kind_of_organization_is_a_recipient if {
	facts := samples.changed(samples.receive, {
		"organization": {"kind": "department"},
		"purpose": {"code": "official-statistics", "broader": []},
	})
	sheet.first == 2 with input as facts with data.exchange.rules as samples.sheets
}

test_an_organization_that_is_not_approved_is_only_anyone if {
	facts := samples.changed(samples.receive, {"organization": {"standing": "suspended"}})
	sheet.recipients == {"anyone"} with input as facts
}

test_a_rule_may_state_a_ground_of_its_own if {
	facts := samples.changed(samples.receive, {
		"organization": {"kind": "department"},
		"purpose": {"code": "official-statistics", "broader": []},
	})
	sheet.legal_ground == "statute" with input as facts with data.exchange.rules as samples.sheets
	sheet.legal_reference == "s. 32 (e)" with input as facts with data.exchange.rules as samples.sheets
}

test_a_rule_without_a_ground_rests_on_that_of_the_sheet if {
	sheet.legal_ground == "consent" with input as samples.receive with data.exchange.rules as samples.sheets
	sheet.legal_reference == "s. 32 (b)" with input as samples.receive with data.exchange.rules as samples.sheets
}

test_a_dataset_without_a_sheet_has_none if {
	not sheet.present with input as samples.receive with data.exchange.rules as {}
}

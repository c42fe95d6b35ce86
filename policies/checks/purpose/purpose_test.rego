package exchange.checks.purpose_test

import data.exchange.checks.purpose
import data.exchange.samples_test as samples

refused(facts, sheets, code) if {
	samples.codes(purpose.deny) == {code} with input as facts with data.exchange.rules as sheets
	not purpose.proven with input as facts with data.exchange.rules as sheets
	count(purpose.grounds) == 0 with input as facts with data.exchange.rules as sheets
}

allowed(facts, sheets, code) if {
	count(purpose.deny) == 0 with input as facts with data.exchange.rules as sheets
	purpose.proven with input as facts with data.exchange.rules as sheets
	samples.codes(purpose.grounds) == {code} with input as facts with data.exchange.rules as sheets
}

test_a_covered_purpose_is_allowed_by_its_rule if {
	allowed(samples.receive, samples.sheets, "allowed_by_rule_sheet")
	allowed(samples.propose, samples.sheets, "allowed_by_rule_sheet")
}

test_the_reason_names_the_rule_of_the_sheet_and_its_ground if {
	some reason in purpose.grounds with input as samples.receive with data.exchange.rules as samples.sheets
	reason.rule.sheet_rule == "rules/footfall.json#/rules/1"
	reason.rule.legal_ground == "consent: s. 32 (b)"
}

test_publishing_asks_for_no_purpose if {
	count(purpose.deny) == 0 with input as samples.publish with data.exchange.rules as samples.sheets
	purpose.proven with input as samples.publish with data.exchange.rules as samples.sheets
}

test_a_purpose_that_no_rule_covers_is_refused if {
	facts := samples.changed(samples.propose, {"purpose": {"code": "advertising", "broader": []}})
	refused(facts, samples.sheets, "purpose_not_covered")
}

test_a_recipient_that_no_rule_covers_is_refused if {
	facts := samples.changed(samples.propose, {"purpose": {"code": "official-statistics", "broader": []}})
	refused(facts, samples.sheets, "recipient_not_covered")
}

test_a_contract_without_a_purpose_is_refused if {
	refused(samples.changed(samples.receive, {"purpose": null}), samples.sheets, "purpose_missing")
}

test_open_data_with_a_sheet_asks_for_a_purpose if {
	facts := samples.changed(samples.anonymous, {"dataset": {"slug": "footfall"}})
	refused(facts, samples.sheets, "purpose_missing")
}

test_data_that_is_not_open_needs_a_sheet if {
	every name in ["internal", "personal", "sensitive"] {
		refused(samples.changed(samples.receive, {"dataset": {"classification": name}}), {}, "no_rule_sheet")
	}
}

test_open_data_without_a_sheet_goes_to_everyone if {
	allowed(samples.anonymous, samples.sheets, "open_data")
}

test_open_data_under_a_contract_has_a_purpose if {
	facts := samples.changed(samples.receive, {"dataset": {"slug": "stops", "classification": "open"}})
	allowed(facts, samples.sheets, "open_data")
}

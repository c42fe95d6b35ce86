package exchange.checks.fields_test

import data.exchange.checks.fields
import data.exchange.samples_test as samples

refused(facts, sheets, code) if {
	samples.codes(fields.deny) == {code} with input as facts with data.exchange.rules as sheets
	not fields.proven with input as facts with data.exchange.rules as sheets
}

allowed(facts, sheets) if {
	count(fields.deny) == 0 with input as facts with data.exchange.rules as sheets
	fields.proven with input as facts with data.exchange.rules as sheets
}

without_people := samples.changed(samples.receive, {"dataset": {"classification": "internal"}})

test_each_part_of_a_rule_becomes_an_obligation if {
	allowed(samples.receive, samples.sheets)
	expected := {
		{"kind": "keep", "pointer": "/zone", "standing": "enforced"},
		{"kind": "pseudonymise", "pointer": "/visitor", "period": null, "standing": "enforced"},
		{"kind": "time_bucket", "pointer": "/at", "period": "PT15M", "standing": "enforced"},
		{"kind": "generalise", "pointer": "/dwell", "step": 10, "standing": "enforced"},
		{"kind": "mask", "pointer": "/card", "keep_last": 4, "standing": "enforced"},
		{"kind": "row_filter", "pointer": "/zone", "values": ["north", "south"], "standing": "enforced"},
		{"kind": "rate_limit", "events": 1000, "per": "PT1S", "standing": "enforced"},
		{"kind": "retain", "period": "P90D", "standing": "promised"},
		{"kind": "attribution", "text": "City of Mississauga", "standing": "promised"},
	}
	fields.obligations == expected with input as samples.receive with data.exchange.rules as samples.sheets
}

test_a_pseudonym_may_change_with_each_period if {
	terms := samples.sheet_of({"keep": {"/visitor": {"pseudonymise": "P30D"}}})
	allowed(samples.receive, terms)
	expected := {"kind": "pseudonymise", "pointer": "/visitor", "period": "P30D", "standing": "enforced"}
	expected in fields.obligations with input as samples.receive with data.exchange.rules as terms
}

test_data_is_not_passed_on_unless_the_rule_says_so if {
	promise := {"kind": "no_onward_transfer", "standing": "promised"}
	promise in fields.obligations with input as samples.receive with data.exchange.rules as samples.sheet_of({})
	promise in fields.obligations with input as samples.receive
		with data.exchange.rules as samples.sheet_of({"onward_transfer": false})
	not promise in fields.obligations with input as samples.receive
		with data.exchange.rules as samples.sheet_of({"onward_transfer": true})
}

test_publishing_has_no_obligations if {
	allowed(samples.publish, samples.sheets)
	count(fields.obligations) == 0 with input as samples.publish with data.exchange.rules as samples.sheets
}

test_open_data_without_a_sheet_has_no_obligations if {
	allowed(samples.anonymous, samples.sheets)
	count(fields.obligations) == 0 with input as samples.anonymous with data.exchange.rules as samples.sheets
}

dropping := {"footfall": {
	"dataset": "footfall",
	"legal_ground": "agreement",
	"legal_reference": "s. 1",
	"default": "deny",
	"rules": [{
		"purposes": ["transit-planning"],
		"recipients": ["anyone"],
		"consent": "not_required",
		"drop": ["/note"],
	}],
}}

test_internal_data_may_pass_but_for_some_fields if {
	allowed(without_people, dropping)
	expected := {"kind": "drop", "pointer": "/note", "standing": "enforced"}
	expected in fields.obligations with input as without_people with data.exchange.rules as dropping
}

test_of_personal_data_only_named_fields_pass if {
	refused(samples.receive, dropping, "nothing_kept")
}

test_a_rule_that_is_not_understood_is_refused if {
	every terms in [
		{"keep": {"/zone": "blur"}},
		{"keep": {"/zone": {"blur": 3}}},
		{"keep": {"/zone": {"generalise": "10"}}},
		{"keep": {"/zone": {"generalise": 0}}},
		{"keep": {"/zone": {"mask": -1}}},
		{"keep": {"/zone": {"mask": 1, "time_bucket": "PT1M"}}},
		{"drop": [7]},
		{"rows": {"/zone": "north"}},
		{"rate_limit": {"events": 10}},
		{"rate_limit": {"events": "10", "per": "PT1S"}},
		{"retain": 90},
		{"attribution": null},
		{"onward_transfer": "no"},
		{"suppress_below": 5},
	] {
		refused(samples.receive, samples.sheet_of(terms), "rule_sheet_unreadable")
		refused(without_people, samples.sheet_of(terms), "rule_sheet_unreadable")
	}
}

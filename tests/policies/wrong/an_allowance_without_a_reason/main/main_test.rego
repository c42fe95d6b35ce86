package exchange.main_test

import data.exchange.main
import data.exchange.samples_test as samples

test_a_consumer_in_good_standing_receives_what_its_rule_says if {
	answer := main.decision with input as samples.receive with data.exchange.rules as samples.sheets
	answer.allow == true
	{obligation.kind | some obligation in answer.obligations} == {
		"attribution",
		"consent_filter",
		"generalise",
		"keep",
		"mask",
		"pseudonymise",
		"rate_limit",
		"retain",
		"row_filter",
		"time_bucket",
	}
}

test_what_a_contract_allows_ends_with_the_contract if {
	answer := main.decision with input as samples.receive with data.exchange.rules as samples.sheets
	answer.until == "2027-11-01T00:00:00Z"
}

test_a_consumer_in_good_standing_may_propose if {
	answer := main.decision with input as samples.propose with data.exchange.rules as samples.sheets
	answer.allow == true
}

test_an_owner_publishes_without_obligations if {
	answer := main.decision with input as samples.publish with data.exchange.rules as samples.sheets
	answer.allow == true
	answer.obligations == []
	answer.until == null
}

test_anybody_reads_open_data_whole if {
	answer := main.decision with input as samples.anonymous with data.exchange.rules as samples.sheets
	answer.allow == true
	answer.obligations == []
}

test_a_refusal_names_every_reason_and_no_obligation if {
	facts := samples.changed(samples.receive, {"dataset": {"retired": true}, "client": {"strong": false}})
	answer := main.decision with input as facts with data.exchange.rules as samples.sheets
	answer.allow == false
	answer.obligations == []
	samples.codes(answer.reasons) == {"dataset_retired", "strong_client_required"}
}

test_a_refusal_before_the_contract_begins_ends_when_it_begins if {
	facts := samples.changed(samples.receive, {"at": "2026-10-31T23:59:59Z"})
	answer := main.decision with input as facts with data.exchange.rules as samples.sheets
	answer.allow == false
	answer.until == "2026-11-01T00:00:00Z"
}

test_a_refusal_that_time_does_not_change_has_no_end if {
	facts := samples.changed(samples.receive, {"contract": {"state": "ended"}})
	answer := main.decision with input as facts with data.exchange.rules as samples.sheets
	answer.allow == false
	answer.until == null
}

test_a_check_that_proves_nothing_denies_though_it_finds_nothing_wrong if {
	answer := main.decision with input as samples.receive
		with data.exchange.rules as samples.sheets
		with data.exchange.checks.purpose.proven as false
	answer.allow == false
	samples.codes(answer.reasons) == {"not_proven"}
}

test_a_check_that_is_taken_away_denies if {
	answer := main.decision with input as samples.receive with data.exchange.checks as {}
	answer.allow == false
	samples.codes(answer.reasons) == {"not_proven"}
}

test_a_check_that_nobody_named_denies_too if {
	answer := main.decision with input as samples.receive
		with data.exchange.rules as samples.sheets
		with data.exchange.checks.weather.deny as {{"code": "it_rains"}}
	answer.allow == false
	samples.codes(answer.reasons) == {"it_rains"}
}

test_no_facts_at_all_are_refused if {
	answer := main.decision with input as {}
	answer.allow == false
	"facts_incomplete" in samples.codes(answer.reasons)
}

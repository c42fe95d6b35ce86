package exchange.checks.contract_test

import data.exchange.checks.contract
import data.exchange.samples_test as samples

refused(facts, code) if {
	samples.codes(contract.deny) == {code} with input as facts
	not contract.proven with input as facts
}

allowed(facts) if {
	count(contract.deny) == 0 with input as facts
	contract.proven with input as facts
}

test_an_active_contract_between_these_two_is_not_refused if {
	every given in [samples.receive, samples.propose, samples.publish, samples.anonymous] {
		allowed(given)
	}
}

test_a_contract_that_is_not_active_is_refused if {
	every state in ["proposed", "suspended", "ended"] {
		refused(samples.changed(samples.receive, {"contract": {"state": state}}), "contract_not_active")
	}
}

test_a_contract_begins_in_its_first_second if {
	refused(samples.changed(samples.receive, {"at": "2026-10-31T23:59:59Z"}), "contract_not_yet_valid")
	allowed(samples.changed(samples.receive, {"at": "2026-11-01T00:00:00Z"}))
}

test_a_contract_is_over_when_its_term_is_reached if {
	allowed(samples.changed(samples.receive, {"at": "2027-10-31T23:59:59Z"}))
	refused(samples.changed(samples.receive, {"at": "2027-11-01T00:00:00Z"}), "contract_expired")
}

test_a_contract_that_begins_later_may_be_proposed if {
	allowed(samples.changed(samples.propose, {"contract": {"valid_from": "2027-01-01T00:00:00Z"}}))
}

test_a_contract_that_is_over_is_not_proposed if {
	refused(samples.changed(samples.propose, {"contract": {"valid_until": "2026-11-23T12:00:00Z"}}), "contract_expired")
}

test_a_contract_of_others_is_refused if {
	every given in [samples.receive, samples.propose] {
		refused(samples.changed(given, {"contract": {"consumer": "org_5"}}), "contract_of_another_organization")
		refused(samples.changed(given, {"contract": {"provider": "org_5"}}), "contract_of_another_organization")
	}
}

test_personal_data_needs_a_token_that_names_the_contract if {
	refused(samples.changed(samples.receive, {"client": {"contracts": []}}), "contract_not_named_in_token")
}

test_internal_data_does_not_need_a_token_that_names_the_contract if {
	allowed(samples.changed(samples.receive, {"client": {"contracts": []}, "dataset": {"classification": "internal"}}))
}

test_a_token_that_names_another_contract_does_not_read_this_one if {
	every name in ["open", "internal", "personal", "sensitive"] {
		refused(
			samples.changed(samples.receive, {"client": {"contracts": ["con_9"]}, "dataset": {"classification": name}}),
			"contract_not_named_in_token",
		)
	}
}

package exchange.checks.classification_test

import data.exchange.checks.classification
import data.exchange.samples_test as samples

refused(facts, code) if {
	samples.codes(classification.deny) == {code} with input as facts
	not classification.proven with input as facts
}

allowed(facts) if {
	count(classification.deny) == 0 with input as facts
	classification.proven with input as facts
}

test_open_data_is_read_by_anybody if allowed(samples.anonymous)

test_an_owner_publishes_whatever_the_classification if {
	every name in ["open", "internal", "personal", "sensitive"] {
		allowed(samples.changed(samples.publish, {"dataset": {"classification": name}, "client": {"strong": false}}))
	}
}

test_other_data_is_read_under_a_contract_only if {
	every name in ["internal", "personal", "sensitive"] {
		refused(samples.changed(samples.anonymous, {"dataset": {"classification": name}}), "contract_missing")
	}
}

test_personal_data_goes_only_to_a_strong_client if {
	every name in ["personal", "sensitive"] {
		every given in [samples.receive, samples.propose] {
			allowed(samples.changed(given, {"dataset": {"classification": name}}))
			refused(
				samples.changed(given, {"dataset": {"classification": name}, "client": {"strong": false}}),
				"strong_client_required",
			)
		}
	}
}

test_other_data_goes_to_a_client_with_a_secret_too if {
	every name in ["open", "internal"] {
		every given in [samples.receive, samples.propose] {
			allowed(samples.changed(given, {"dataset": {"classification": name}, "client": {"strong": false}}))
		}
	}
}

package exchange.checks.dataset_test

import data.exchange.checks.dataset
import data.exchange.samples_test as samples

test_a_dataset_in_use_is_not_refused if {
	every given in [samples.receive, samples.propose, samples.publish, samples.anonymous] {
		count(dataset.deny) == 0 with input as given
		dataset.proven with input as given
	}
}

test_a_retired_dataset_is_refused_for_everything if {
	every given in [samples.receive, samples.propose, samples.publish, samples.anonymous] {
		facts := samples.changed(given, {"dataset": {"retired": true}})
		samples.codes(dataset.deny) == {"dataset_retired"} with input as facts
		not dataset.proven with input as facts
	}
}

test_a_dataset_without_licence_is_not_shared if {
	every given in [samples.receive, samples.propose, samples.anonymous] {
		facts := samples.changed(given, {"dataset": {"licence_revoked": true}})
		samples.codes(dataset.deny) == {"licence_revoked"} with input as facts
		not dataset.proven with input as facts
	}
}

test_a_dataset_without_licence_may_still_be_published_to if {
	facts := samples.changed(samples.publish, {"dataset": {"licence_revoked": true}})
	count(dataset.deny) == 0 with input as facts
	dataset.proven with input as facts
}

package exchange.checks.organization_test

import data.exchange.checks.organization
import data.exchange.samples_test as samples

refused(facts, code) if {
	samples.codes(organization.deny) == {code} with input as facts
	not organization.proven with input as facts
}

test_parties_in_good_standing_are_not_refused if {
	every given in [samples.receive, samples.propose, samples.publish, samples.anonymous] {
		count(organization.deny) == 0 with input as given
		organization.proven with input as given
	}
}

test_a_client_that_is_not_active_is_refused if {
	every given in [samples.receive, samples.propose, samples.publish] {
		refused(samples.changed(given, {"client": {"standing": "pending"}}), "client_not_active")
		refused(samples.changed(given, {"client": {"standing": "revoked"}}), "client_not_active")
	}
}

test_an_organization_that_is_not_approved_is_refused if {
	every given in [samples.receive, samples.propose, samples.publish] {
		refused(samples.changed(given, {"organization": {"standing": "pending"}}), "organization_not_approved")
		refused(samples.changed(given, {"organization": {"standing": "suspended"}}), "organization_not_approved")
	}
}

test_data_of_a_provider_that_is_not_approved_is_refused if {
	every given in [samples.receive, samples.propose, samples.publish, samples.anonymous] {
		refused(samples.changed(given, {"dataset": {"owner_standing": "suspended"}}), "provider_not_approved")
	}
}

test_only_the_owner_publishes if {
	refused(samples.changed(samples.publish, {"dataset": {"owner": "org_5"}}), "not_the_owner")
}

test_the_owner_publishes_because_it_owns if {
	samples.codes(organization.grounds) == {"owner_publishes"} with input as samples.publish
	count(organization.grounds) == 0 with input as samples.receive
}

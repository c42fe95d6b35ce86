package exchange.checks.facts_test

import data.exchange.checks.facts
import data.exchange.samples_test as samples

refused(input_facts) if {
	samples.codes(facts.deny) == {"facts_incomplete"} with input as input_facts
}

refused_with(members) if refused(samples.changed(samples.receive, members))

test_complete_facts_are_not_refused if {
	every given in [samples.receive, samples.propose, samples.publish, samples.anonymous] {
		count(facts.deny) == 0 with input as given
		facts.proven with input as given
	}
}

test_each_fact_is_needed if {
	every name in ["action", "at", "client", "organization", "dataset", "purpose", "contract"] {
		refused(object.remove(samples.receive, [name]))
	}
}

test_each_member_of_the_dataset_is_needed if {
	every name in object.keys(samples.receive.dataset) {
		refused(object.union(
			object.remove(samples.receive, ["dataset"]),
			{"dataset": object.remove(samples.receive.dataset, [name])},
		))
	}
}

test_each_member_of_the_client_is_needed if {
	every name in object.keys(samples.receive.client) {
		refused(object.union(
			object.remove(samples.receive, ["client"]),
			{"client": object.remove(samples.receive.client, [name])},
		))
	}
}

test_each_member_of_the_contract_is_needed if {
	every name in (object.keys(samples.receive.contract) - {"taken_up_offer"}) {
		refused(object.union(
			object.remove(samples.receive, ["contract"]),
			{"contract": object.remove(samples.receive.contract, [name])},
		))
	}
}

test_a_fact_of_the_wrong_type_is_refused if {
	every members in [
		{"action": "erase"},
		{"action": 1},
		{"at": "2026-11-23"},
		{"at": "2026-11-23T12:00:00.5Z"},
		{"at": "2026-11-23T13:00:00+01:00"},
		{"at": 1795435200},
		{"dataset": null},
		{"dataset": {"slug": ""}},
		{"dataset": {"slug": 7}},
		{"dataset": {"owner": null}},
		{"dataset": {"owner_standing": "unknown"}},
		{"dataset": {"classification": "secret"}},
		{"dataset": {"licence_revoked": "false"}},
		{"dataset": {"has_subject": 1}},
		{"dataset": {"retired": null}},
		{"client": "cli_1"},
		{"client": {"id": ""}},
		{"client": {"standing": "unknown"}},
		{"client": {"strong": "true"}},
		{"client": {"roles": "operator"}},
		{"client": {"contracts": [1]}},
		{"organization": {"id": 2}},
		{"organization": {"kind": "city"}},
		{"organization": {"standing": "unknown"}},
		{"purpose": "transit-planning"},
		{"purpose": {"code": ""}},
		{"purpose": {"broader": [null]}},
		{"contract": {"id": null}},
		{"contract": {"state": "draft"}},
		{"contract": {"provider": ""}},
		{"contract": {"consumer": 1}},
		{"contract": {"valid_from": "2026-11-01"}},
		{"contract": {"valid_until": null}},
	] {
		refused_with(members)
	}
}

test_a_client_of_another_organization_contradicts if {
	refused_with({"client": {"organization": "org_9"}})
}

test_a_client_without_its_organization_contradicts if {
	refused_with({"organization": null})
	refused_with({"client": null})
}

test_a_contract_for_another_purpose_contradicts if {
	refused_with({"contract": {"purpose": "advertising"}})
}

test_a_contract_without_a_purpose_in_question_is_described if {
	facts.contract_fits with input as samples.changed(samples.receive, {"purpose": null})
}

test_nobody_publishes_or_proposes if {
	refused(samples.changed(samples.publish, {"client": null, "organization": null}))
	refused(samples.changed(samples.propose, {"client": null, "organization": null}))
}

test_nobody_reads_under_a_contract if {
	refused_with({"client": null, "organization": null})
}

test_what_is_proposed_is_a_proposed_contract if {
	refused(samples.changed(samples.propose, {"contract": null}))
	refused(samples.changed(samples.propose, {"contract": {"state": "active"}}))
}

test_a_contract_that_is_read_under_has_a_name if {
	refused_with({"contract": {"id": ""}})
}

test_publishing_is_under_no_contract if {
	refused(samples.changed(samples.publish, {"contract": samples.receive.contract}))
}

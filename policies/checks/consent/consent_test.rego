package exchange.checks.consent_test

import data.exchange.checks.consent
import data.exchange.samples_test as samples

refused(facts, sheets, code) if {
	samples.codes(consent.deny) == {code} with input as facts with data.exchange.rules as sheets
	not consent.proven with input as facts with data.exchange.rules as sheets
}

allowed(facts, sheets) if {
	count(consent.deny) == 0 with input as facts with data.exchange.rules as sheets
	consent.proven with input as facts with data.exchange.rules as sheets
}

test_where_consent_is_required_it_filters_by_the_purpose_of_the_contract if {
	allowed(samples.receive, samples.sheets)
	expected := {{"kind": "consent_filter", "purpose": "transit-planning", "standing": "enforced"}}
	consent.obligations == expected with input as samples.receive with data.exchange.rules as samples.sheets
}

test_consent_of_nobody_cannot_be_required if {
	refused(samples.changed(samples.receive, {"dataset": {"has_subject": false}}), samples.sheets, "consent_needs_subject")
}

test_a_statute_carries_personal_data_without_consent if {
	terms := samples.sheet_of({"consent": "not_required", "legal_ground": "statute"})
	allowed(samples.receive, terms)
	count(consent.obligations) == 0 with input as samples.receive with data.exchange.rules as terms
}

test_a_public_record_carries_personal_data_without_consent if {
	allowed(samples.receive, samples.sheet_of({"consent": "not_required", "legal_ground": "public_record"}))
}

test_a_notice_with_opt_out_withholds_those_who_opted_out if {
	terms := samples.sheet_of({"consent": "opt_out", "legal_ground": "notice_with_opt_out"})
	allowed(samples.receive, terms)
	expected := {{"kind": "opt_out_filter", "purpose": "transit-planning", "standing": "enforced"}}
	consent.obligations == expected with input as samples.receive with data.exchange.rules as terms
}

test_nobody_can_opt_out_who_is_not_named if {
	terms := samples.sheet_of({"consent": "opt_out", "legal_ground": "notice_with_opt_out"})
	refused(samples.changed(samples.receive, {"dataset": {"has_subject": false}}), terms, "consent_needs_subject")
}

test_opting_out_rests_on_its_notice_and_on_no_other_ground if {
	every ground in ["agreement", "consent", "open_licence", "statute", "public_interest", "public_record"] {
		refused(samples.receive, samples.sheet_of({"consent": "opt_out", "legal_ground": ground}), "no_ground_without_consent")
	}
}

test_a_notice_with_opt_out_lets_nothing_pass_unless_opting_out_is_heeded if {
	refused(samples.receive, samples.sheet_of({"consent": "not_required", "legal_ground": "notice_with_opt_out"}), "no_ground_without_consent")
}

test_no_other_ground_carries_personal_data_without_consent if {
	every ground in ["agreement", "consent", "open_licence"] {
		terms := samples.sheet_of({"consent": "not_required", "legal_ground": ground})
		refused(samples.receive, terms, "no_ground_without_consent")
	}
}

test_a_rule_that_does_not_speak_of_consent_is_refused if {
	refused(samples.receive, samples.sheet_of({"consent": "perhaps"}), "no_ground_without_consent")
}

test_internal_data_whose_rule_does_not_speak_of_consent_is_not_proven if {
	facts := samples.changed(samples.receive, {"dataset": {"classification": "internal"}})
	not consent.proven with input as facts with data.exchange.rules as samples.sheet_of({"consent": "perhaps"})
}

test_internal_data_may_need_no_consent if {
	facts := samples.changed(samples.receive, {"dataset": {"classification": "internal", "has_subject": false}})
	allowed(facts, samples.sheet_of({"consent": "not_required"}))
}

test_open_data_without_a_sheet_and_publishing_need_no_consent if {
	allowed(samples.anonymous, samples.sheets)
	allowed(samples.publish, samples.sheets)
}

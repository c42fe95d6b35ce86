# METADATA
# title: Facts and a rule sheet for the tests
# description: Each test changes what it is about and nothing else.
package exchange.samples_test

# METADATA
# title: A partner reads personal data under a contract in force
receive := {
	"action": "receive",
	"at": "2026-11-23T12:00:00Z",
	"client": {
		"id": "cli_1",
		"organization": "org_2",
		"standing": "active",
		"strong": true,
		"roles": [],
		"contracts": ["con_1"],
	},
	"organization": {"id": "org_2", "kind": "partner", "standing": "approved"},
	"dataset": {
		"slug": "footfall",
		"owner": "org_1",
		"owner_standing": "approved",
		"classification": "personal",
		"licence_revoked": false,
		"has_subject": true,
		"retired": false,
	},
	"purpose": {"code": "transit-planning", "broader": ["city-operations"]},
	"contract": {
		"id": "con_1",
		"state": "active",
		"provider": "org_1",
		"consumer": "org_2",
		"purpose": "transit-planning",
		"valid_from": "2026-11-01T00:00:00Z",
		"valid_until": "2027-11-01T00:00:00Z",
		"taken_up_offer": false,
	},
}

# METADATA
# title: The same partner proposes that contract
propose := changed(receive, {"action": "propose", "client": {"contracts": []}, "contract": {"id": "", "state": "proposed"}})

# METADATA
# title: The owner publishes
publish := changed(receive, {
	"action": "publish",
	"client": {"organization": "org_1", "contracts": []},
	"organization": {"id": "org_1", "kind": "department"},
	"purpose": null,
	"contract": null,
})

# METADATA
# title: Nobody in particular reads open data
anonymous := changed(receive, {
	"client": null,
	"organization": null,
	"dataset": {"slug": "stops", "classification": "open", "has_subject": false},
	"purpose": null,
	"contract": null,
})

# METADATA
# title: The sheets
sheets := {"footfall": {
	"dataset": "footfall",
	"legal_ground": "consent",
	"legal_reference": "s. 32 (b)",
	"default": "deny",
	"rules": [
		{
			"purposes": ["city-operations"],
			"recipients": ["org_7"],
			"consent": "required",
			"keep": {"/zone": "as_is"},
		},
		{
			"purposes": ["city-operations"],
			"recipients": ["approved_organizations"],
			"consent": "required",
			"keep": {
				"/zone": "as_is",
				"/visitor": "pseudonymise",
				"/at": {"time_bucket": "PT15M"},
				"/dwell": {"generalise": 10},
				"/card": {"mask": 4},
			},
			"rows": {"/zone": ["north", "south"]},
			"rate_limit": {"events": 1000, "per": "PT1S"},
			"retain": "P90D",
			"attribution": "City of Mississauga",
			"onward_transfer": true,
		},
		{
			"purposes": ["official-statistics"],
			"recipients": ["department"],
			"consent": "not_required",
			"legal_ground": "statute",
			"legal_reference": "s. 32 (e)",
			"keep": {"/zone": "as_is"},
		},
	],
}}

# METADATA
# title: The facts with these members in place of theirs, at any depth
changed(facts, members) := object.union(facts, members)

# METADATA
# title: The sheets with one rule, which covers everybody, in place of theirs
sheet_of(terms) := {"footfall": {
	"dataset": "footfall",
	"legal_ground": "consent",
	"legal_reference": "s. 32 (b)",
	"default": "deny",
	"rules": [object.union({"purposes": ["transit-planning"], "recipients": ["anyone"], "consent": "required", "keep": {"/zone": "as_is"}}, terms)],
}}

# METADATA
# title: The codes of some reasons
codes(reasons) := {reason.code | some reason in reasons}

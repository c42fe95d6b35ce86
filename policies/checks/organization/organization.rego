# METADATA
# title: The standing of client, organization and provider
# custom:
#   legal_ground: Terms of the exchange, registration of organizations and clients
package exchange.checks.organization

# METADATA
# title: A client acts only while it is active
# custom:
#   legal_ground: Terms of the exchange, registration of clients
deny contains reason if {
	input.client.standing in {"pending", "revoked"}
	reason := {
		"code": "client_not_active",
		"title": {
			"en": "This API client is not active: it waits for approval or has been revoked.",
			"fr": "Ce client d'API n'est pas actif : il attend une approbation ou a été révoqué.",
		},
		"rule": {
			"title": "A client acts only while it is active",
			"file": "checks/organization/organization.rego",
			"line": 11,
			"legal_ground": "Terms of the exchange, registration of clients",
		},
	}
}

# METADATA
# title: An organization takes part only while it is approved
# custom:
#   legal_ground: Terms of the exchange, approval of organizations
deny contains reason if {
	input.organization.standing in {"pending", "suspended"}
	reason := {
		"code": "organization_not_approved",
		"title": {
			"en": "Your organization is not approved: it waits for approval or has been suspended.",
			"fr": "Votre organisme n'est pas approuvé : il attend une approbation ou a été suspendu.",
		},
		"rule": {
			"title": "An organization takes part only while it is approved",
			"file": "checks/organization/organization.rego",
			"line": 32,
			"legal_ground": "Terms of the exchange, approval of organizations",
		},
	}
}

# METADATA
# title: A provider's data is shared only while the provider is approved
# custom:
#   legal_ground: Terms of the exchange, approval of organizations
deny contains reason if {
	input.dataset.owner_standing in {"pending", "suspended"}
	reason := {
		"code": "provider_not_approved",
		"title": {
			"en": "The organization that provides this dataset is not approved at present.",
			"fr": "L'organisme qui fournit ce jeu de données n'est pas approuvé en ce moment.",
		},
		"rule": {
			"title": "A provider's data is shared only while the provider is approved",
			"file": "checks/organization/organization.rego",
			"line": 53,
			"legal_ground": "Terms of the exchange, approval of organizations",
		},
	}
}

# METADATA
# title: Only its owner publishes to a dataset
# custom:
#   legal_ground: Terms of the exchange, ownership of datasets
deny contains reason if {
	input.action == "publish"
	input.organization.id != input.dataset.owner
	reason := {
		"code": "not_the_owner",
		"title": {
			"en": "Only the organization that owns this dataset may publish to it.",
			"fr": "Seul l'organisme propriétaire de ce jeu de données peut y publier.",
		},
		"rule": {
			"title": "Only its owner publishes to a dataset",
			"file": "checks/organization/organization.rego",
			"line": 74,
			"legal_ground": "Terms of the exchange, ownership of datasets",
		},
	}
}

# METADATA
# title: An owner publishes to its own dataset
# custom:
#   legal_ground: Terms of the exchange, ownership of datasets
grounds contains reason if {
	input.action == "publish"
	input.organization.id == input.dataset.owner
	reason := {
		"code": "owner_publishes",
		"title": {
			"en": "Your organization owns this dataset.",
			"fr": "Votre organisme est propriétaire de ce jeu de données.",
		},
		"rule": {
			"title": "An owner publishes to its own dataset",
			"file": "checks/organization/organization.rego",
			"line": 96,
			"legal_ground": "Terms of the exchange, ownership of datasets",
		},
	}
}

# METADATA
# title: All who take part are in good standing
proven if {
	input.action == "publish"
	caller_stands
	input.organization.id == input.dataset.owner
	input.dataset.owner_standing == "approved"
}

proven if {
	input.action in {"propose", "receive"}
	caller_stands
	input.dataset.owner_standing == "approved"
}

proven if {
	input.action == "receive"
	input.client == null
	input.organization == null
	input.dataset.owner_standing == "approved"
}

# METADATA
# title: The client is active and its organization approved
caller_stands if {
	input.client.standing == "active"
	input.organization.standing == "approved"
}

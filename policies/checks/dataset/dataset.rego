# METADATA
# title: The dataset is in use
# custom:
#   legal_ground: Decision of the dataset's owner to share it, under its licence
package exchange.checks.dataset

# METADATA
# title: A retired dataset is neither written nor read
# custom:
#   legal_ground: Decision of the dataset's owner to retire it
deny contains reason if {
	input.dataset.retired == true
	reason := {
		"code": "dataset_retired",
		"title": {
			"en": "This dataset has been retired.",
			"fr": "Ce jeu de données a été retiré.",
		},
		"rule": {
			"title": "A retired dataset is neither written nor read",
			"file": "checks/dataset/dataset.rego",
			"line": 11,
			"legal_ground": "Decision of the dataset's owner to retire it",
		},
	}
}

# METADATA
# title: Without its licence a dataset is not shared
# custom:
#   legal_ground: Licence of the dataset
deny contains reason if {
	input.action in {"propose", "receive"}
	input.dataset.licence_revoked == true
	reason := {
		"code": "licence_revoked",
		"title": {
			"en": "The licence of this dataset has been revoked, so it can no longer be shared.",
			"fr": "La licence de ce jeu de données a été révoquée; il ne peut donc plus être partagé.",
		},
		"rule": {
			"title": "Without its licence a dataset is not shared",
			"file": "checks/dataset/dataset.rego",
			"line": 32,
			"legal_ground": "Licence of the dataset",
		},
	}
}

# METADATA
# title: The dataset is in use, and licensed if it is shared
proven if {
	input.action == "publish"
	input.dataset.retired == false
}

proven if {
	input.action in {"propose", "receive"}
	input.dataset.retired == false
	input.dataset.licence_revoked == false
}

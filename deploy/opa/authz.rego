# METADATA
# title: Who may ask OPA
# description: >-
#  The gateway may ask for the one decision, by its bearer token, and nobody may do anything else. OPA holds the token's
#  SHA-256 only (`tokens.json`), so that no policy can read the token out of `data`.
package system.authz

# METADATA
# title: Nothing is allowed by default
default allow := false

# METADATA
# title: The gateway may ask for the decision
allow if {
	input.method == "POST"
	input.path == ["v1", "data", "exchange", "main", "decision"]
	crypto.sha256(input.identity) == data.tokens.gateway.sha256
}

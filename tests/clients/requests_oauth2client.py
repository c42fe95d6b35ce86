"""A client of others, by requests-oauth2client: private_key_jwt, DPoP, a contract by RFC 9396, and the events of it.

Input, JSON: {issuer, client_id, key, contract}; output: {token_type, status, events}. Runs in an environment of its own.
"""

import json
import sys

import requests
from requests_oauth2client import DPoPToken, OAuth2Client, PrivateKeyJwt

given = json.load(sys.stdin)
issuer = given["issuer"]
client = OAuth2Client(
    token_endpoint=f"{issuer}/oauth/token",
    issuer=issuer,
    # FAPI 2.0 section 5.3.2.1: the audience is the issuer, and not the token endpoint, which is this library's own choice.
    auth=PrivateKeyJwt(given["client_id"], given["key"], alg="ES256", aud=issuer),
    dpop_bound_access_tokens=True,
    testing=True,
)
details = [{"type": "data_contract", "contract": given["contract"], "actions": ["read"]}]
token = client.client_credentials(scope="events:read", authorization_details=json.dumps(details))
assert isinstance(token, DPoPToken)
answer = requests.get(f"{issuer}/v1/contracts/{given['contract']}/events", auth=token, timeout=20)
json.dump({"token_type": token.token_type, "status": answer.status_code, "events": answer.json()}, sys.stdout)

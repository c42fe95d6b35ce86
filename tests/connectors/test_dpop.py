"""The SDK's proofs of possession (RFC 9449), read as an exchange reads them, from what went over the wire."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from joserfc import jws, jwt
from joserfc.jwk import import_key

from connectors.client import Client, digest_of, new_key, public_jwks
from connectors.jose import b64_digest
from tests.connectors.recorded import Recorded, as_json, as_stream, form_of, token

BOUND = token("bound", kind="DPoP", DPoP_Nonce="n1")
ASKED_AT_THE_TOKEN_ENDPOINT = as_json({"error": "use_dpop_nonce"}, status=400, DPoP_Nonce="n0")


class Registry(jws.JWSRegistry):
    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]  # without a warning for the older name of EdDSA


def asked_at_a_resource(nonce: str) -> Any:
    return as_json({"code": "token_invalid"}, status=401, WWW_Authenticate='DPoP error="use_dpop_nonce"', DPoP_Nonce=nonce)


def proof_of(headers: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a proof whose signature is by the key that it shows."""
    header = jws.extract_compact(headers["dpop"].encode()).headers()
    read = jwt.decode(headers["dpop"], import_key(header["jwk"]), algorithms=["ES256"])
    assert header["typ"] == "dpop+jwt"
    assert set(header["jwk"]) == {"kty", "crv", "x", "y"}
    return header, read.claims


def test_each_request_of_a_client_with_a_key_carries_a_proof_of_its_own(server: Recorded, open_client: Callable[..., Client]) -> None:
    server.give("/oauth/token", BOUND)
    server.give("/v1/me", *[as_json({})] * 2)
    client = open_client(key=new_key())
    client.get("/v1/me", limit=1)
    client.get("/v1/me")
    (asking, _), *calling = server.sent("/oauth/token") + server.sent("/v1/me")
    header, claims = proof_of(asking)
    assert (claims["htm"], claims["htu"]) == ("POST", f"{server.url}/oauth/token")
    assert "ath" not in claims
    assert "nonce" not in claims
    for headers, _ in calling:
        assert headers["authorization"] == "DPoP bound"
        shown, said = proof_of(headers)
        assert shown["jwk"] == header["jwk"]
        assert (said["htm"], said["htu"]) == ("GET", f"{server.url}/v1/me")
        assert said["ath"] == b64_digest(b"bound")
        assert said["nonce"] == "n1"
        assert abs(said["iat"] - time.time()) < 5
    assert len({proof_of(headers)[1]["jti"] for headers, _ in [(asking, b""), *calling]}) == 3


def test_a_nonce_that_is_asked_for_is_sent_with_a_new_proof_and_a_new_assertion(
    server: Recorded, open_client: Callable[..., Client]
) -> None:
    server.give("/oauth/token", ASKED_AT_THE_TOKEN_ENDPOINT, token("bound", kind="DPoP"))
    server.give("/v1/me", asked_at_a_resource("n2"), as_json({"id": 1}), as_json({"id": 2}))
    client = open_client(key=new_key())
    assert client.get("/v1/me") == {"id": 1}
    assert client.get("/v1/me") == {"id": 2}
    first, second = server.sent("/oauth/token")
    assert proof_of(second[0])[1]["nonce"] == "n0"
    assert form_of(first[1])["client_assertion"] != form_of(second[1])["client_assertion"]
    assert [proof_of(headers)[1].get("nonce") for headers, _ in server.sent("/v1/me")] == ["n0", "n2", "n2"]
    assert len(server.sent("/oauth/token")) == 2


def test_a_nonce_is_taken_once_a_request_and_then_the_refusal_stands(server: Recorded, open_client: Callable[..., Client]) -> None:
    server.give("/oauth/token", BOUND, BOUND)
    server.give("/v1/me", *[asked_at_a_resource(f"n{number}") for number in range(3)])
    with pytest.raises(Exception, match="token_invalid"):
        open_client(key=new_key()).get("/v1/me")
    assert len(server.sent("/v1/me")) == 3


def test_a_stream_carries_a_proof_and_takes_a_nonce(server: Recorded, open_client: Callable[..., Client]) -> None:
    path = "/v1/contracts/con_1/events"
    server.give("/oauth/token", BOUND)
    server.give(path, asked_at_a_resource("n2"), as_stream('id: c1\nevent: end\ndata: {"code": "contract_not_in_force"}\n\n'))
    (end,) = open_client(key=new_key()).stream("con_1")
    assert end.kind == "end"
    (_, first), (_, second) = (proof_of(headers) for headers, _ in server.sent(path))
    assert (first["nonce"], second["nonce"]) == ("n1", "n2")
    assert second["htu"] == f"{server.url}{path}"


def test_a_proof_names_the_exchange_by_its_issuer_wherever_it_is_reached(server: Recorded) -> None:
    server.give("/prefix/oauth/token", BOUND)
    server.give("/prefix/v1/me", as_json({}))
    with Client("https://exchange.example", "cli_1", key=new_key(), address=f"{server.url}/prefix") as client:
        client.get("/v1/me")
    assert proof_of(server.sent("/prefix/oauth/token")[0][0])[1]["htu"] == "https://exchange.example/oauth/token"
    assert proof_of(server.sent("/prefix/v1/me")[0][0])[1]["htu"] == "https://exchange.example/v1/me"


def test_a_token_goes_to_no_other_host(server: Recorded, open_client: Callable[..., Client]) -> None:
    with pytest.raises(ValueError, match="no other host"):
        open_client(key=new_key()).get("http://127.0.0.1:9/v1/me")
    with pytest.raises(ValueError, match="no other host"):
        open_client(secret="hidden").get("http://127.0.0.1:9/v1/me")


def test_a_server_that_binds_nothing_gets_no_proof_with_the_token(server: Recorded, open_client: Callable[..., Client]) -> None:
    server.give("/oauth/token", token("plain"))
    server.give("/v1/me", as_json({}))
    open_client(key=new_key()).get("/v1/me")
    ((headers, _),) = server.sent("/v1/me")
    assert headers["authorization"] == "Bearer plain"
    assert "dpop" not in headers


def test_a_client_with_a_secret_makes_no_proofs(server: Recorded, open_client: Callable[..., Client]) -> None:
    server.give("/oauth/token", token("plain"))
    server.give("/v1/me", as_json({}))
    open_client(secret="hidden").get("/v1/me")
    assert all("dpop" not in headers for _, _, headers, _ in server.requests)


def test_a_token_for_programs_that_make_no_proofs_is_another_one(server: Recorded, open_client: Callable[..., Client]) -> None:
    server.give("/oauth/token", BOUND, token("plain"))
    server.give("/v1/me", as_json({}))
    client = open_client(key=new_key())
    client.get("/v1/me")
    assert client.credentials is not None
    assert client.credentials.token(client.http) == "plain"
    assert "dpop" not in server.sent("/oauth/token")[1][0]


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "PS256"])
def test_a_key_of_each_algorithm_authenticates_and_signs(algorithm: str, server: Recorded, open_client: Callable[..., Client]) -> None:
    key, text = new_key(algorithm), b"The parties agree.\n"
    server.give("/oauth/token", BOUND)
    server.give("/v1/contracts/con_1/text", (200, {"Repr-Digest": digest_of(text)}, text))
    server.give("/v1/contracts/con_1/sign", as_json({"state": "active"}))
    assert open_client(key=key).sign("con_1") == {"state": "active"}
    (shown,) = public_jwks(key)["keys"]
    assert not {"d", "p", "q"} & set(shown)
    assert shown["alg"] == algorithm
    form = form_of(server.sent("/oauth/token")[0][1])
    public = import_key({name: value for name, value in shown.items() if name != "alg"})
    assertion = jws.deserialize_compact(form["client_assertion"], public, registry=Registry())
    assert assertion.headers() == {"alg": algorithm, "kid": key["kid"], "typ": "JWT"}
    signature = json.loads(server.sent("/v1/contracts/con_1/sign")[0][1])["signature"]
    payload = digest_of(text).encode()
    verified = jws.deserialize_compact(signature.encode(), public, payload=payload, registry=Registry())
    assert verified.protected["kid"] == key["kid"]


def test_a_key_that_no_algorithm_fits_is_refused_before_it_is_used() -> None:
    with pytest.raises(ValueError, match="EC"):
        Client("https://exchange.example", "cli_1", key={"kty": "oct", "k": "c2VjcmV0"})
    with pytest.raises(ValueError, match="ES256"):
        new_key("RS256")


def test_neither_key_stands_in_a_repr(open_client: Callable[..., Client]) -> None:
    key = new_key()
    client = open_client(key=key)
    assert client.credentials is not None
    shown = f"{client!r} {client.credentials!r} {vars(client.credentials)!r} {httpx2.Auth()!r}"
    assert key["d"] not in shown
    assert " 'd'" not in shown

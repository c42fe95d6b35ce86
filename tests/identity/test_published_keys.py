"""Keys that a client publishes itself: fetched over TLS through the guard, believed for a while, and never a failure of ours."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey

from gateway.identity.published_keys import AGAIN_S, BELIEVED_S, PublishedKeys, usable_keys
from gateway.outward import Outward, OutwardFailed
from tests.identity.exchange import Exchange
from tests.identity.registering import by_key, jwks_of, make_token, register, status_of_token
from tests.public_web import Authority, Names, Site

LOOPBACK = ip_network("127.0.0.1/32")


class Partner:
    """A partner's server. What it publishes is `document`; `media_type` and `status` as a test likes."""

    def __init__(self, authority: Authority) -> None:
        self.document: Any = {"keys": []}
        self.status, self.media_type = 200, "application/jwk-set+json"
        self.site = Site(self._answer, "127.0.0.1", authority.server_context("keys.partner.example"))
        self.names = Names(keys_partner_example=[["127.0.0.1"]])
        self.outward = Outward(networks=[LOOPBACK], resolve=self.names, trust=authority.trust(), seconds=2.0)
        self.url = f"https://keys.partner.example:{self.site.port}/jwks"

    def publish(self, *keys: ECKey) -> None:
        self.document = {"keys": [jwk | {"kid": f"key-{number}"} for number, key in enumerate(keys) for jwk in jwks_of(key)["keys"]]}

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        content = json.dumps(self.document).encode()
        handler.send_response(self.status)
        handler.send_header("Content-Type", self.media_type)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    @property
    def asked(self) -> int:
        return len(self.site.asked)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def partner(authority: Authority) -> Iterator[Partner]:
    made = Partner(authority)
    with made.site.running():
        yield made


@pytest.fixture
def clock() -> Callable[[float], None]:
    """Lets time pass; `published` reads it."""
    NOW[0] = 1000.0

    def pass_(seconds: float) -> None:
        NOW[0] += seconds

    return pass_


NOW = [0.0]


@pytest.fixture
def published(partner: Partner, clock: Callable[[float], None]) -> PublishedKeys:
    return PublishedKeys(partner.outward, clock=lambda: NOW[0])


@pytest.fixture
def exchange(tmp_path: Path, partner: Partner) -> Iterator[Exchange]:
    made = Exchange(tmp_path, partner.outward)
    with made.http:
        yield made
    made.close()


def elsewhere(partner: Partner) -> dict[str, Any]:
    metadata = by_key(ECKey.generate_key("P-256"), jwks_uri=partner.url)
    del metadata["jwks"]
    return metadata


def test_client_authenticates_by_a_key_that_it_publishes(exchange: Exchange, partner: Partner) -> None:
    key = ECKey.generate_key("P-256")
    partner.publish(key)
    client = register(exchange, make_token(exchange, approved=True), **elsewhere(partner)).json()
    assert client["jwks_uri"] == partner.url
    assert status_of_token(exchange, client["client_id"], key) == 200
    assert status_of_token(exchange, client["client_id"], ECKey.generate_key("P-256")) == 401


@pytest.mark.parametrize("wrong", ["away", "empty", "private", "no set"])
def test_registration_needs_keys_where_it_says(exchange: Exchange, partner: Partner, wrong: str) -> None:
    key = ECKey.generate_key("P-256")
    partner.status = 500 if wrong == "away" else 200
    partner.document = {
        "away": jwks_of(key),
        "empty": {"keys": []},
        "private": {"keys": [key.as_dict(private=True)]},
        "no set": ["x"],
    }[wrong]
    answer = register(exchange, make_token(exchange), **elsewhere(partner))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client_metadata")
    assert answer.json()["error_description"].startswith("jwks_uri: ")


def test_without_a_good_registration_token_nobody_is_called(exchange: Exchange, partner: Partner) -> None:
    assert register(exchange, "exr_wrong", **elsewhere(partner)).status_code == 401
    assert partner.site.connections == 0


def test_keys_that_cannot_be_had_authenticate_nobody_and_are_no_failure(exchange: Exchange, partner: Partner) -> None:
    key = ECKey.generate_key("P-256")
    partner.publish(key)
    client = register(exchange, make_token(exchange, approved=True), **elsewhere(partner)).json()
    partner.status = 500
    answer = status_of_token(exchange, client["client_id"], key)
    assert answer == 401


def test_set_is_believed_for_five_minutes(partner: Partner, published: PublishedKeys, clock: Callable[[float], None]) -> None:
    partner.publish(ECKey.generate_key("P-256"))
    for _ in range(3):
        assert published.jwks(partner.url, "key-0")
    clock(BELIEVED_S - 1)
    assert published.jwks(partner.url, "key-0")
    assert partner.asked == 1
    partner.status = 500
    clock(2)
    assert published.jwks(partner.url, "key-0") is None, "a key may be gone because it was stolen"


def test_unknown_key_id_fetches_again_but_not_often(partner: Partner, published: PublishedKeys, clock: Callable[[float], None]) -> None:
    first, second = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
    partner.publish(first)
    for number in range(20):
        published.jwks(partner.url, f"made-up-{number}")
    assert partner.asked == 1
    partner.publish(first, second)
    clock(AGAIN_S + 1)
    found = published.jwks(partner.url, "key-1")
    assert found is not None
    assert [jwk["kid"] for jwk in found["keys"]] == ["key-0", "key-1"]
    assert partner.asked == 2


def test_failure_is_remembered_for_a_while(partner: Partner, published: PublishedKeys, clock: Callable[[float], None]) -> None:
    partner.status = 500
    assert [published.jwks(partner.url, None) for _ in range(5)] == [None] * 5
    assert partner.asked == 1
    partner.status = 200
    partner.publish(ECKey.generate_key("P-256"))
    clock(AGAIN_S + 1)
    assert published.jwks(partner.url, None) is not None


def test_those_who_ask_at_once_share_one_fetch(partner: Partner, published: PublishedKeys) -> None:
    partner.publish(ECKey.generate_key("P-256"))
    together, found = threading.Barrier(4), []

    def ask() -> None:
        together.wait()
        found.append(published.jwks(partner.url, None))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert partner.asked == 1
    assert all(found)


def test_of_a_published_set_the_usable_keys_are_taken() -> None:
    good = ECKey.generate_key("P-256").as_dict(private=False)
    others = [
        good | {"kid": "for encryption", "use": "enc"},
        RSAKey.generate_key(2048).as_dict(private=False) | {"kid": "rs256", "alg": "RS256"},
        ECKey.generate_key("P-384").as_dict(private=False),
        {"kty": "AKP", "pub": "AQ"},
        {"kty": ["EC"]},
        "text",
        None,
    ]
    taken = usable_keys({"keys": [*others, good | {"kid": "mine", "x5c": ["AQ=="]}, good | {"kid": "mine"}], "more": 1})
    assert [jwk["kid"] for jwk in taken["keys"]] == ["mine"]
    assert "x5c" not in taken["keys"][0]


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, {"keys": [{"kty": "oct", "k": "AQ"}]}, {"keys": [1]}])
def test_what_is_no_set_of_public_keys_is_refused(document: object) -> None:
    with pytest.raises(OutwardFailed):
        usable_keys(document)

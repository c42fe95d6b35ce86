"""Nonces of proofs, and the addresses in them (RFC 9449 sections 4.3 and 8)."""

from __future__ import annotations

import pytest

from gateway.identity.dpop import NONCE_S, Nonces, normalized
from gateway.keys import SecretKey


def test_nonce_is_the_same_at_each_replica_and_good_for_its_span_and_the_next() -> None:
    key, second = SecretKey("dpop_nonce-1", "dpop_nonce", bytes(32)), 1_800_000_000.0
    told = Nonces(key, lambda: second).current()
    for passed, good in ((0, True), (-NONCE_S, True), (NONCE_S, True), (2 * NONCE_S, False), (-2 * NONCE_S, False)):
        there = Nonces(key, lambda passed=passed: second + passed)  # type: ignore[misc] # the default binds it
        assert (there.accepts(told), there.current() == told) == (good, passed == 0)
    assert not Nonces(SecretKey("dpop_nonce-2", "dpop_nonce", bytes(31) + b"x"), lambda: second).accepts(told)


@pytest.mark.parametrize("nonce", [None, 3, "", "é", "x" * 10_000, ["x"]])
def test_nonce_that_is_not_ours_is_refused_whatever_it_is(nonce: object) -> None:
    assert not Nonces(SecretKey("dpop_nonce-1", "dpop_nonce", bytes(32))).accepts(nonce)


SAME = {
    "query and fragment": "https://city.example/v1/me?x=1#y",
    "capitals in scheme and host": "HTTPS://City.Example/v1/me",
    "the default port": "https://city.example:443/v1/me",
    "escaped letters": "https://city.example/v1/%6de",
}


@pytest.mark.parametrize("url", SAME.values(), ids=SAME.keys())
def test_address_is_compared_after_normalisation(url: str) -> None:
    assert normalized(url) == "https://city.example/v1/me"


OTHERS = {
    "a slash more": "https://city.example/v1/me/",
    "another port": "https://city.example:8443/v1/me",
    "a path in capitals": "https://city.example/V1/me",
    "an escaped slash": "https://city.example/v1%2fme",
}


@pytest.mark.parametrize("url", OTHERS.values(), ids=OTHERS.keys())
def test_address_that_differs_stays_different(url: str) -> None:
    assert normalized(url) != "https://city.example/v1/me"

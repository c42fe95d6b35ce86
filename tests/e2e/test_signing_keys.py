"""The exchange's own keys follow one another: while tokens are issued and verified all the time, none is ever refused."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from gateway.doctor import examine
from gateway.key_encryption import KeyEncryptionKeys
from tests.e2e.district import District
from tests.e2e.listener import until
from tests.engines import Engines
from tests.gateway import Gateway

JWKS_CACHE_S = 2
LIFETIME_S = 30
SHORT = {"EXCHANGE_JWKS_CACHE_S": str(JWKS_CACHE_S), "EXCHANGE_TOKEN_LIFETIME_S": str(LIFETIME_S)}


class Verifier:
    """Somebody else's program: it keeps the JWKS for as long as it may, asks again never sooner, and verifies each token by what it has."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.kids: Counter[str] = Counter()
        self._keys: KeySet | None = None
        self._until = 0.0

    def verify(self, token: str) -> None:
        if self._keys is None or time.monotonic() >= self._until:
            answer = httpx2.get(f"{self.gateway.url}/oauth/jwks")
            self._keys = KeySet.import_key_set(answer.json())
            self._until = time.monotonic() + int(answer.headers["Cache-Control"].partition("max-age=")[2])
        self.kids[jwt.decode(token, self._keys, algorithms=["ES256"]).header["kid"]] += 1


class Issuing:
    """Tokens from each replica in turn, each verified by who caches, and used at each replica at once and just before its end."""

    def __init__(self, replicas: list[Gateway]) -> None:
        self.replicas = replicas
        self.verifier = Verifier(replicas[-1])
        self.failures: list[str] = []
        self.issued = 0
        self._kept: list[tuple[float, str]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        self._thread.start()
        yield
        self._stopping.set()
        self._thread.join(30)

    def _run(self) -> None:
        with httpx2.Client() as http:
            while not self._stopping.wait(0.05):
                try:
                    self._issue(http)
                except Exception as error:  # noqa: BLE001 - told by the test, with all that went wrong
                    self.failures.append(repr(error))

    def _issue(self, http: httpx2.Client) -> None:
        made, here = self.replicas[0].made, self.replicas[self.issued % len(self.replicas)]
        answer = http.post(f"{here.url}/oauth/token", data={"grant_type": "client_credentials"}, auth=(made.client_id, made.client_secret))
        token = answer.json()["access_token"]
        self.issued += 1
        self.verifier.verify(token)
        self._kept.append((time.monotonic() + LIFETIME_S - 4, token))
        old = [one for last, one in self._kept if 0 <= time.monotonic() - last < 1]
        self._kept = [(last, one) for last, one in self._kept if time.monotonic() < last]
        for one in [token, *old[:1]]:
            for there in self.replicas:
                status = http.get(f"{there.url}/v1/me", headers={"Authorization": f"Bearer {one}"}).status_code
                if status != 200:
                    self.failures.append(f"{status} at {there.url}")


def command(gateway: Gateway, *words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", *words, "--json"], env=gateway._environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def states(gateway: Gateway, use: str) -> dict[str, str]:
    return {key["key_id"]: key["state"] for key in command(gateway, "keys", "list") if key["use"] == use}


def published(gateway: Gateway) -> set[str]:
    return {key["kid"] for key in httpx2.get(f"{gateway.url}/oauth/jwks").json()["keys"]}


@pytest.fixture
def replicas(engines: Engines, tmp_path: Path) -> Iterator[list[Gateway]]:
    """Two on the real engines; the embedded ones take one."""
    first = Gateway(engines, tmp_path / "first", SHORT)
    made = [first]
    if engines.kind == "real":
        made.append(Gateway(engines, tmp_path / "second", SHORT, beside=first))
    try:
        for replica in made:
            replica.start()
        yield made
    finally:
        for replica in reversed(made):
            replica.close()


def test_a_signing_key_follows_another_and_no_token_is_refused_meanwhile(replicas: list[Gateway]) -> None:
    first = replicas[0]
    ((old, state),) = states(first, "token").items()
    assert state == "signing"
    issuing = Issuing(replicas)
    with issuing.going_on():
        new = command(first, "keys", "rotate", "--use", "token")["key_id"]
        until(lambda: all({old, new} <= published(replica) for replica in replicas), "the new key in each JWKS", seconds=10)
        assert states(first, "token") == {old: "signing", new: "published"}
        until(lambda: issuing.verifier.kids[new] > 20, "tokens by the new key", seconds=30)
        assert states(first, "token") == {old: "verifying", new: "signing"}
        until(lambda: all(old not in published(replica) for replica in replicas), "the old key to leave", seconds=LIFETIME_S + 30)
        assert states(first, "token") == {old: "retired", new: "signing"}
    assert issuing.failures == []
    assert issuing.issued > 200
    assert issuing.verifier.kids[old] > 20

    entries = first.operator().get("/v1/audit/entries", kind="key")["items"]
    told = [entry["entry"]["action"] for entry in entries if entry["entry"]["detail"].get("key_id") in {old, new}]
    assert sorted(told) == ["published", "retired", "signs"]
    # What is kept is not to be read without the key-encryption key, and survives its rotation and a start.
    assert command(first, "keys", "rotate-kek")["lost"] == 0
    for replica in replicas:
        replica.stop()
        replica.start()
    fresh = Issuing(replicas)
    with fresh.going_on():
        until(lambda: fresh.verifier.kids[new] > 5, "tokens after a start", seconds=20)
    assert fresh.failures == []


def test_without_the_key_encryption_key_no_token_is_issued_and_those_there_are_go_on(replicas: list[Gateway]) -> None:
    first = replicas[0]
    form, proof = {"grant_type": "client_credentials"}, (first.made.client_id, first.made.client_secret)
    new = command(first, "keys", "rotate", "--use", "token")["key_id"]
    until(lambda: states(first, "token")[new] == "signing", "the new key to sign", seconds=30)
    held = httpx2.post(f"{first.url}/oauth/token", data=form, auth=proof).json()["access_token"]
    for replica in replicas:
        replica.stop()
    lines = json.loads(first.key_file.read_text())
    kept = [entry for entry in lines["keys"] if entry["use"] == "key_encryption"]
    other = [{"use": "key_encryption", "value": "A" * 43}]
    first.key_file.write_text(json.dumps(lines | {"keys": [entry for entry in lines["keys"] if entry not in kept] + other}))
    for replica in replicas:
        replica.start()
    refused = httpx2.post(f"{first.url}/oauth/token", data=form, auth=proof)
    assert refused.status_code == 503
    assert refused.json()["error"] == "temporarily_unavailable"
    assert httpx2.get(f"{first.url}/v1/me", headers={"Authorization": f"Bearer {held}"}).status_code == 200
    first.key_file.write_text(json.dumps(lines))
    assert KeyEncryptionKeys(first.key_file).current()
    back = httpx2.post(f"{first.url}/oauth/token", data=form, auth=proof)
    assert back.status_code == 200


def test_a_receipt_key_follows_another_and_receipts_of_before_verify_for_ever(replicas: list[Gateway]) -> None:
    first = replicas[0]
    ((old, _),) = states(first, "receipt").items()
    new = command(first, "keys", "rotate", "--use", "receipt")["key_id"]
    until(lambda: states(first, "receipt") == {old: "verifying", new: "signing"}, "the new key to sign", seconds=30)
    assert {old, new} <= published(first)
    due = [key["due_at"] for key in command(first, "keys", "list") if key["key_id"] == old]
    assert due == [None]


def test_what_a_stolen_key_has_signed_is_refused_everywhere_at_once(replicas: list[Gateway]) -> None:
    first = replicas[0]
    form, proof = {"grant_type": "client_credentials"}, (first.made.client_id, first.made.client_secret)
    waiting = command(first, "keys", "rotate", "--use", "token")["key_id"]  # not in the way of the urgent one
    held = httpx2.post(f"{first.url}/oauth/token", data=form, auth=proof).json()["access_token"]
    for replica in replicas:  # so that each has verified it
        assert httpx2.get(f"{replica.url}/v1/me", headers={"Authorization": f"Bearer {held}"}).status_code == 200
    (old,) = states(first, "token").keys() - {waiting}
    new = command(first, "keys", "rotate", "--use", "token", "--at-once")["key_id"]
    for replica in replicas:
        seconds = 0 if first.engines.kind == "real" else 2  # without leases the command has nobody to wait for

        def refused(replica: Gateway = replica) -> bool:
            return httpx2.get(f"{replica.url}/v1/me", headers={"Authorization": f"Bearer {held}"}).status_code == 401

        until(refused, "the refusal", seconds=seconds)
        assert {new} <= published(replica)
        assert not {old, waiting} & published(replica)
        fresh = httpx2.post(f"{replica.url}/oauth/token", data=form, auth=proof).json()["access_token"]
        assert httpx2.get(f"{replicas[-1].url}/v1/me", headers={"Authorization": f"Bearer {fresh}"}).status_code == 200
    assert states(first, "token") == {old: "retired", waiting: "retired", new: "signing"}


def test_with_a_key_store_no_private_key_is_on_disk_and_while_it_is_away_only_signing_waits(engines: Engines, tmp_path: Path) -> None:
    store, away = tmp_path / "store", tmp_path / "away"
    store.write_text(b64encode(secrets.token_bytes(32)).decode())
    with Gateway(engines, tmp_path / "exchange", {"EXCHANGE_KEK_COMMAND": f"cat {store}"}) as gateway:
        assert '"d"' not in gateway.key_file.read_text()
        assert {key["kept"] for key in command(gateway, "keys", "list")} == {"key file, encrypted"}
        form, proof = {"grant_type": "client_credentials"}, (gateway.made.client_id, gateway.made.client_secret)
        held = httpx2.post(f"{gateway.url}/oauth/token", data=form, auth=proof).json()["access_token"]

        def signed() -> bytes:
            return httpx2.get(f"{gateway.url}/audit/checkpoint").content

        until(lambda: len(signed()) > 0, "a checkpoint")
        code = District(gateway).given("person-seen")["withdrawal_code"]
        gateway.stop()
        store.rename(away)
        gateway.start(policy=False)
        assert httpx2.post(f"{gateway.url}/oauth/token", data=form, auth=proof).status_code == 503
        assert httpx2.get(f"{gateway.url}/v1/me", headers={"Authorization": f"Bearer {held}"}).status_code == 200
        assert httpx2.post(f"{gateway.url}/v1/consents/withdraw", json={"code": code}).status_code == 200
        (found,) = [each for each in examine(gateway.settings()) if each.part == "keys"]
        assert (found.well, "does not come" in found.says) == (False, True)

        last, bearer = signed(), {"Authorization": f"Bearer {held}"}
        body = {"name": "A later partner", "kind": "partner"}
        assert httpx2.post(f"{gateway.url}/v1/organizations", json=body, headers=bearer).status_code == 201
        time.sleep(1)
        assert signed() == last  # what is written down waits for its checkpoint
        away.rename(store)
        until(lambda: httpx2.post(f"{gateway.url}/oauth/token", data=form, auth=proof).status_code == 200, "the key", seconds=20)
        until(lambda: gateway.is_ready(policy=True), "the policy", seconds=20)
        until(lambda: signed() != last, "a new checkpoint", seconds=20)

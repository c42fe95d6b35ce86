"""Proofs over HTTP: each leads to the root that the checkpoint signs, in JSON and as C2SP tlog-proof."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import jsonschema_rs
import orjson
import pytest
from sqlalchemy import delete

from gateway.audit.models import AuditEntry
from gateway.audit.note import Checkpoint, Verifier, log_identity, log_signer
from gateway.audit.record import Entry, record
from gateway.audit.sequencer import Sequencer
from gateway.audit.tiles import Tiles
from gateway.key_encryption import KeyEncryptionKeys
from gateway.keys import b64, unb64
from gateway.resources import SCHEMAS
from tests.city import City

PATH = "/v1/audit/entries"


@dataclass
class Published:
    """A city whose log a test grows."""

    city: City

    def __post_init__(self) -> None:
        self.tiles = Tiles(self.city.settings.resolved_audit_dir)
        self.verifier = Verifier.parse(log_identity(self.city.keys, self.city.settings)[1])
        self.sequencer = Sequencer(
            self.city.database, self.tiles, log_signer(self.city.keys, KeyEncryptionKeys.of(self.city.settings), self.city.settings)
        )

    def append(self, count: int = 1, **members: Any) -> list[bytes]:
        with self.city.database.transaction() as session:
            return [record(session, Entry(**{"kind": "release", "action": "deliver"} | members)).leaf_hash for _ in range(count)]

    def grow(self, count: int = 1, **members: Any) -> list[bytes]:
        hashes = self.append(count, **members)
        while self.sequencer.step() is not None:
            pass
        return hashes

    def get(self, path: str, client: str | None = None, **headers: str) -> Any:
        return self.city.http.get(path, headers=self.city.as_(client or self.city.officer) | headers)

    def signed(self, note: str) -> Checkpoint:
        checkpoint = Checkpoint.parse(note.encode())
        assert checkpoint.signed_by(self.verifier)
        return checkpoint


@pytest.fixture
def log(city: City) -> Published:
    return Published(city)


def root_of(index: int, size: int, leaf_hash: bytes, path: list[bytes]) -> bytes:
    """RFC 9162 section 2.1.3.2. Raises `AssertionError` for a path of another length."""
    at, last, root = index, size - 1, leaf_hash
    for each in path:
        assert last > 0
        if at & 1 or at == last:
            root = sha256(b"\1" + each + root).digest()
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            root = sha256(b"\1" + root + each).digest()
        at, last = at >> 1, last >> 1
    assert last == 0
    return root


def decoded(proof: list[str]) -> list[bytes]:
    return [b64decode(each, validate=True) for each in proof]


def test_each_hit_of_a_search_has_its_place_and_a_proof_that_leads_to_the_signed_root(log: Published) -> None:
    hashes = log.grow(300)
    page = log.get(f"{PATH}?limit=500").json()
    checkpoint = log.signed(page["checkpoint"])
    assert checkpoint.size == 300
    assert [item["index"] for item in page["items"]] == list(range(300))
    for item, leaf_hash in zip(page["items"], hashes, strict=True):
        assert unb64(item["leaf_hash"]) == leaf_hash
        assert root_of(item["index"], checkpoint.size, leaf_hash, decoded(item["proof"])) == checkpoint.root


def test_what_is_not_in_the_log_yet_has_neither_place_nor_proof(log: Published) -> None:
    log.append()
    page = log.get(PATH).json()
    assert (page["items"][0]["index"], page["items"][0]["proof"], page["checkpoint"]) == (None, None, None)
    assert log.get(f"{PATH}/0/proof").json()["code"] == "not_found"
    assert log.get("/v1/audit/consistency?from=0").json()["code"] == "not_found"
    assert log.city.http.get("/audit/checkpoint").status_code == 404


@pytest.mark.parametrize("size", [1, 2, 7, 256, 257, 600])
def test_a_proof_says_the_same_in_json_and_as_tlog_proof(log: Published, size: int) -> None:
    hashes = log.grow(size)
    for index in sorted({0, size // 2, size - 1}):
        document = log.get(f"{PATH}/{index}/proof").json()
        checkpoint = log.signed(document["checkpoint"])
        assert sha256(b"\0" + document["leaf"].encode()).digest() == hashes[index] == unb64(document["leaf_hash"])
        assert root_of(index, size, hashes[index], decoded(document["proof"])) == checkpoint.root
        text = log.get(f"{PATH}/{index}/proof", accept="text/plain").text
        assert text == "\n".join(["c2sp.org/tlog-proof@v1", f"index {index}", *document["proof"], "", document["checkpoint"]])


def test_a_receipt_leads_to_index_and_proof(log: Published) -> None:
    log.grow(10)
    [mine] = log.grow(consumer=log.city.planner)
    found = log.get(f"{PATH}/by-hash/{b64(mine)}", log.city.consumer).json()
    checkpoint = log.signed(found["checkpoint"])
    assert (found["index"], sha256(b"\0" + found["leaf"].encode()).digest()) == (10, mine)
    assert root_of(10, checkpoint.size, mine, decoded(found["proof"])) == checkpoint.root


def test_a_receipt_of_what_retention_has_deleted_still_leads_to_its_proof(log: Published) -> None:
    [mine] = log.grow(consumer=log.city.planner)
    log.grow(5)
    with log.city.database.transaction() as session:
        session.execute(delete(AuditEntry).where(AuditEntry.leaf_hash == mine))
    found = log.get(f"{PATH}/by-hash/{b64(mine)}", log.city.consumer).json()
    checkpoint = log.signed(found["checkpoint"])
    assert {"entry", "salt"} & found.keys() == set()
    assert root_of(found["index"], checkpoint.size, mine, decoded(found["proof"])) == checkpoint.root
    jsonschema_rs.Draft202012Validator(orjson.loads((SCHEMAS / "audit-entry.json").read_bytes())).validate(found)


def test_an_entry_that_somebody_may_not_see_is_not_told_by_its_hash(log: Published) -> None:
    [hidden] = log.grow(organization=log.city.transit)
    assert log.get(f"{PATH}/by-hash/{b64(hidden)}", log.city.consumer).json()["code"] == "not_found"


def test_later_checkpoints_are_consistent_with_earlier_ones(log: Published) -> None:
    log.grow(3)
    log.grow(4)
    document = log.get("/v1/audit/consistency?from=3").json()
    leaves = [sha256(b"\0" + leaf).digest() for leaf in log.tiles.leaves(0, 7)]

    def root(hashes: list[bytes]) -> bytes:
        if len(hashes) == 1:
            return hashes[0]
        k = 1 << ((len(hashes) - 1).bit_length() - 1)
        return sha256(b"\1" + root(hashes[:k]) + root(hashes[k:])).digest()

    # RFC 6962 section 2.1.3: PROOF(3, D[7]) = [c, d, g, l]
    expected = [leaves[2], leaves[3], root(leaves[:2]), root(leaves[4:])]
    assert (document["from"], document["to"], decoded(document["proof"])) == (3, 7, expected)
    assert log.get("/v1/audit/consistency?from=7&to=7").json()["proof"] == []


@pytest.mark.parametrize("query", ["from=5&to=4", "from=0&to=8", "from=8", "from=-1", "to=3", "from=x", "from=1&more=2"])
def test_sizes_that_the_log_does_not_have_are_named(log: Published, query: str) -> None:
    log.grow(7)
    assert log.get(f"/v1/audit/consistency?{query}").json()["code"] == "invalid_body"


def test_what_is_public_needs_no_token_and_is_kept_by_caches(log: Published) -> None:
    log.grow(257)
    newest = log.city.http.get("/audit/checkpoint")
    assert newest.content == log.tiles.checkpoint()
    assert newest.headers["content-type"] == "text/plain; charset=utf-8"
    assert newest.headers["cache-control"] == "public, max-age=1"
    for path, size in {"tile/0/000": 8192, "tile/0/001.p/1": 32, "tile/1/000.p/1": 32, "tile/0/000.p/5": 160}.items():
        answer = log.city.http.get(f"/audit/{path}")
        assert (answer.status_code, len(answer.content)) == (200, size), path
        assert (answer.headers["content-type"], "immutable" in answer.headers["cache-control"]) == ("application/octet-stream", True)
        assert answer.headers["access-control-allow-origin"] == "*"
    bundle = log.city.http.get("/audit/tile/entries/001.p/1").content
    assert orjson.loads(bundle[2:]).keys() == {"v", "kind", "at", "commitment"}


@pytest.mark.parametrize("path", ["tile/0/002", "tile/0/000.p/256", "tile/7/000", "tile/0/%2e%2e/checkpoint", "tile/0/0", ".lock"])
def test_what_is_not_of_the_log_is_not_served(log: Published, path: str) -> None:
    log.grow(257)
    assert log.city.http.get(f"/audit/{path}").status_code in {404, 422}


def test_the_verifier_key_names_origin_and_key_as_signed_notes_do(log: Published) -> None:
    origin, vkey = log_identity(log.city.keys, log.city.settings)
    key = log.city.keys.audit_log.as_dict(private=False)["x"]
    assert origin == "exchange.test/audit"
    key_id = sha256(b"exchange.test/audit\n\x01" + unb64(str(key))).digest()[:4].hex()
    assert vkey == f"exchange.test/audit+{key_id}+{b64encode(bytes([1]) + unb64(str(key))).decode()}"

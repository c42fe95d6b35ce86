"""The bundle: the same bytes for the same content, signed, and read back as it was."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from gateway.access.bundle import MAX_BYTES, BundleUnreadable, build_bundle, read_bundle, served
from tests.policies.shipped import KEY, SLUG, bundle, files, parts


def unpacked(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(content))) as archive:
        return {member.name: held.read() for member in archive if (held := archive.extractfile(member))}


def claims(content: bytes) -> dict[str, Any]:
    token = json.loads(unpacked(content)[".signatures.json"])["signatures"][0]
    return jwt.decode(token, KEY, algorithms=["ES256"]).claims


def test_it_holds_manifest_data_and_modules_but_no_tests() -> None:
    held = unpacked(bundle("pol_1"))
    modules = {path for path in files() if path.endswith(".rego") and not path.endswith("_test.rego")}
    assert set(held) == {".manifest", ".signatures.json", "data.json"} | modules
    assert json.loads(held[".manifest"]) == {"revision": "pol_1", "roots": ["exchange"], "rego_version": 1}
    assert json.loads(held["data.json"])["exchange"]["rules"][SLUG]["dataset"] == SLUG


def test_the_signature_covers_every_file_and_names_its_scope() -> None:
    content = bundle("pol_1")
    held = {name: data for name, data in unpacked(content).items() if name != ".signatures.json"}
    signed = claims(content)
    assert {entry["name"]: entry["hash"] for entry in signed["files"]} == {
        name: hashlib.sha256(data).hexdigest() for name, data in held.items()
    }
    assert (signed["keyid"], signed["scope"]) == ("policy", "exchange")


def test_all_but_the_signature_is_the_same_each_time() -> None:
    first, second = (unpacked(bundle("pol_1")) for _ in range(2))
    assert first.pop(".signatures.json") != second.pop(".signatures.json")
    assert first == second
    assert list(first) == list(second) == sorted(first)


def test_the_archive_carries_no_time_and_no_owner() -> None:
    content = bundle("pol_1")
    assert content[4:8] == b"\0\0\0\0"
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(content))) as archive:
        assert {(member.mtime, member.uid, member.gid, member.uname) for member in archive} == {(0, 0, 0, "")}


def test_what_was_built_is_read_back() -> None:
    modules, data = parts()
    read = read_bundle(build_bundle("pol_7", modules, data, ECKey.generate_key("P-256")))
    assert (read.revision, read.modules, read.data) == ("pol_7", modules, data)


def test_text_beyond_ascii_survives() -> None:
    modules = {"a/a.rego": "package exchange.a\n\n# é\u2028\n"}
    assert read_bundle(build_bundle("pol_1", modules, {"exchange": {"rules": {"é": "ü"}}}, KEY)).modules == modules


def test_a_sheet_that_is_not_json_is_refused() -> None:
    with pytest.raises(BundleUnreadable, match=r"rules/a\.json"):
        served({"rules/a.json": "{"})


@pytest.mark.parametrize(
    "content",
    [b"", b"rubbish", gzip.compress(b"rubbish"), gzip.compress(b""), gzip.compress(b"\0" * (MAX_BYTES + 1)), bundle("pol_1")[:-20]],
    ids=["empty", "no gzip", "no tar", "empty tar", "a bomb", "cut short"],
)
def test_what_is_no_bundle_is_refused(content: bytes) -> None:
    with pytest.raises(BundleUnreadable):
        read_bundle(content)

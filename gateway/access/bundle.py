"""The bundle of a revision: the signed archive that OPA fetches and the embedded engine unpacks.

Format: OPA's bundle file format, with `.signatures.json` (https://www.openpolicyagent.org/docs/management-bundles).
Everything but the signature follows from the revision alone: files are sorted and carry no time or owner.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

NAME = "exchange"
"""The bundle's name in OPA's configuration, the one root that it owns in `data`, and the scope of its signature."""
KEY_ID = "policy"
"""The name of the signing key in OPA's configuration."""
MEDIA_TYPE = "application/vnd.openpolicyagent.bundles"
MAX_BYTES = 16 * 1024 * 1024
"""The most that a bundle may hold, unpacked."""


class BundleUnreadable(ValueError):
    """The archive is not a bundle of ours."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What is served of a revision: `modules` maps a path such as `main/main.rego` to its text, `data` is OPA's `data`."""

    revision: str
    modules: dict[str, str]
    data: dict[str, Any]


def served(files: Mapping[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Modules and data of a revision's files (path below `policies/` to text). Tests stay behind: they are not served.

    Rule sheets become `data.exchange.rules`, keyed by the name of their file. Raises `BundleUnreadable` for a sheet that is not JSON.
    """
    modules = {path: text for path, text in files.items() if path.endswith(".rego") and not path.endswith("_test.rego")}
    sheets: dict[str, Any] = {}
    for path, text in files.items():
        if path.startswith("rules/") and path.endswith(".json"):
            sheets[PurePosixPath(path).stem] = _parse(text, path)
    return modules, {"exchange": {"rules": sheets}}


def build_bundle(revision: str, modules: Mapping[str, str], data: Mapping[str, Any], signing_key: ECKey) -> bytes:
    """The gzipped tar that OPA takes, signed with ES256 by the private `signing_key`."""
    files = _files(revision, modules, data)
    claims = {"files": _hashes(files), "keyid": KEY_ID, "scope": NAME}
    token = jwt.encode({"alg": "ES256", "kid": KEY_ID}, claims, signing_key)
    return gzip.compress(tar({**files, ".signatures.json": canonical({"signatures": [token]})}), mtime=0)


def content_digest(revision: str, modules: Mapping[str, str], data: Mapping[str, Any]) -> str:
    """SHA-256, in hex, over names and hashes of all that is signed: the same whenever the content is the same."""
    return hashlib.sha256(canonical(_hashes(_files(revision, modules, data)))).hexdigest()


def read_bundle(content: bytes) -> Bundle:
    """Unpack. Raises `BundleUnreadable`. Does not check the signature: that is for whoever fetches it over a network."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(_unzipped(content)), mode="r:") as archive:
            for member in archive:
                held = archive.extractfile(member)
                if held is not None:
                    files[member.name] = held.read()
        manifest = json.loads(files[".manifest"])
        modules = {path: text.decode("utf-8") for path, text in files.items() if path.endswith(".rego")}
        return Bundle(str(manifest["revision"]), modules, json.loads(files["data.json"]))
    except (OSError, EOFError, tarfile.TarError, KeyError, TypeError, ValueError) as error:
        raise BundleUnreadable(f"not a bundle: {type(error).__name__}") from error


def _files(revision: str, modules: Mapping[str, str], data: Mapping[str, Any]) -> dict[str, bytes]:
    manifest = {"revision": revision, "roots": [NAME], "rego_version": 1}
    return {
        ".manifest": canonical(manifest),
        "data.json": canonical(data),
        **{path: modules[path].encode("utf-8") for path in sorted(modules)},
    }


def _hashes(files: Mapping[str, bytes]) -> list[dict[str, str]]:
    # OPA hashes JSON over its canonical form, which is how it is written here, and Rego over its bytes.
    return [{"algorithm": "SHA-256", "hash": hashlib.sha256(content).hexdigest(), "name": name} for name, content in sorted(files.items())]


def tar(files: Mapping[str, bytes]) -> bytes:
    """A tar of these files in the order of their names, without times or owners."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _unzipped(content: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
        unpacked = stream.read(MAX_BYTES + 1)
    if len(unpacked) > MAX_BYTES:
        raise ValueError("too large")
    return unpacked


def canonical(document: object) -> bytes:
    """JSON with sorted keys and no spaces, over which OPA hashes."""
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8")


def _parse(text: str, path: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleUnreadable(f"{path} is not JSON") from error

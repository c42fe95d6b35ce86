"""The archive of a revision: what anyone with the right may fetch, and whose SHA-256 is the revision's digest.

A gzipped tar that `opa test --bundle` and `opa eval --bundle` take: modules, tests, the rule sheets as they were written and as OPA's
`data.json`. Its bytes follow from the files alone, on any machine: the tar has no times or owners, and the gzip (RFC 1952) holds
stored blocks (RFC 1951 section 3.2.4), which every compressor would otherwise write in its own way.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping

from gateway.access.bundle import canonical, served, tar

_STORED_BLOCK = 0xFFFF
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def archive_of(files: Mapping[str, str]) -> bytes:
    """The archive of these files, path below `policies/` to text. Raises `BundleUnreadable` for a rule sheet that is not JSON."""
    _, data = served(files)
    manifest = {"roots": ["exchange"], "rego_version": 1}
    content = {path: text.encode("utf-8") for path, text in files.items()}
    return _stored_gzip(tar(content | {".manifest": canonical(manifest), "data.json": canonical(data)}))


def digest_of(files: Mapping[str, str]) -> str:
    """SHA-256 of the archive of these files, in hex. Raises `BundleUnreadable`."""
    return hashlib.sha256(archive_of(files)).hexdigest()


def _stored_gzip(content: bytes) -> bytes:
    blocks = [content[start : start + _STORED_BLOCK] for start in range(0, len(content), _STORED_BLOCK)] or [b""]
    parts = [_GZIP_HEAD]
    for place, block in enumerate(blocks, 1):
        parts += (struct.pack("<BHH", place == len(blocks), len(block), len(block) ^ 0xFFFF), block)
    parts.append(struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF))
    return b"".join(parts)

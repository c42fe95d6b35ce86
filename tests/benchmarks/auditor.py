"""What it takes an auditor to verify a log of a million entries that lies on their disk, by the one file that they run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from datetime import timedelta
from pathlib import Path

from gateway.audit import verify
from gateway.audit.record import Entry, seal
from gateway.database import rfc3339
from tests.audit.book import ACTIVATED, BEGAN, ORIGIN, Line, Signer, contract, decision, parts, put, release, root
from tests.benchmarks.measured import Measured
from tests.benchmarks.stage import Stage

ENTRIES = 1_000_000
RELEASES = 9
"""For each decision."""


def verify_1m(_stage: Stage) -> Measured:
    """Everything that the verifier checks, from the first leaf on: wall clock, and the most memory that it held."""
    with tempfile.TemporaryDirectory(prefix="exchange-log-") as folder:
        # Written by a process of its own: the memory of who starts a program counts as the program's own at first.
        vkey = subprocess.run([sys.executable, "-m", __name__, folder], capture_output=True, text=True, check=True).stdout.strip()
        began = time.monotonic()
        words = [sys.executable, "-I", verify.__file__, folder, "--key", vkey]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            found = json.load(process.stdout)
            _, _, used = os.wait4(process.pid, 0)
            took = time.monotonic() - began
    if not found["ok"] or found["opened"] != ENTRIES:
        raise ValueError(f"the log does not verify: {found['broken'][:1]}")
    results = {"audit_verify_1m_s": took, "audit_verify_mb": used.ru_maxrss / 1024}
    return Measured(results, f"{used.ru_utime + used.ru_stime:.1f} s of processor time")


def _write_log(folder: Path, count: int) -> str:
    """A log in which everything holds, written as it is made; its verifier key."""
    signer, hashes, bundle = Signer(), list[bytes](), list[bytes]()
    with (folder / "entries.jsonl").open("wb") as file:
        for index in range(count):
            sealed = seal(_entry(index), rfc3339(BEGAN + timedelta(milliseconds=index)))
            file.write(Line(sealed, sealed.leaf).told(index))
            hashes.append(sealed.leaf_hash)
            bundle.append(len(sealed.leaf).to_bytes(2) + sealed.leaf)
            if len(bundle) == 256 or index == count - 1:
                put(folder, "entries", index // 256, len(bundle), b"".join(bundle))
                bundle.clear()
    body = f"{ORIGIN}\n{count}\n{b64encode(root(hashes)).decode()}\n"
    (folder / "checkpoint").write_text(f"{body}\n{signer.line(body)}")
    level = 0
    while hashes:
        for number, tile in enumerate(parts(hashes)):
            put(folder, level, number, len(tile), b"".join(tile))
        level, hashes = level + 1, [root(tile) for tile in parts(hashes) if len(tile) == 256]
    return signer.vkey


def _entry(index: int) -> Entry:
    first = (ACTIVATED, contract("proposed", 2), contract("activated", 3))
    if index < len(first):
        return first[index]
    number, place = divmod(index - len(first), RELEASES + 1)
    return decision(number) if place == 0 else release(3, by=f"dec_{number}")


if __name__ == "__main__":
    print(_write_log(Path(sys.argv[1]), ENTRIES))

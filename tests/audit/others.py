"""Programs of others that verify a transparency log: Go's own packages, and Tessera's `fsck`."""

from __future__ import annotations

import subprocess
from pathlib import Path

FSCK_WELL = "Successfully fsck'd log with size"


def go_verifies(programs: Path, prefix: str, vkey: str, seen: Path | None = None) -> tuple[int, str]:
    """(size, "") if `golang.org/x/mod/sumdb` accepts the log at this URL, else (-1, why). `seen` keeps the checkpoint for the next time."""
    words = [str(programs / "tlog"), prefix, vkey, *([str(seen)] if seen else [])]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    return (int(done.stdout), "") if done.returncode == 0 else (-1, done.stderr.strip())


def fsck_verifies(programs: Path, prefix: str, vkey: str, folder: Path) -> bool:
    """True if `fsck` says that it is well: its exit code is 0 whatever it found."""
    key = folder / "vkey"
    key.write_text(vkey, "ascii")
    words = [str(programs / "fsck"), "-N", "16", "-ui=false", "-storage_url", f"{prefix}/", "-public_key", str(key)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    except subprocess.TimeoutExpired:
        return False
    return FSCK_WELL in done.stdout + done.stderr

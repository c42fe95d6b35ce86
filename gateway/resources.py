"""Where the files that ship beside the code are: the same in a checkout and in an installation."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = ROOT / "schemas"
POLICIES = ROOT / "policies"

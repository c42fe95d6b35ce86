"""The policies that ship, and what is built from them for a test."""

from __future__ import annotations

import json
from typing import Any

from joserfc.jwk import ECKey

from gateway.access.bundle import build_bundle, served
from gateway.access.revisions import read_files
from gateway.resources import POLICIES, SCHEMAS

KEY = ECKey.generate_key("P-256")
"""Signs the bundles of this run."""
SLUG = "port-credit-footfall"


def files() -> dict[str, str]:
    """Every file of the shipped revision, tests among them: path below `policies/` to text."""
    return read_files(POLICIES)


def parts() -> tuple[dict[str, str], dict[str, Any]]:
    """Modules and data of the shipped revision."""
    return served(files())


def bundle(revision: str, modules: dict[str, str] | None = None, rules: dict[str, Any] | None = None) -> bytes:
    """A signed bundle of the shipped revision, or of these modules and rule sheets in place of its own."""
    shipped_modules, shipped_data = parts()
    data = shipped_data if rules is None else {"exchange": {"rules": rules}}
    return build_bundle(revision, shipped_modules if modules is None else modules, data, KEY)


def facts() -> dict[str, Any]:
    """A partner receives footfall for transit planning under a contract in force: allowed."""
    document: dict[str, Any] = json.loads((SCHEMAS / "policy-input.json").read_text("utf-8"))["examples"][0]
    return document


def answering(rego: str) -> dict[str, str]:
    """Modules of a revision whose whole policy is this text, in the package that is asked."""
    return {"main/main.rego": f"package exchange.main\n\n{rego}\n"}

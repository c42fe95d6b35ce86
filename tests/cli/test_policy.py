"""Policy on the command line: an engineer changes it in Rego and by rule sheet, a second officer agrees, each signed in as a person."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import commands
from gateway.resources import POLICIES
from tests.e2e.district import FOOTFALL, District
from tests.engines import Engines
from tests.gateway import Gateway
from tests.officers import AT_ONCE, PASSWORD, Officers


class Terminal:
    """Somebody at a terminal of their own, who has signed in by a local account."""

    def __init__(self, gateway: Gateway, folder: Path, name: str) -> None:
        secret = folder / f"{name}.password"
        secret.write_text(PASSWORD)
        secret.chmod(0o600)
        self.environment = {
            "EXCHANGE_URL": gateway.url,
            "EXCHANGE_PASSWORD_FILE": str(secret),
            "XDG_STATE_HOME": str(folder / name),
        }
        assert self.try_("login", "--local", name).exit_code == 0

    def try_(self, *words: str) -> Result:
        return CliRunner().invoke(commands(), list(words), env=self.environment)

    def type(self, *words: str) -> Any:
        done = self.try_(*words, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)


@pytest.fixture
def gateway(engine_folder: Path, tmp_path: Path) -> Iterator[tuple[Gateway, Terminal, Terminal]]:
    made = Gateway(Engines(engine_folder / f"policy-{tmp_path.name}"), tmp_path / "gateway", AT_ONCE)
    try:
        Officers(made)
        made.start()
        yield made, Terminal(made, tmp_path, "ada"), Terminal(made, tmp_path, "ben")
    finally:
        made.close()


def test_a_folder_of_policies_is_drafted_refused_mended_agreed_on_and_activated(
    gateway: tuple[Gateway, Terminal, Terminal], tmp_path: Path
) -> None:
    _, ada, ben = gateway
    folder = tmp_path / "policies"
    shutil.copytree(POLICIES, folder)
    module = folder / "checks" / "dataset" / "dataset.rego"
    right = module.read_text("utf-8")
    module.write_text(right.replace("input.dataset.retired == true", "input.dataset.retird == true"), "utf-8")
    revision = ada.type("policy", "draft", str(folder), "--title", "Retired datasets")["id"]
    refused = ada.try_("policy", "propose", revision)
    assert refused.exit_code == 1
    assert "checks/dataset/dataset.rego" in refused.stderr
    assert "input.dataset.retird is no fact" in refused.stderr
    module.write_text(right, "utf-8")
    ada.type("policy", "put", revision, "checks/dataset/dataset.rego", str(module))
    sheet = json.loads(ada.try_("policy", "get", revision, f"rules/{FOOTFALL}.json").stdout)
    coarser = tmp_path / "sheet.json"
    coarser.write_text(json.dumps(sheet | {"rules": sheet["rules"][:1]}))
    ada.type("policy", "put", revision, f"rules/{FOOTFALL}.json", str(coarser))
    assert ada.type("policy", "propose", revision)["state"] == "proposed"
    seen = ben.try_("policy", "preview", revision, "--days", "1")
    assert "0 of 0 contracts would change" in seen.stdout
    assert f"exchange policy approve {revision} --preview 1" in seen.stdout
    assert ada.try_("policy", "approve", revision, "--preview", "1").exit_code == 1
    assert ben.type("policy", "approve", revision, "--preview", "1")["state"] == "approved"
    former = ben.type("policy", "list", "--state", "active")[0]["id"]
    assert ben.type("policy", "activate", revision)["state"] == "active"
    assert ben.type("policy", "show", FOOTFALL)["rules"] == sheet["rules"][:1]
    bundle = tmp_path / "bundle.tar.gz"
    assert ben.try_("policy", "bundle", revision, str(bundle)).exit_code == 0
    assert hashlib.sha256(bundle.read_bytes()).hexdigest() == ben.type("policy", "show", revision)["digest"]
    assert ben.type("policy", "activate", former)["state"] == "active"
    gone = ada.type("policy", "draft")["id"]
    assert ada.type("policy", "retire", gone)["state"] == "retired"


def test_sheets_to_dos_and_reasons_are_read_in_english_and_in_french(gateway: tuple[Gateway, Terminal, Terminal]) -> None:
    running, ada, _ = gateway
    District(running)
    assert "sous pseudonyme" in ada.try_("policy", "show", FOOTFALL, "--language", "fr").stdout
    assert "as a pseudonym" in ada.try_("policy", "show", FOOTFALL).stdout
    assert f"No rule names the field /business of {FOOTFALL}" in ada.try_("policy", "todo").stdout
    asked = ("policy", "why", "--dataset", FOOTFALL, "--purpose", "advertising")
    assert "The rules of this dataset do not allow this purpose." in ada.try_(*asked).stdout
    french = ada.try_(*asked, "--language", "fr").stdout
    assert french.startswith("Non.")
    assert "Ce qui a compté" in french

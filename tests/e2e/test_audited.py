"""As an auditor would: with the URL, the log's key and a token, check the log, prove a delivery, decide again, find a forged copy."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from connectors.client import Client
from gateway.audit import verify
from gateway.audit.tiles import Tiles
from gateway.cli import commands
from tests.audit.book import Signer
from tests.e2e.district import District, pulled, visit
from tests.gateway import Gateway


class Auditor:
    """Somebody at a terminal with the contract's text in a file, and what they type."""

    def __init__(self, gateway: Gateway, folder: Path, contract_text: str) -> None:
        self.folder = folder
        self.gateway = gateway
        self.key = folder / "contract.md"
        self.key.write_text(contract_text)
        made = gateway.made
        self.environment = {"EXCHANGE_URL": gateway.issuer, "EXCHANGE_CLIENT_ID": made.client_id}
        self.environment |= {"EXCHANGE_CLIENT_SECRET": made.client_secret}

    def try_(self, *words: str) -> Result:
        return CliRunner().invoke(commands(), ["audit", *words], env=self.environment)

    def verify(self, *words: str) -> dict[str, Any]:
        done = self.try_("verify", "--key", str(self.key), "--json", *words)
        assert done.exit_code in {0, 1}, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert done.exit_code == (0 if found["ok"] else 1)
        return found

    def settled(self) -> int:
        """The size of the log, once all that was written is in it."""
        deadline = time.monotonic() + 20
        operator, since = self.gateway.operator(), f"{datetime.now(UTC) - timedelta(seconds=20):%Y-%m-%dT%H:%M:%SZ}"
        while any(item["index"] is None for item in operator.get("/v1/audit/entries", limit=500, since=since)["items"]):
            assert time.monotonic() < deadline, "the log does not grow"
            time.sleep(0.05)
        return int(operator.request("GET", "/audit/checkpoint", headers={"Accept": "*/*"}).text.split("\n")[1])


@pytest.fixture(scope="module")
def startup(gateway: Gateway) -> Client:
    return gateway.partner("Start-up under audit")


@pytest.fixture(scope="module")
def story(district: District, startup: Client) -> str:
    """A contract under which something was delivered, and somebody has taken their consent back."""
    going, _ = district.consent("nia"), district.consent("oda")
    contract = district.contract(startup)
    district.publish(visit("nia"), visit("oda"))
    assert len(pulled(startup, contract)) >= 2
    district.provider.post(f"/v1/consents/{going}/withdraw", {})
    pulled(startup, contract)
    return contract


@pytest.fixture
def auditor(gateway: Gateway, startup: Client, story: str, tmp_path: Path) -> Auditor:
    text = startup.request("GET", f"/v1/contracts/{story}/text", headers={"Accept": "*/*"}).text
    made = Auditor(gateway, tmp_path, text)
    made.settled()
    return made


def test_all_rules_hold_of_what_the_exchange_did(auditor: Auditor) -> None:
    found = auditor.verify("--state", str(auditor.folder / "seen.json"))
    assert found["broken"] == []
    assert found["opened"] == found["size"] > 10
    again = auditor.verify("--state", str(auditor.folder / "seen.json"))
    assert (again["ok"], again["opened"] >= found["opened"]) == (True, True)


def test_the_file_alone_does_it_with_a_token(auditor: Auditor, gateway: Gateway) -> None:
    operator = gateway.operator()
    assert operator.credentials is not None
    environment = {"EXCHANGE_TOKEN": operator.credentials.token(operator.http), "PATH": os.environ["PATH"]}
    words = [sys.executable, "-I", verify.__file__, gateway.issuer, "--key", str(auditor.key)]
    ran = subprocess.run(words, cwd=auditor.folder, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stdout


def test_a_bundle_of_a_search_verifies_offline_and_a_changed_one_does_not(auditor: Auditor, story: str) -> None:
    bundle, forged = auditor.folder / "part.zip", auditor.folder / "forged.zip"
    done = auditor.try_("export", "--format", "bundle", "--key", str(auditor.key), "--out", str(bundle), "--contract", story)
    assert done.exit_code == 0, done.stderr
    found = auditor.verify(str(bundle))
    assert (found["ok"], found["opened"] > 3) == (True, True)
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(forged, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b'"events":', b'"events":1') if name == "entries.jsonl" else old.read(name))
    assert {broken["rule"] for broken in auditor.verify(str(forged))["broken"]} == {"proof"}


def test_a_bundle_of_everything_has_the_whole_log_in_it(auditor: Auditor) -> None:
    bundle = auditor.folder / "all.zip"
    done = auditor.try_("export", "--format", "bundle", "--key", str(auditor.key), "--out", str(bundle))
    assert done.exit_code == 0, done.stderr
    found = auditor.verify(str(bundle))
    assert (found["broken"], found["opened"], found["hidden"]) == ([], found["size"], 0)
    with zipfile.ZipFile(bundle) as archive:
        assert {"README.txt", "key", "checkpoint", "verify.py", "entries.jsonl", "tile/entries/000"} <= {
            name.split(".p/")[0] for name in archive.namelist()
        }


def test_export_writes_tables_and_lines_of_what_a_search_finds(auditor: Auditor, story: str) -> None:
    table, lines = auditor.folder / "part.csv", auditor.folder / "part.jsonl"
    for form, out in (("csv", table), ("jsonl", lines)):
        assert auditor.try_("export", "--format", form, "--out", str(out), "--contract", story, "--kind", "release").exit_code == 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    entries = [json.loads(line) for line in lines.read_text().splitlines()]
    assert rows
    assert [row["index"] for row in rows] == [str(entry["index"]) for entry in entries]
    assert {row["contract"] for row in rows} == {story}
    assert sum(int(row["events"]) for row in rows) == sum(entry["entry"]["closed"]["events"] for entry in entries)


def test_receipts_of_the_sdk_are_in_the_log_and_one_that_is_not_is_told(
    auditor: Auditor, gateway: Gateway, startup: Client, story: str
) -> None:
    receipts = auditor.folder / "receipts.jsonl"
    entry = next(startup.pull(story)).audit_entry
    auditor.settled()

    def keep(audit_entry: str, at: str) -> None:
        with receipts.open("a") as file:
            file.write(json.dumps({"at": at, "kind": "pull", "of": story, "events": 1, "audit_entry": audit_entry}) + "\n")

    keep(entry, "2026-11-23T12:00:00Z")
    keep(f"sha-256=:{'A' * 43}=:", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")  # of now: it may be on its way
    assert auditor.verify("--receipts", str(receipts), "--public")["broken"] == []
    keep(f"sha-256=:{'A' * 43}=:", "2026-11-23T12:00:00Z")
    (broken,) = auditor.verify("--receipts", str(receipts), "--public")["broken"]
    assert (broken["rule"], broken["leaf_hash"]) == ("receipt", "00" * 32)


def test_usage_is_what_the_releases_add_up_to(auditor: Auditor, gateway: Gateway, startup: Client, story: str) -> None:
    days = startup.get(f"/v1/contracts/{story}/usage")["days"]
    items = gateway.operator().get("/v1/audit/entries", contract=story, kind="release", limit=500)["items"]
    closed = [item["entry"]["closed"] for item in items if "closed" in item["entry"]]
    assert sum(day["events"] for day in days) == sum(count["events"] for count in closed) > 0
    assert sum(day["bytes"] for day in days) == sum(count["bytes"] for count in closed)
    assert {day["day"] for day in days} == {item["at"][:10] for item in items}


def test_watch_is_quiet_while_all_is_well_and_raises_when_the_log_is_another(auditor: Auditor) -> None:
    state, words = auditor.folder / "watch.json", ["watch", "--key", str(auditor.key), "--once"]
    assert auditor.try_(*words, "--state", str(state)).exit_code == 0
    assert auditor.try_(*words, "--state", str(state), "--silent", "3600").exit_code == 0
    words[2] = Signer(f"{auditor.gateway.issuer.partition('://')[2]}/audit").vkey
    raised = auditor.folder / "raised"
    done = auditor.try_(*words, "--state", str(auditor.folder / "another.json"), "--command", f"tee {raised}")
    assert done.exit_code == 1
    assert "signature" in done.stderr
    assert "signature" in raised.read_text()


def test_watch_raises_when_no_entry_has_come_for_too_long(auditor: Auditor) -> None:
    words = ["watch", "--key", str(auditor.key), "--state", str(auditor.folder / "quiet.json"), "--once"]
    record_one(auditor)
    assert auditor.try_(*words, "--silent", "60").exit_code == 0
    deadline = time.monotonic() + 20
    while (done := auditor.try_(*words, "--silent", "1")).exit_code == 0:  # until a second has passed without an entry
        assert time.monotonic() < deadline
    assert done.stderr.startswith("silent     no entry has come for 1 seconds")


def test_watch_raises_when_entries_wait_too_long_for_a_checkpoint(auditor: Auditor) -> None:
    words = ["watch", "--key", str(auditor.key), "--state", str(auditor.folder / "stopping.json"), "--stopped", "1"]
    assert auditor.try_(*words, "--once").exit_code == 0
    raised = auditor.folder / "stopped"
    with not_growing(auditor.gateway):
        record_one(auditor)
        done = auditor.try_(*words, "--every", "0.1", "--command", f"tee {raised}")
    assert done.exit_code == 1
    assert "is in no checkpoint" in done.stderr
    assert raised.read_text().startswith("stopped    the entry of ")
    auditor.settled()
    assert auditor.try_(*words, "--once").exit_code == 0


def record_one(auditor: Auditor) -> None:
    """Something that gets an entry: a client is made and revoked."""
    auditor.gateway.partner(f"Passing {time.monotonic_ns()}")


@contextmanager
def not_growing(gateway: Gateway) -> Iterator[None]:
    """The log of this gateway gets no checkpoint meanwhile: somebody else holds the lock on its directory."""
    with ExitStack() as held:
        deadline = time.monotonic() + 20
        while not held.enter_context(Tiles(gateway.audit_dir).alone()):
            assert time.monotonic() < deadline, "somebody holds it for ever"
            time.sleep(0.01)
        yield


def test_a_recorded_decision_is_decided_again_by_a_stock_opa(auditor: Auditor, gateway: Gateway, story: str, opa_binary: Path) -> None:
    items = gateway.operator().get("/v1/audit/entries", contract=story, kind="decision", limit=500)["items"]
    decisions = {item["entry"]["decision"] for item in items if item["entry"]["action"] != "denied_again"}
    assert decisions
    for decision in decisions:
        done = auditor.try_("replay", decision, "--opa", str(opa_binary), "--json")
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["replayed"] == "the same answer"

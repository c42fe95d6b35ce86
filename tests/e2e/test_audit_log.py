"""The audit log of a running exchange, as strangers see it: their verifiers, its receipts, and how soon."""

from __future__ import annotations

import json
import time
import urllib.request
from base64 import b64decode
from pathlib import Path
from typing import Any

import httpx2
import pytest

from connectors.client import Client
from gateway.audit.note import log_identity
from gateway.doctor import examine
from gateway.keys import b64, read_keys
from gateway.settings import Settings
from tests.audit.others import fsck_verifies, go_verifies
from tests.e2e.district import FOOTFALL, District, visit
from tests.e2e.listener import until
from tests.e2e.wire import assert_calm
from tests.engines import Engines
from tests.gateway import READER, Gateway

SOON_S = 2.0
"""In which a receipt leads to its proof."""


@pytest.fixture
def gateway(engines: Engines, tmp_path: Path) -> Any:
    with Gateway(engines, tmp_path / "gateway") as running:
        yield running


def vkey_of(settings: Settings) -> str:
    return log_identity(read_keys(settings.resolved_key_file), settings)[1]


def published(district: District, client: Client) -> str:
    """Publish an event; the leaf hash that the answer names."""
    event = {"Content-Type": "application/cloudevents+json"}
    answer = client.request("POST", f"/v1/datasets/{FOOTFALL}/events", body=visit("ada", time.time_ns() % 1_000_000), headers=event)
    header = answer.headers["Audit-Entry"]
    return b64(b64decode(header.removeprefix("sha-256=:").removesuffix(":")))


def test_a_running_exchange_is_accepted_by_verifiers_of_others(gateway: Gateway, tlog_programs: Path, tmp_path: Path) -> None:
    district = District(gateway)
    district.contract(gateway.partner("Start-up", scopes=READER))
    prefix, vkey = f"{gateway.url}/audit", vkey_of(gateway.settings())
    sizes = []
    for _ in range(3):
        district.publish(visit("ada", 1))
        until(lambda: no_entry_waits(gateway), "all is published")
        size, why = go_verifies(tlog_programs, prefix, vkey, tmp_path / "seen")
        assert why == ""
        sizes.append(size)
    assert sizes == sorted(set(sizes)), "it grows"
    assert fsck_verifies(tlog_programs, prefix, vkey, tmp_path)
    assert_calm(gateway)


def no_entry_waits(gateway: Gateway) -> bool:
    page = gateway.operator().get("/v1/audit/entries?limit=500")
    return all(item["proof"] is not None for item in page["items"])


def test_a_receipt_leads_to_its_proof_within_two_seconds(gateway: Gateway) -> None:
    district = District(gateway)
    provider = district.provider
    receipt = ""
    for _ in range(3):
        receipt = published(district, provider)
        began = time.monotonic()
        until(lambda found=receipt: provider.get(f"/v1/audit/entries/by-hash/{found}")["proof"] is not None, "the proof")  # type: ignore[misc]
        assert time.monotonic() - began < SOON_S
    found = provider.get(f"/v1/audit/entries/by-hash/{receipt}")
    assert provider.get(f"/v1/audit/entries/{found['index']}/proof")["leaf"] == found["leaf"]


def test_an_idle_exchange_signs_nothing(gateway: Gateway) -> None:
    operator = gateway.operator()
    operator.get("/v1/me")
    until(lambda: no_entry_waits(gateway), "all is published")
    with httpx2.Client(base_url=gateway.url, trust_env=False) as stranger:
        first = stranger.get("/audit/checkpoint").content
        time.sleep(SOON_S)  # in which it would have signed
        assert stranger.get("/audit/checkpoint").content == first


def test_a_stopped_log_is_told_and_stops_nothing_else(gateway: Gateway) -> None:
    district = District(gateway)
    until(lambda: no_entry_waits(gateway), "all is published")
    assert parts(gateway)["audit_log"] == "ok"
    (gateway.audit_dir / "checkpoint").write_bytes(b"somebody was here\n")
    published(district, district.provider)
    until(lambda: parts(gateway)["audit_log"] == "stopped", "the log is stopped")
    receipt = published(district, district.provider)
    assert district.provider.get(f"/v1/audit/entries/by-hash/{receipt}")["index"] is None
    (finding,) = (finding for finding in examine(gateway.settings()) if finding.part == "audit log")
    assert (finding.well, "damaged" in finding.says) == (False, True)
    with urllib.request.urlopen(f"{gateway.admin_url}/metrics/", timeout=5) as answer:
        assert "exchange_audit_log_stopped 1.0" in answer.read().decode()


def parts(gateway: Gateway) -> dict[str, str]:
    with urllib.request.urlopen(f"{gateway.url}/readyz", timeout=5) as answer:
        told: dict[str, str] = json.load(answer)["parts"]
    return told

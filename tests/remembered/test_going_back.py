"""The drill of docs/operations.md: last night's database is restored, and what was forbidden since stays so."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from connectors.client import Client, ProblemError
from tests.e2e.district import FOOTFALL, District, pulled, visit
from tests.gateway import READER, Gateway, GatewayFailed
from tests.remembered.dumps import Dump


def names(events: list[dict[str, Any]]) -> set[str]:
    return {event["id"].partition("-")[0] for event in events}


def exchange(gateway: Gateway, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway.cli", *words]
    return subprocess.run(command, env=gateway._environment(), capture_output=True, text=True, check=False, timeout=60)


def refused(gateway: Gateway) -> str:
    with pytest.raises(GatewayFailed) as failed:
        gateway.start()
    return str(failed.value)


def test_what_was_withdrawn_and_ended_stays_so_after_last_nights_database_is_restored(new_gateway: Callable[[], Gateway]) -> None:
    gateway = new_gateway()
    district = District(gateway)
    consumer, other = (gateway.partner(name, scopes=READER) for name in ("Start-up", "Other"))
    consents = {name: district.consent(name) for name in ("ada", "bea")}
    contract, ended = district.contract(consumer), district.contract(other)
    district.publish(*(visit(name) for name in consents))
    assert names(pulled(consumer, contract)) == {"ada", "bea"}
    gateway.stop()
    dump = Dump(gateway)

    gateway.start()
    district.provider.post(f"/v1/consents/{consents['ada']}/withdraw")
    other.post(f"/v1/contracts/{ended}/end", {"reason": "done"})
    time.sleep(1)
    gateway.stop()
    dump.put_back()

    assert "exchange restore" in refused(gateway)
    tried = exchange(gateway, "restore", "--dry-run", "--json")
    assert tried.returncode == 0, tried.stderr
    assert len(json.loads(tried.stdout)["reapplied"]) == 2
    done = exchange(gateway, "restore", "--json")
    assert done.returncode == 0, done.stderr
    gateway.start()

    assert names(pulled(consumer, contract)) == {"bea"}
    assert other.get(f"/v1/contracts/{ended}")["state"] == "ended"
    assert district.provider.get(f"/v1/consents/{consents['ada']}")["state"] == "withdrawn"
    again = exchange(gateway, "doctor", "--json")
    print(again.stdout)

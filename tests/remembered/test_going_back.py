"""The drill of docs/operations.md: last night's database is restored, and what was forbidden since stays so."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from connectors.client import Client, ProblemError
from consent.models import ConsentRecord
from gateway.access.revisions import active
from gateway.changes import ChangeRow, Counter, last
from gateway.doctor import examine
from gateway.restore import Restored, restore
from gateway.setup import activate_policies
from tests.e2e.district import FOOTFALL, STOPS, District, dataset_document, pulled, visit
from tests.e2e.listener import Listener, until
from tests.engines import Kafka
from tests.faults.test_policy_engine import with_rules
from tests.gateway import READER, Gateway, GatewayFailed
from tests.remembered.dumps import Dump

PERSONAL = dataset_document(FOOTFALL)["personal_pointers"]
NewGateway = Callable[[], Gateway]


def names(events: list[dict[str, Any]]) -> set[str]:
    return {event["id"].partition("-")[0] for event in events}


def exchange(gateway: Gateway, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway.cli", *words]
    return subprocess.run(command, env=gateway._environment(), capture_output=True, text=True, check=False, timeout=90)


def applied_again(gateway: Gateway, *, dry_run: bool = False) -> Restored:
    return restore(gateway.settings(), dry_run=dry_run, progress=lambda _done, _of: None)


def refused(gateway: Gateway) -> str:
    with pytest.raises(GatewayFailed) as failed:
        gateway.start()
    return str(failed.value)


def patched(client: Client, path: str, **changes: Any) -> None:
    client.patch(path, changes, etag=client.request("GET", path).headers["ETag"])


@dataclass
class Yesterday:
    """A district at night: who had consented, and who received what."""

    district: District
    consumer: Client
    contract: str
    consents: dict[str, str]

    @classmethod
    def of(cls, gateway: Gateway) -> Yesterday:
        district = District(gateway)
        consumer = gateway.partner("Start-up", scopes=READER)
        made = cls(district, consumer, district.contract(consumer), {name: district.consent(name) for name in ("ada", "bea", "carl")})
        district.publish(*(visit(name) for name in made.consents))
        assert made.received() == {"ada", "bea", "carl"}
        return made

    def received(self) -> set[str]:
        return names(pulled(self.consumer, self.contract))


def test_what_was_forbidden_stays_so_after_last_nights_database_is_restored(new_gateway: NewGateway, tmp_path: Path) -> None:
    gateway = new_gateway()
    yesterday = Yesterday.of(gateway)
    district, provider, operator = yesterday.district, yesterday.district.provider, gateway.operator()
    ending, pausing, suspended, revoked = (gateway.partner(name, scopes=READER) for name in ("Ending", "Pausing", "Suspended", "Revoked"))
    rotated = gateway.partner("Rotated", scopes=READER, strong=False)
    ended, paused = district.contract(ending), district.contract(pausing)
    provider.post("/v1/datasets", dataset_document(STOPS))
    organization = suspended.get("/v1/me")["organization"]["id"]
    dump = Dump(gateway)

    provider.post(f"/v1/consents/{yesterday.consents['ada']}/withdraw")
    provider.post("/v1/subjects/erase", {"dataset": FOOTFALL, "subject": "carl"})
    ending.post(f"/v1/contracts/{ended}/end", {"reason": "done"})
    provider.post(f"/v1/contracts/{paused}/suspend", {"reason": "look into it"})
    operator.post(f"/v1/organizations/{organization}/suspend")
    operator.post(f"/v1/clients/{id_of(revoked)}/revoke")
    secret = operator.post(f"/v1/clients/{id_of(rotated)}/rotate")["client_secret"]
    patched(provider, f"/v1/datasets/{FOOTFALL}", classification="sensitive", personal_pointers=[*PERSONAL, "/dwell_seconds"])
    patched(provider, f"/v1/datasets/{STOPS}", licence_revoked=True)
    activate_policies(gateway.settings(), with_rules(tmp_path, "fewer", lambda rules: rules[:1]))
    gateway.stop()
    digest = digest_of(gateway)
    dump.put_back()

    restore_as_the_drill_says(gateway)

    gateway.start()
    assert yesterday.received() == {"bea"}
    assert provider.get(f"/v1/consents/{yesterday.consents['ada']}")["state"] == "withdrawn"
    assert not provider.post("/v1/subjects/erase", {"dataset": FOOTFALL, "subject": "carl"})["found"]
    assert ending.get(f"/v1/contracts/{ended}")["state"] == "ended"
    assert pausing.get(f"/v1/contracts/{paused}")["state"] == "suspended"
    dataset = provider.get(f"/v1/datasets/{FOOTFALL}")
    assert dataset["classification"] == "sensitive"
    assert "/dwell_seconds" in dataset["personal_pointers"]
    assert provider.get(f"/v1/datasets/{STOPS}")["licence_revoked"]
    assert digest_of(gateway) == digest
    for out in (suspended, revoked, rotated):
        assert out.credentials is not None
        out.credentials.forget(None)
        with pytest.raises(ProblemError):
            out.get("/v1/contracts")
    gateway.client(id_of(rotated), secret=secret).get("/v1/contracts")
    until(lambda: all(finding.well for finding in examine(gateway.settings()) if finding.part == "audit log"), "the log goes on")


def restore_as_the_drill_says(gateway: Gateway) -> None:
    assert "database_went_back" in (said := refused(gateway))
    assert "exchange restore" in said
    (memory,) = (finding for finding in examine(gateway.settings()) if finding.part == "memory")
    assert not memory.well
    tried = applied_again(gateway, dry_run=True)
    command = exchange(gateway, "restore", "--json")
    assert command.returncode == 0, command.stderr + command.stdout
    done = json.loads(command.stdout)
    assert [thing["object"] for thing in done["reapplied"]] == [thing.object for thing in tried.reapplied]
    assert done["change"] > done["remembered"]
    assert done["adopted"] > 0
    assert applied_again(gateway).missing == 0


def id_of(client: Client) -> str:
    assert client.credentials is not None
    return client.credentials.client_id


def digest_of(gateway: Gateway) -> str:
    """The active policy's digest."""
    database = gateway.database()
    with database.reading() as session:
        revision = active(session)
    database.close()
    assert revision is not None
    return revision.digest


def test_a_gateway_that_runs_notices_stops_its_streams_and_serves_again_when_it_is_restored(new_gateway: NewGateway, kafka: Kafka) -> None:
    gateway = new_gateway()
    yesterday = Yesterday.of(gateway)
    database = gateway.database()
    with database.reading() as session:
        standby_has = last(session)
    yesterday.district.provider.post(f"/v1/consents/{yesterday.consents['ada']}/withdraw")
    with Listener(yesterday.consumer, yesterday.contract) as listener:
        until(lambda: remembered(gateway), "the withdrawal is remembered")
        with database.transaction() as session:
            session.execute(update(ConsentRecord).values(state="given", ended_at=None))
            session.execute(delete(ChangeRow).where(ChangeRow.n > standby_has))
            session.execute(update(Counter).values(n=standby_has))
        until(listener.gone.is_set, "the end of the stream")
    database.close()
    with pytest.raises(ProblemError) as told:
        yesterday.consumer.request("GET", f"/v1/contracts/{yesterday.contract}")
    assert told.value.code == "database_went_back"

    assert [thing.kind for thing in applied_again(gateway).reapplied] == ["consent_withdrawn"]
    until(lambda: gateway.is_ready(policy=True), "the next start")
    assert yesterday.received() == {"bea", "carl"}


def remembered(gateway: Gateway) -> bool:
    (memory,) = (finding for finding in examine(gateway.settings()) if finding.part == "memory")
    return memory.well and "wait" not in memory.says


def test_with_kafka_away_a_withdrawal_works_and_the_lag_is_told_until_it_is_remembered(new_gateway: NewGateway, kafka: Kafka) -> None:
    gateway = new_gateway()
    district = District(gateway)
    consent = district.consent("ada")
    until(lambda: lag(gateway) == 0, "all is remembered")
    kafka.kill()
    try:
        assert district.provider.post(f"/v1/consents/{consent}/withdraw")["state"] == "withdrawn"
        until(lambda: lag(gateway) > 0, "the lag is told")
        (memory,) = (finding for finding in examine(gateway.settings()) if finding.part == "memory")
        assert not memory.well
    finally:
        kafka.start()
    until(lambda: lag(gateway) == 0, "all is remembered again", 60)
    assert remembered(gateway)


def lag(gateway: Gateway) -> float:
    with urllib.request.urlopen(f"{gateway.admin_url}/metrics/", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith("exchange_remembered_lag ")).split()[1])

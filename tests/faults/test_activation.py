"""Policy that officers change while data flows, and the bad days of that: an engine that dies, a replica whose engine is silent."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import insert, select, update

from gateway.access.models import PolicyRevision
from gateway.contracts.models import Contract
from gateway.database import new_id, now
from tests.e2e.district import FOOTFALL, District, visit
from tests.e2e.listener import Listener, until
from tests.e2e.wire import assert_calm, send
from tests.engines import Engines, Kafka
from tests.gateway import READER, Gateway
from tests.officers import AT_ONCE, REVISIONS, Officers

NO_PLANNING = {
    "rules": [
        {
            "purposes": ["official-statistics"],
            "recipients": ["department"],
            "consent": "not_required",
            "legal_ground": "statute",
            "keep": {"/zone": "as_is"},
        }
    ]
}
COUNTS = ("read", "before", "after", "newly_delivered", "withheld")
COARSER = {
    "rules": [
        {
            "purposes": ["transit-planning"],
            "recipients": ["approved_organizations"],
            "consent": "required",
            "keep": {"/zone": "as_is", "/visitor": "pseudonymise"},
        }
    ]
}


@contextmanager
def an_office(engines: Engines, folder: Path, beside: int = 0, **environment: str) -> Iterator[tuple[list[Gateway], Officers]]:
    """A gateway with two officers, and `beside` it further replicas."""
    first = Gateway(engines, folder / "gateway-0", AT_ONCE | environment)
    gateways = [first]
    try:
        officers = Officers(first)
        first.start()
        for number in range(beside):
            gateways.append(Gateway(engines, folder / f"gateway-{number + 1}", AT_ONCE | environment, beside=first))
            gateways[-1].start()
        yield gateways, officers
    finally:
        for gateway in reversed(gateways):
            gateway.close()
    for gateway in gateways:
        assert_calm(gateway)


def test_an_officer_sees_who_loses_a_second_one_agrees_and_the_stream_ends(engines: Engines, tmp_path: Path) -> None:
    with an_office(engines, tmp_path) as ([gateway], officers):
        district = District(gateway)
        consumer = gateway.partner("Start-up", scopes=READER)
        contract = district.contract(consumer)
        district.consent("person-seen")
        district.publish(*(visit("person-seen", number) for number in range(20)), *(visit("person-silent", number) for number in range(10)))
        revision = officers.drafted(FOOTFALL, **NO_PLANNING)
        officers.done("POST", f"{REVISIONS}/{revision}/propose")
        result = officers.previewed(revision)["result"]
        seen, [group] = result["contracts"], result["decisions"]["changed"]
        assert (group["action"], group["purpose"], group["change"], group["decisions"]) == ("propose", "transit-planning", "loses", 1)
        [changed] = seen["changed"]
        assert (seen["in_force"], changed["contract"], changed["change"]) == (1, contract, "loses")
        assert changed["consumer"]["name"].startswith("Start-up")
        assert [reason["code"] for reason in changed["after"]["reasons"]] == ["purpose_not_covered"]
        assert "/zone" in changed["fields"]["lost"]
        counts = {"read": 30, "before": 20, "after": 0, "newly_delivered": 0, "withheld": 20}
        assert changed["events"] == counts | {"estimate": True}
        with Listener(consumer, contract) as listener:
            until(lambda: len(listener.events) == 20, "events under the first policy")
            officers.done("POST", f"{REVISIONS}/{revision}/approve", "ben", {"preview": 1})
            assert officers.activate(revision).json()["state"] == "active"
            ended = listener.wait_for_end()
            district.publish(visit("person-seen", 21))
        assert (ended["code"], len(listener.events)) == ("policy_denied", 20)
        told = [each for each in consumer.get("/v1/notices") if each["type"] == "policy.changed_for_you"]
        assert {each["data"]["change"] for each in told} == {"loses"}
        assert contract in {each["data"]["contract"] for each in told}
        why = send(consumer, "GET", f"/v1/decisions/{ended['decision_id']}").json()["why"]
        assert [each["pointer"] for each in why["mattered"]] == ["/purpose"]


def test_a_preview_tells_fields_and_events_and_does_not_mind_an_activation(engines: Engines, tmp_path: Path) -> None:
    with an_office(engines, tmp_path) as ([gateway], officers):
        district = District(gateway)
        consumer = gateway.partner("Start-up", scopes=READER)
        district.contract(consumer)
        district.consent("person-seen")
        district.publish(*(visit("person-seen", number) for number in range(10)))
        other = officers.agreed(officers.drafted(FOOTFALL, **NO_PLANNING))
        revision = officers.drafted(FOOTFALL, **COARSER)
        against = officers.active()
        made = officers.done("POST", f"{REVISIONS}/{revision}/previews", "ben", {"days": 1})
        assert officers.activate(other).status_code == 200
        number = made["number"]
        until(lambda: officers.done("GET", f"{REVISIONS}/{revision}/previews/{number}")["state"] != "running", "it is worked out")
        found = officers.done("GET", f"{REVISIONS}/{revision}/previews/{number}")
        assert (found["state"], found["against"]) == ("done", against)
        [changed] = found["result"]["contracts"]["changed"]
        assert changed["change"] == "changes"
        assert "/at" in changed["fields"]["lost"]
        assert (changed["events"]["before"], changed["events"]["after"]) == (10, 10)
        officers.done("POST", f"{REVISIONS}/{revision}/propose")
        stale = officers.call("POST", f"{REVISIONS}/{revision}/approve", "ben", {"preview": number})
        assert stale.json()["code"] == "stale"


def test_events_are_counted_for_every_contract_each_with_its_own_consents_and_history(engines: Engines, tmp_path: Path) -> None:
    with an_office(engines, tmp_path) as ([gateway], officers):
        district = District(gateway)
        named, other = (gateway.partner(name, scopes=READER) for name in ("Named", "Other"))
        contracts = [district.contract(named), district.contract(other)]
        organization = named.get("/v1/me")["organization"]
        district.consent("person-of-all")
        district.consent("person-of-one", recipients=[organization["id"] if isinstance(organization, dict) else organization])
        district.publish(*(visit(who, number) for who in ("person-of-all", "person-of-one", "person-silent") for number in range(20)))
        time.sleep(0.1)
        later = now()
        time.sleep(0.1)
        district.publish(*(visit("person-of-all", number) for number in range(20, 30)))
        gateway.stop()
        database = gateway.database()
        with database.transaction() as session:
            for contract in contracts:
                columns = {column.key: column for column in Contract.__table__.columns}
                row = dict(session.execute(select(*columns.values()).where(Contract.id == contract)).one()._mapping)
                copies = [{"history": "all"}] * 60 + [{"history": "none", "valid_from": later}] * 60
                session.execute(insert(Contract), [row | copy | {"id": new_id("con")} for copy in copies])
        database.close()
        gateway.start()
        seen = officers.previewed(officers.drafted(FOOTFALL, **NO_PLANNING))["result"]["contracts"]
        assert (seen["in_force"], len(seen["changed"])) == (242, 242)
        found = [(each["consumer"]["name"].split()[0], each["events"]) for each in seen["changed"]]
        told = Counter((name, events["read"], events["withheld"]) for name, events in found)
        assert told == {("Named", 70, 50): 61, ("Named", 10, 10): 60, ("Other", 70, 30): 61, ("Other", 10, 10): 60}
        assert {frozenset(events) for _, events in found} == {frozenset({*COUNTS, "estimate"})}


def test_a_contract_whose_purpose_has_left_the_tree_receives_nothing_and_breaks_nothing(engines: Engines, tmp_path: Path) -> None:
    with an_office(engines, tmp_path) as ([gateway], officers):
        district = District(gateway)
        consumer = gateway.partner("Start-up", scopes=READER)
        contract = district.contract(consumer)
        gateway.stop()
        database = gateway.database()
        with database.transaction() as session:
            session.execute(update(Contract).where(Contract.id == contract).values(purpose="phrenology"))
        database.close()
        gateway.start()
        answer = send(consumer, "GET", f"/v1/contracts/{contract}/events", contract=contract)
        assert (answer.status_code, [reason["code"] for reason in answer.json()["reasons"]]) == (403, ["purpose_missing"])
        made = officers.previewed(officers.drafted(FOOTFALL, **COARSER))
        assert made["result"]["contracts"] == {"in_force": 1, "changed": []}


def test_an_opa_that_is_killed_while_activating_lets_the_former_revision_answer_again(
    engines: Engines, kafka: Kafka, tmp_path: Path
) -> None:
    assert kafka.running
    with an_office(engines, tmp_path) as ([gateway], officers):
        first = officers.active()
        revision = officers.agreed(officers.drafted(FOOTFALL, **COARSER))
        assert gateway.opa is not None
        gateway.opa.kill()
        began = time.monotonic()
        answer = officers.activate(revision)
        assert (answer.status_code, answer.json()["code"]) == (409, "policy_not_taken")
        assert 9 < time.monotonic() - began < 25
        assert "OPA" in answer.json()["instances"][0]["says"]
        ready = send(gateway.client(), "GET", "/readyz")
        assert (ready.status_code, ready.json()["parts"]["policy"]) == (503, "left_behind")
        gateway.opa.start()
        until(lambda: gateway.is_ready(policy=True), "its engine has the former revision")
        assert officers.active() == first
        assert officers.activate(revision).json()["state"] == "active"


def test_a_replica_whose_opa_is_silent_gives_up_readiness_and_the_others_go_on(engines: Engines, kafka: Kafka, tmp_path: Path) -> None:
    assert kafka.running
    with an_office(engines, tmp_path, beside=1) as ([one, other], officers):
        revision = officers.agreed(officers.drafted(FOOTFALL, **COARSER))
        assert other.opa is not None
        other.opa.kill()
        assert officers.activate(revision).json()["state"] == "active"
        until(lambda: not other.is_ready(policy=False), "it gives up readiness")
        assert one.is_ready(policy=True)
        other.opa.start()
        until(lambda: other.is_ready(policy=True), "its engine has it")


def test_an_activation_that_its_replica_has_left_is_finished_by_another(engines: Engines, kafka: Kafka, tmp_path: Path) -> None:
    assert kafka.running
    with an_office(engines, tmp_path, beside=1) as ([one, other], officers):
        revision = officers.agreed(officers.drafted(FOOTFALL, **COARSER))
        assert other.opa is not None
        other.opa.kill()
        calling = threading.Thread(target=_until_it_breaks, args=(officers, revision, other))
        calling.start()
        until(lambda: _state(one, revision) == "activating", "it is under way")
        other.kill()
        calling.join()
        until(lambda: _state(one, revision) == "active", "the other replica settles it", 90)
        other.start()


def _until_it_breaks(officers: Officers, revision: str, at: Gateway) -> None:
    try:
        officers.activate(revision, at=at)
    except Exception:  # noqa: BLE001 - the replica is killed under it
        return


def _state(gateway: Gateway, revision: str) -> str:
    database = gateway.database()
    with database.reading() as session:
        state = session.get_one(PolicyRevision, revision).state
    database.close()
    return state

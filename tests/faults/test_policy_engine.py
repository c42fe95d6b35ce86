"""Bad days of the policy engine: OPA, or the child process of the embedded one. What was decided goes on; nothing new is allowed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from gateway.resources import POLICIES
from gateway.setup import activate_policies
from tests.e2e.district import FOOTFALL, District, pulled, visit
from tests.e2e.listener import Listener, until
from tests.e2e.open_data import Numbers, numbered
from tests.e2e.wire import BATCH, problem, send
from tests.gateway import READER, Gateway

NewGateway = Callable[..., Gateway]


def policy_child(gateway: Gateway) -> int:
    """The process in which the embedded engine runs now."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = status.read_text().partition("PPid:\t")[2].partition("\n")[0]
            if int(parent or 0) == gateway.pid and b"embedded_child" in (status.parent / "cmdline").read_bytes():
                return int(status.parent.name)
        except OSError:
            continue
    raise AssertionError("no policy child")


@contextmanager
def engine_gone(gateway: Gateway) -> Iterator[None]:
    """OPA is dead within. The embedded engine begins a new child after each question: the one that is there answers no more."""
    if gateway.opa is not None:
        gateway.opa.kill()
    else:
        os.kill(policy_child(gateway), signal.SIGSTOP)
    yield
    if gateway.opa is not None and not gateway.opa.running:
        gateway.opa.start()


def propose(numbers: Numbers) -> Any:
    return send(numbers.provider, "POST", "/v1/contracts", body={"dataset": numbers.slug, "purpose": "research"})


def test_without_its_engine_what_was_decided_goes_on_and_what_is_new_is_denied(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    numbers = Numbers(gateway)
    reader = gateway.partner("Reader", scopes=READER)
    contract = numbers.contract(reader)
    numbers.publish(1)
    with Listener(reader, contract) as listener:
        listener.wait_for(1)
        with engine_gone(gateway):
            numbers.publish(2)
            listener.wait_for(2)
            assert numbers.pulled(reader, contract) == [1, 2]
            problem(propose(numbers), "policy_unavailable")
            assert send(gateway.client(), "GET", "/readyz").status_code == 200

        until(lambda: propose(numbers).status_code == 201, "the engine is back")
        numbers.publish(3)
        listener.wait_for(3)
        assert listener.numbers == [1, 2, 3]


def test_a_policy_child_that_is_killed_is_replaced(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    numbers = Numbers(gateway)
    for _ in range(3):
        if gateway.opa is not None:
            gateway.opa.kill()
            gateway.opa.start()
        else:
            os.kill(policy_child(gateway), signal.SIGKILL)

        until(lambda: propose(numbers).status_code == 201, "the engine is back", 10)


def test_a_stream_whose_decision_must_be_made_anew_waits_for_the_engine(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    numbers = Numbers(gateway)
    reader = gateway.partner("Reader", scopes=READER)
    with Listener(reader, numbers.contract(reader)) as listener:
        numbers.publish(1)
        listener.wait_for(1)
        with engine_gone(gateway):
            numbers.provider.request("PATCH", f"/v1/datasets/{numbers.slug}", body={"contact": "new"}, headers={"If-Match": "*"})
            answer = send(numbers.provider, "POST", numbers.path, content=orjson.dumps([numbered(2)]), headers={"Content-Type": BATCH})
            assert answer.status_code in {201, 503}
            if answer.status_code == 503:
                problem(answer, "policy_unavailable")

        until(lambda: propose(numbers).status_code == 201, "the engine is back")
        numbers.publish(3)
        listener.wait_for(3)


def test_a_withdrawal_needs_neither_log_nor_policy(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    district = District(gateway)
    consumer = gateway.partner("Start-up", scopes=READER)
    contract = district.contract(consumer)
    consent, _ = district.consent("person-gone"), district.consent("person-stays")
    district.publish(visit("person-gone", 1), visit("person-stays", 1))
    kafka = gateway.engines.real.kafka if gateway.engines.real else None
    with Listener(consumer, contract) as listener:
        until(lambda: len(listener.events) == 2, "both")
        if kafka is not None:
            kafka.kill()
        with engine_gone(gateway):
            answer = send(district.provider, "POST", f"/v1/consents/{consent}/withdraw")
            assert answer.status_code == 200
            assert answer.json()["state"] == "withdrawn"
            if kafka is not None:
                kafka.start()

        until(lambda: propose_footfall(consumer) == 201, "the engine is back")
        district.publish(visit("person-gone", 2), visit("person-stays", 2))
        until(lambda: any(event["id"].startswith("person-stays-2") for event in listener.events), "the one who stays")
        assert not any(event["id"].startswith("person-gone-2") for event in listener.events)
    assert {event["id"][:13] for event in pulled(consumer, contract)} == {"person-stays-"}


def propose_footfall(consumer: Any) -> int:
    return int(send(consumer, "POST", "/v1/contracts", body={"dataset": FOOTFALL, "purpose": "transit-planning"}).status_code)


def with_rules(folder: Path, name: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Path:
    """The policies as they are shipped, with the rules of the footfall sheet changed."""
    made = folder / name
    shutil.copytree(POLICIES, made)
    sheet = made / "rules" / f"{FOOTFALL}.json"
    document = json.loads(sheet.read_text())
    sheet.write_text(json.dumps(document | {"rules": change(document["rules"])}))
    return made


def test_policies_that_are_activated_while_a_stream_runs_hold_at_once(new_gateway: NewGateway, tmp_path: Path) -> None:
    gateway = new_gateway()
    district = District(gateway)
    consumer = gateway.partner("Start-up", scopes=READER)
    numbers = Numbers(gateway)
    district.consent("person-seen")
    contract = district.contract(consumer)
    coarser = with_rules(
        tmp_path, "coarser", lambda rules: [rules[0] | {"keep": rules[0]["keep"] | {"/dwell_seconds": {"generalise": 600}}}, *rules[1:]]
    )
    nothing = with_rules(tmp_path, "nothing", lambda rules: rules[1:])
    with Listener(consumer, contract) as listener, Listener(gateway.client(), numbers.slug) as untouched:
        district.publish(visit("person-seen", 1))
        until(lambda: len(listener.events) == 1, "an event under the first policies")

        second = activate_policies(gateway.settings(), coarser)
        until(lambda: _active(gateway, second, numbers), "the second policies")
        district.publish(visit("person-seen", 2))
        until(lambda: len(listener.events) == 2, "an event under the second policies")

        third = activate_policies(gateway.settings(), nothing)
        began = time.monotonic()
        ended = listener.wait_for_end()
        assert time.monotonic() - began < 8
        district.provider.publish(FOOTFALL, [visit("person-seen", 3)])
        numbers.publish(1)
        untouched.wait_for(1)

    assert [event["data"]["dwell_seconds"] for event in listener.events] == [300, 0]
    assert ended["code"] == "policy_denied"
    assert [reason["code"] for reason in ended["reasons"]] == ["purpose_not_covered"]
    entries = gateway.operator().get("/v1/audit/entries", contract=contract, kind="decision", limit=500)["items"]
    revisions = [item["entry"]["revision"] for item in entries if item["entry"]["action"] == "receive"]
    assert revisions[-2:] == [second, third]
    problem(send(consumer, "GET", f"/v1/contracts/{contract}/events", contract=contract), "policy_denied")


def _active(gateway: Gateway, revision: str, numbers: Numbers) -> bool:
    """A new decision carries this revision."""
    made = propose(numbers)
    if made.status_code != 201:
        problem(made, "policy_unavailable")
        return False
    entries = gateway.operator().get("/v1/audit/entries", decision=made.json()["decision"], kind="decision")["items"]
    return bool(entries[0]["entry"]["revision"] == revision)

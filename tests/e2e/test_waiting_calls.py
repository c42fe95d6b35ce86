"""Calls that wait at the barrier hold nobody else up."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import delete

from gateway.barrier.models import Lease
from gateway.barrier.wait import BOUND_S
from gateway.changes import last
from gateway.database import now
from tests.e2e.district import District
from tests.gateway import Gateway

CALLS = 60
"""More than there are threads."""


def test_calls_that_wait_at_the_barrier_take_no_thread_from_others(new_gateway: Callable[..., Gateway]) -> None:
    gateway = new_gateway()
    district = District(gateway)
    consents = [district.consent(f"visitor-{number}") for number in range(CALLS)]
    database = gateway.database()
    with database.transaction() as session:
        at, change = now(), last(session)
        silent = {"id": "silent", "incarnation": "run_1", "address": "silent", "lease_s": None, "beat": 0, "confirmed": change}
        session.add(Lease(**silent, joined_at=at, renewed_at=at, fenced=False))

    with ThreadPoolExecutor(CALLS) as calls:
        began = time.monotonic()
        withdrawals = [calls.submit(district.provider.post, f"/v1/consents/{consent}/withdraw") for consent in consents]
        while True:
            with database.reading() as session:
                if last(session) == change + CALLS:
                    break
            assert time.monotonic() < began + BOUND_S / 2
        district.provider.get("/v1/contracts")
        answered = time.monotonic() - began
        assert not any(withdrawal.done() for withdrawal in withdrawals)
        with database.transaction() as session:
            session.execute(delete(Lease).where(Lease.id == "silent"))
        barriers = [withdrawal.result()["barrier"] for withdrawal in withdrawals]
    database.close()

    assert answered < BOUND_S / 2
    assert {barrier["change"] for barrier in barriers} == set(range(change + 1, change + CALLS + 1))

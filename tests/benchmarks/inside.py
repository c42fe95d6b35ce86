"""Rows that call the exchange's own parts in this process, on the engines and in the database of the running gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from gateway.access.decision import Action, Decision
from gateway.access.revisions import active
from gateway.app import create_app
from gateway.serve import calm_the_collector
from gateway.streams.blocks import Block, decode
from gateway.streams.live import Streams
from tests.benchmarks.measured import Measured, percentile
from tests.benchmarks.stage import LIVE, Stage

BLOCKS = 50
EVENTS = 2000
CACHED = 20_000
COMPUTED = 1000
REPEATS = 5
IDLE_S = 3.0


@dataclass(frozen=True, slots=True)
class _Question:
    """The question by which a contract's events are delivered, and the gateway's own parts to answer it."""

    state: Any
    contract: str
    token: str

    @property
    def streams(self) -> Streams:
        streams: Streams = self.state.streams
        return streams

    def decide(self, action: Action) -> Decision:
        contract, dataset = self.streams.contracts.get(self.contract), self.streams.catalog.get(LIVE)
        assert contract is not None
        assert dataset is not None
        if action == "propose":
            contract = replace(contract, state="proposed")
        caller = self.state.identity.authenticate(self.token)
        decision = self.streams.access.decide(action, caller=caller, dataset=dataset, purpose=contract.purpose, contract=contract)
        assert decision.allow, decision.codes
        return decision


def enforce(stage: Stage) -> Measured:
    """Judging blocks of the log, one after another, as a stream does: consent, keep list, pseudonym. In processor time."""
    with _question(stage, events=EVENTS) as question:
        decision = question.decide("receive")
        contract, dataset = question.streams.contracts.get(question.contract), question.streams.catalog.get(LIVE)
        assert contract is not None
        assert dataset is not None
        view = question.streams.permit(decision, dataset, contract).view

        async def judge_all() -> tuple[int, int, float]:
            await question.streams.log.start()
            first = await question.streams.blocks.at(dataset, 0, 0, 0)
            await question.streams.log.stop()
            assert first is not None
            # A block that is judged keeps what was made of it: each of these is new.
            blocks = [Block(first.partition, first.first, first.next, first.records, first.subject, first.size) for _ in range(BLOCKS)]
            now = time.time_ns() // 1_000_000
            await view.judge(first, first.first, now)
            began = time.process_time()
            judged = [await view.judge(block, block.first, now) for block in blocks]
            took = time.process_time() - began
            # A block is decoded where it is rendered; that is the log's part, not the lens's.
            began = time.process_time()
            for block in blocks:
                for record in block.records:
                    decode(record[3], block.subject)
            took -= time.process_time() - began
            return sum(len(block.records) for block in blocks), sum(len(each.frames) for each in judged), took

        runs = [asyncio.run(judge_all()) for _ in range(REPEATS)]
    for events, passed, _ in runs:
        if passed != events:
            raise ValueError(f"{passed} of {events} events passed")
    return Measured({"enforce_us": median(took / events for events, _, took in runs) * 1e6}, f"{runs[0][0]:,} events, {REPEATS} times")


def decide_cached(stage: Stage) -> Measured:
    """`Access.decide` from memory, with the caller's token looked up as each request does."""
    with _question(stage) as question:
        question.decide("receive")
        times = [_seconds(lambda: question.decide("receive")) for _ in range(CACHED)]
    return Measured({"decide_cached_us": median(times) * 1e6}, f"p99 {percentile(times, 0.99) * 1e6:.1f} µs")


def decide_opa(stage: Stage) -> Measured:
    """`Access.decide` of a proposal, which is never answered from memory: facts, OPA, the decision's row and its audit entry."""
    with _question(stage) as question:
        question.decide("propose")
        calm_the_collector()  # as a gateway does
        times = [_seconds(lambda: question.decide("propose")) * 1000 for _ in range(COMPUTED)]
    return Measured({"decide_opa_p99_ms": percentile(times, 0.99)}, f"p50 {median(times):.2f} ms")


def rss_idle(stage: Stage) -> Measured:
    """Resident memory of the gateway, some seconds after its start."""
    time.sleep(IDLE_S)
    status = Path(f"/proc/{stage.gateway.pid}/status").read_text("ascii")
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return Measured({"rss_idle_mb": int(resident.split()[1]) / 1024})


@contextmanager
def _question(stage: Stage, *, events: int = 0) -> Iterator[_Question]:
    stage.dataset(LIVE, personal=True)
    if events:
        stage.backlog(LIVE, events)
    [terms] = stage.terms(LIVE, 1)
    state = create_app(stage.gateway.settings()).state
    try:
        with state.database.reading() as session:
            for room in (state.identity, state.catalog, state.contracts, state.consents, state.access):
                room.load(session)
            revision = active(session)
            assert revision is not None
        # OPA has it from the running gateway; this one only learns that it answers.
        state.engine.activate(revision.id, b"")
        yield _Question(state, terms.contract, terms.token["token"])
    finally:
        state.engine.close()
        state.database.close()


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began

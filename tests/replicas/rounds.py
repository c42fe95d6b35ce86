"""Rounds of bad luck, each from its seed: replicas are killed, stopped and cut off at random moments, readers stall, people withdraw.

A round ends when most are well again, and is judged by what the observer saw and by what the exchange knows afterwards.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

from tests.gateway import GatewayFailed
from tests.replicas.city import BOUND_S, Broken, Call, City
from tests.replicas.observer import Tap

FILE = Path("faults.json")
ENOUGH = 2
"""Replicas that must be well for a round to begin, and to end."""
STAYING = 12
"""People who consent once and are heard of in every round."""
WITHDRAWING, CONSENTING = 4, 2
"""People of one round."""
MOMENTS_S = 1.5
"""Faults and calls begin within so many seconds."""
AFTERWARDS_S = 0.5
"""How long is listened after the last call has returned."""
PATIENCE_S = 60.0
"""How long a person repeats a call that breaks or is not done with yet."""
FAULTS = ("kill", "kill", "pause", "pause", "sessions", "cut", "stall")


@dataclass
class Tally:
    """What `faults.json` says. `forbidden`: events of which a byte came after the call that forbids them had returned; `lost`:
    acknowledged consents and withdrawals that are not there afterwards; `late`: calls over their bound; of the audit log, `unrecorded`:
    acknowledged acts that are not in it, `duplicates`: leaves that stand in it twice, `doubts`: rounds after which Go's verifier did not
    accept it, or not as a continuation of what it saw before.
    """

    seed: int
    commit: str
    rounds: int = 0
    forbidden: int = 0
    lost: int = 0
    late: int = 0
    unrecorded: int = 0
    duplicates: int = 0
    doubts: int = 0

    @property
    def is_clean(self) -> bool:
        return not (self.forbidden or self.lost or self.late or self.unrecorded or self.duplicates or self.doubts)

    def write(self) -> None:
        FILE.write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")


@dataclass
class Round:
    """One round, by `chance` alone; `run` once."""

    city: City
    chance: random.Random
    tally: Tally
    said: list[str] = field(default_factory=list)
    """What happened, in words."""

    def __post_init__(self) -> None:
        self._passed: dict[str, Call] = {}
        """By person, the first answer that says that nothing more of them leaves."""
        self._kept: dict[str, str] = {}
        """Acknowledged and to be found afterwards: the state by consent."""
        self._stalled: list[Tap] = []
        self._slowest = 0.0
        self._errors: list[BaseException] = []

    def run(self) -> str:
        """The round in a line. Raises `AssertionError` if the city does not get well again."""
        city, began = self.city, time.monotonic()
        city.observer.forget()
        city.wait_until_well(replicas=ENOUGH)
        going = {person: self._consent(person, self._somebody()) for person in (city.person() for _ in range(WITHDRAWING))}
        city.wait_to_hear(going)
        self._play([*self._faults(), *self._calls(going)])
        time.sleep(AFTERWARDS_S)
        for tap in self._stalled:
            city.observer.read_on(tap)
        city.wait_until_well(replicas=ENOUGH)
        city.wait_to_hear(city.people[-CONSENTING:])
        found = {"FORBIDDEN": self._forbidden(), "LOST": self._lost()} | self._what_the_log_lacks()
        city.people[:] = [person for person in city.people if person not in going][:STAYING]
        self.tally.rounds += 1
        for name, places in found.items():
            setattr(self.tally, name.lower(), getattr(self.tally, name.lower()) + len(places))
        told = f"{', '.join(self.said)}; slowest call {self._slowest:.2f} s; {time.monotonic() - began:.0f} s in all"
        return told + "".join(f"\n    {name}: {places[:3]}" for name, places in found.items() if places)

    def _what_the_log_lacks(self) -> dict[str, list[str]]:
        ledger = self.city.ledger
        unrecorded = [*ledger.unrecorded(), *ledger.without_entry(self._kept)]
        well = next(replica for replica in self.city.replicas if replica.is_ready(policy=False))
        return {"UNRECORDED": unrecorded, "DUPLICATES": ledger.duplicates(), "DOUBTS": ledger.doubts(well)}

    def _play(self, acts: list[tuple[float, Callable[[], None]]]) -> None:
        """Each act in a thread, at its moment. Raises what one of them raised."""

        def act(after_s: float, does: Callable[[], None]) -> None:
            time.sleep(after_s)
            try:
                does()
            except BaseException as error:  # noqa: BLE001 - told by the one who waits
                self._errors.append(error)

        threads = [threading.Thread(target=act, args=planned, daemon=True) for planned in acts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * PATIENCE_S)
        if self._errors:
            raise self._errors[0]

    def _faults(self) -> Iterator[tuple[float, Callable[[], None]]]:
        """`kill -9` of one, and up to two faults more, on two of the replicas at most."""
        victims = self.chance.sample(range(self.city.count), 2)
        for kind in ("kill", *self.chance.choices(FAULTS, k=self.chance.randint(0, 2))):
            victim = self.chance.choice(victims)
            at, lasts = self.chance.uniform(0, MOMENTS_S), self.chance.choice((0.05, 0.5, 1.5, 3.0)) * self.chance.uniform(0.5, 1.5)
            self.said.append(f"{kind} {victim}" + (f" for {lasts:.1f} s" if kind in {"pause", "cut"} else ""))
            match kind:
                case "kill":
                    yield at, lambda victim=victim: self._signal(victim)  # type: ignore[misc] # mypy knows no lambda with a default
                case "pause":
                    yield at, lambda victim=victim, lasts=lasts: self._pause(victim, lasts)  # type: ignore[misc]
                case "sessions":
                    yield at, lambda victim=victim: self._end_sessions(victim)  # type: ignore[misc]
                case "cut":
                    yield at, lambda victim=victim, lasts=lasts: self._cut(victim, lasts)  # type: ignore[misc]
                case _:
                    self._stall(victim)

    def _calls(self, going: dict[str, str]) -> Iterator[tuple[float, Callable[[], None]]]:
        for person, consent in going.items():
            at, replica = self.chance.uniform(0, MOMENTS_S), self._somebody()
            yield at, lambda p=person, c=consent, r=replica: self._withdraw(p, c, r)  # type: ignore[misc]
        for _ in range(CONSENTING):
            at, replica, person = self.chance.uniform(0, MOMENTS_S), self._somebody(), self.city.person()
            yield at, lambda p=person, r=replica: self._consent(p, r)  # type: ignore[misc]

    def _somebody(self) -> int:
        return self.chance.randrange(self.city.count)

    def _consent(self, person: str, replica: int) -> str:
        said = self._insist(replica, lambda at: self.city.consent(person, at), {201})
        consent = str(said.document["id"])
        self._kept[consent] = "given"
        return consent

    def _withdraw(self, person: str, consent: str, replica: int) -> None:
        self._passed[person] = self._insist(replica, lambda at: self.city.withdraw(consent, at), {200})
        self._kept[consent] = "withdrawn"

    def _insist(self, replica: int, call: Callable[[int], Call], wanted: set[int]) -> Call:
        """Call at this replica, then at the next ones, until it is done. Raises `AssertionError` after `PATIENCE_S`."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                said = call(replica % self.city.count)
                took, why = said.took, f"{said.status} {said.document.get('code')}"
            except Broken as broken:
                said, took, why = None, broken.took, str(broken)
            self._slowest = max(self._slowest, took)
            if took > BOUND_S:
                self.tally.late += 1
                self.said.append(f"LATE: {took:.1f} s, {why}")
            if said is not None and said.status in wanted:
                return said
            assert time.monotonic() < deadline, why
            replica += 1
            time.sleep(0.1)

    def _signal(self, victim: int) -> None:
        with suppress(ProcessLookupError, GatewayFailed):
            self.city.signal(victim, SIGKILL)

    def _pause(self, victim: int, lasts: float) -> None:
        with suppress(ProcessLookupError, GatewayFailed):
            pid = self.city.signal(victim, SIGSTOP)
            time.sleep(lasts)
            os.kill(pid, SIGCONT)

    def _end_sessions(self, victim: int) -> None:
        self.city.cut_sessions(victim)

    def _cut(self, victim: int, lasts: float) -> None:
        self.city.wires[victim].cut()
        time.sleep(lasts)
        self.city.wires[victim].mend()

    def _stall(self, victim: int) -> None:
        """A reader that has begun to read before all else, and reads on after it."""
        stalled = self.city.stall(victim)
        self._stalled += [stalled] if stalled else []

    def _forbidden(self) -> list[str]:
        return [event for person, call in self._passed.items() for event in self.city.observer.beyond(call.shore, f"{person}-")]

    def _lost(self) -> list[str]:
        def read(consent: str) -> Call:
            return self._insist(0, lambda at: self.city.call(at, "GET", f"/v1/consents/{consent}"), {200, 404})

        found = {consent: read(consent).document.get("state") for consent in self._kept}
        return [f"{consent} is {found[consent]}, not {state}" for consent, state in self._kept.items() if found[consent] != state]


def play(city: City, tally: Tally, first: int, rounds: int) -> Iterator[str]:
    """So many rounds from number `first` on, each told in a line when it is over. Raises `AssertionError`."""
    while len(city.people) < STAYING:
        city.consent(city.person(), 0)
    for number in range(first, first + rounds):
        if (number - first) % 20 == 0:
            city.wait_until_well()
            city.renew_tokens()
        yield f"{number:4}: {Round(city, random.Random(f'{tally.seed}-{number}'), tally).run()}"
    city.wait_until_well()

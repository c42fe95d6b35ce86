"""The barrier's protocol: events in, actions out, no clock and no I/O.

Two machines. `Holder` is the replica that holds a lease: it joins, renews (which is how it confirms), settles what it has judged,
and ends itself. `Waiting` is the process in which calls forbid something: each has committed its change and returns when
nothing forbidden can leave any replica. Drivers (`replica.py`, `wait.py`) carry the actions out and report what happened;
`tests/barrier` does the same with virtual clocks, pauses, crashes and a database that comes and goes.

What must hold:

1. Once a call for change n has returned as passed, no replica lets anything leave that it judged before it applied n.
2. No call waits longer than its bound.

Why it holds. A replica confirms n after all that it judged before n has left or never will. A call reads the leases after its
commit, so it finds every replica that joined before, and who joins later has applied n: joining locks the counter of changes. A
replica that does not confirm is dead once its `beat` has stood still for 1.2 leases by the caller's clock, because it must be dead
0.8 leases, by its own, after it *sent* the renewal that wrote that beat. Clocks may differ in rate by a third, and in what they
show by anything: none is ever compared with another. Fencing compares the beat, so a renewal that came after all wins. The database
must keep what it acknowledged: a standby takes over only if it is synchronous, and its primary has been shut out.

Instants are seconds of the monotonic clock of the machine's own process. A lease is in seconds; `math.inf` never runs out, which is
for the one gateway that an SQLite database has.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Literal

RENEW_EVERY = 0.25
"""Leases between the sending of two renewals."""
RETRY_EVERY = 0.05
"""Leases until a renewal that was not answered is sent again."""
LIVES = 0.8
"""Leases after the sending of a renewal at which its replica is dead, come what may."""
DEAD_AFTER = 1.2
"""Leases for which a beat has stood still, by whoever watches it, when its replica is dead."""
GIVES_UP = 0.75
"""Leases after the sending of a renewal at which its replica ends itself in good order."""
CONFIRMS_WITHIN = 2.0
"""Leases in which a replica that renews must confirm what it knows to be committed, or end itself."""
ENDED_ITSELF = 75
"""The exit status of a process that carries `End` out: another is to be started in its place."""
WENT_BACK = 76
"""The exit status of one that was refused its database, which has gone back: none is to be started before it is restored."""
LONGEST_RETRY_S = 0.25
READ_SOON_S, READ_LATER_S, SOON_S = 0.01, 0.05, 0.5
"""Leases are read every `READ_SOON_S` for `SOON_S` after a commit, then every `READ_LATER_S`."""


@dataclass(frozen=True, slots=True)
class Join:
    """In one transaction: lock the counter of changes, see that it stands at `applied`, write the lease. Answer: `join_answered`."""

    applied: int


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Apply what is committed. Answer: `caught_up`."""


@dataclass(frozen=True, slots=True)
class Renew:
    """One statement: beat + 1, confirmed = `confirmed`, where not fenced. Answer: `renewed`, `refused` or `not_answered`."""

    confirmed: int


@dataclass(frozen=True, slots=True)
class Settle:
    """Let all that was judged before change `n` leave, be judged again, or never leave. Answer: `settled`."""

    n: int


@dataclass(frozen=True, slots=True)
class Arm:
    """The process is dead at `deadline`, even if it is stopped."""

    deadline: float


@dataclass(frozen=True, slots=True)
class End:
    """Abort every stream and exit."""

    reason: Literal["fenced", "lease_ran_out", "cannot_confirm"]


HolderAction = Join | CatchUp | Renew | Settle | Arm | End


class Holder:
    """The lease of one replica, from its first change number to its end."""

    def __init__(self, lease: float) -> None:
        self.lease = lease
        self.live = False
        self.ended = False
        self.applied = 0
        self.confirmed = 0
        self.deadline = math.inf
        """When the process ends, by the last renewal that was answered."""
        self._sent = math.inf
        self._forbidding = 0
        self._settled = 0
        self._settling: tuple[int, int] | None = None
        """(what was applied, what of it forbids) when the settling that is under way began."""
        self._may_confirm = 0
        self._renew_at = math.inf
        self._renewing = False
        self._again = False
        self._owed: tuple[int, float] | None = None
        """(a change that is committed and not confirmed, since when that is known)."""

    @property
    def next_tick(self) -> float:
        """When `tick` has something to do, if nothing else happens before."""
        if not self.live or self.ended:
            return math.inf
        renew_at = math.inf if self._renewing else self._renew_at
        owed_until = self._owed[1] + CONFIRMS_WITHIN * self.lease if self._owed else math.inf
        return min(renew_at, self._gives_up_at, owed_until)

    @property
    def _gives_up_at(self) -> float:
        return self._sent + GIVES_UP * self.lease if self.live else math.inf

    def loaded(self, applied: int) -> list[HolderAction]:
        """The replica has loaded its state at this change number, and serves nobody yet."""
        self.applied = applied
        return [Join(applied)]

    def caught_up(self, applied: int) -> list[HolderAction]:
        self.applied = max(self.applied, applied)
        return [Join(self.applied)]

    def join_answered(self, sent: float, at: float, *, joined: bool) -> list[HolderAction]:
        """`sent` is the instant before the transaction was begun. Until `Arm` is carried out nobody is served."""
        if not joined:
            return [CatchUp()]
        self.live = True
        self._may_confirm = self.confirmed = self.applied
        self._settled = max(self._settled, self._forbidding)
        self._extend(sent)
        # A join that took long has used up some of the lease.
        self._renew_at = sent + RENEW_EVERY * self.lease
        return [Arm(self.deadline), *self.tick(at)]

    def change_applied(self, n: int, forbids: int, at: float) -> list[HolderAction]:
        """All changes up to `n` are applied; `forbids` is the last of them that forbids, 0 if none does."""
        self.applied = max(self.applied, n)
        self._forbidding = max(self._forbidding, forbids)
        if not self.live or self.ended:
            return []
        return self._settle_next(at)

    def settled(self, at: float) -> list[HolderAction]:
        """The settling that was asked for last is done."""
        if self.ended or self._settling is None:
            return []
        self._may_confirm, self._settled = self._settling
        self._settling = None
        return [*self._settle_next(at), *self._renew(at)]

    def renewed(self, sent: float, confirmed: int, committed: int, at: float) -> list[HolderAction]:
        """The renewal sent at `sent` is durable. `committed` is the counter of changes that it saw."""
        if self.ended:
            return []
        self._renewing = False
        self.confirmed = max(self.confirmed, confirmed)
        self._note_what_is_owed(committed, at)
        self._extend(sent)
        self._renew_at = sent + RENEW_EVERY * self.lease
        again = self._renew(at) if self._again else []
        return [Arm(self.deadline), *again]

    def refused(self) -> list[HolderAction]:
        """The renewal found no lease: somebody has fenced it."""
        return self._end("fenced")

    def not_answered(self, at: float) -> list[HolderAction]:
        """The renewal failed; it may or may not be durable."""
        self._renewing = False
        self._renew_at = at + min(RETRY_EVERY * self.lease, LONGEST_RETRY_S)
        return []

    def tick(self, at: float) -> list[HolderAction]:
        """Time has passed."""
        if not self.live or self.ended:
            return []
        if at >= self._gives_up_at:
            return self._end("lease_ran_out")
        if self._owed is not None and at >= self._owed[1] + CONFIRMS_WITHIN * self.lease:
            return self._end("cannot_confirm")
        return self._renew(at) if at >= self._renew_at and not self._renewing else []

    def _settle_next(self, at: float) -> list[HolderAction]:
        if self._settling is not None:
            return []
        if self._forbidding > self._settled:
            self._settling = (self.applied, self._forbidding)
            return [Settle(self._forbidding)]
        # What only allows holds nothing back; the next renewal says so, or this one if there is none to come.
        self._may_confirm = self.applied
        return self._renew(at) if math.isinf(self.lease) else []

    def _renew(self, at: float) -> list[HolderAction]:
        if self._renewing:
            self._again = True
            return []
        self._renewing, self._again = True, False
        self._renew_at = at + RENEW_EVERY * self.lease
        return [Renew(self._may_confirm)]

    def _extend(self, sent: float) -> None:
        self._sent = sent
        self.deadline = sent + LIVES * self.lease

    def _note_what_is_owed(self, committed: int, at: float) -> None:
        if self._owed is not None and self.confirmed >= self._owed[0]:
            self._owed = None
        if self._owed is None and committed > self.confirmed:
            self._owed = (committed, at)

    def _end(self, reason: Literal["fenced", "lease_ran_out", "cannot_confirm"]) -> list[HolderAction]:
        if self.ended:
            return []
        self.ended = True
        return [End(reason)]


@dataclass(frozen=True, slots=True)
class Row:
    """A lease that is not fenced, as one read shows it."""

    id: str
    incarnation: str
    beat: int
    confirmed: int
    lease: float


@dataclass(frozen=True, slots=True)
class Read:
    """Read the leases that are not fenced, not before `at`. Answer: `leases_read` or `not_read`."""

    at: float


@dataclass(frozen=True, slots=True)
class Fence:
    """Fence this lease if it still has this beat. Nothing hangs on the answer: the next read shows it."""

    row: Row


@dataclass(frozen=True, slots=True)
class Passed:
    """The call returns: `replicas` live ones have confirmed."""

    call: Hashable
    replicas: int


@dataclass(frozen=True, slots=True)
class Pending:
    """The call's bound is reached: it returns, and says that the barrier has not passed."""

    call: Hashable


WaitingAction = Read | Fence | Passed | Pending


@dataclass(frozen=True, slots=True)
class _Call:
    n: int
    committed_at: float


class Waiting:
    """The calls of one process that have committed a change and wait. `bound` is in seconds from the answer to the commit."""

    def __init__(self, bound: float) -> None:
        self.bound = bound
        self._calls: dict[Hashable, _Call] = {}
        self._beats: dict[tuple[str, str], tuple[int, float]] = {}
        """By lease: its beat, and when a read that showed it first was answered."""

    @property
    def busy(self) -> bool:
        return bool(self._calls)

    @property
    def next_tick(self) -> float:
        """When the first call reaches its bound."""
        return min((call.committed_at + self.bound for call in self._calls.values()), default=math.inf)

    def committed(self, call: Hashable, n: int, at: float) -> list[WaitingAction]:
        """The change `n` of this call was answered as durable, at `at`. The leases are read after that, never before."""
        self._calls[call] = _Call(n, at)
        return [Read(at)]

    def leases_read(self, rows: Iterable[Row], asked: float, answered: float) -> list[WaitingAction]:
        """All leases that are not fenced, by a read that was asked at `asked` and answered at `answered`."""
        rows = list(rows)
        actions: list[WaitingAction] = [Fence(row) for row in rows if self._stood_still(row, asked)]
        self._note_beats(rows, answered)
        slowest = min((row.confirmed for row in rows), default=math.inf)
        for name, call in list(self._calls.items()):
            # A read that was under way at the commit may not show who joined before it.
            if asked >= call.committed_at and slowest >= call.n:
                del self._calls[name]
                actions.append(Passed(name, len(rows)))
        return [*actions, *self.tick(answered), *self._read_again(answered, at_once=bool(actions))]

    def not_read(self, at: float) -> list[WaitingAction]:
        """The read failed."""
        return [*self.tick(at), *self._read_again(at, at_once=False)]

    def tick(self, at: float) -> list[WaitingAction]:
        """Time has passed: calls whose bound is reached return."""
        late = [name for name, call in self._calls.items() if at >= call.committed_at + self.bound]
        for name in late:
            del self._calls[name]
        return [Pending(name) for name in late]

    def _stood_still(self, row: Row, asked: float) -> bool:
        seen = self._beats.get((row.id, row.incarnation))
        return seen is not None and seen[0] == row.beat and asked >= seen[1] + DEAD_AFTER * row.lease

    def _note_beats(self, rows: list[Row], answered: float) -> None:
        before, self._beats = self._beats, {}
        for row in rows:
            key = (row.id, row.incarnation)
            seen = before.get(key)
            self._beats[key] = seen if seen is not None and seen[0] == row.beat else (row.beat, answered)

    def _read_again(self, at: float, *, at_once: bool) -> list[WaitingAction]:
        if not self._calls:
            return []
        youngest = max(call.committed_at for call in self._calls.values())
        pause = READ_SOON_S if at < youngest + SOON_S else READ_LATER_S
        return [Read(at if at_once else at + pause)]

"""Ways to build the barrier wrongly. Each looks harmless, and each must be found by the simulation."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.barrier import protocol
from gateway.barrier.protocol import Holder, HolderAction, Row, Settle, Waiting, WaitingAction
from tests.barrier.nodes import Rules
from tests.barrier.world import Faults


class DeadlineAfterAnswer(Holder):
    """The lease counts from the answer to a renewal, not from its sending."""

    def renewed(self, sent: float, confirmed: int, committed: int, at: float) -> list[HolderAction]:  # noqa: ARG002 - that it looks at no `sent` is the mistake
        return super().renewed(at, confirmed, committed, at)


class LivesTooLong(Holder):
    """It takes the whole lease and half of the next for itself."""

    def _extend(self, sent: float) -> None:
        super()._extend(sent)
        self._sent = sent + protocol.LIVES * self.lease
        self.deadline = self._sent + protocol.LIVES * self.lease


class ConfirmsBeforeSettling(Holder):
    """It confirms what it has applied, while what it judged before is still under way."""

    def change_applied(self, n: int, forbids: int) -> list[HolderAction]:
        actions = super().change_applied(n, forbids)
        self._may_confirm = self.applied
        return actions


class ConfirmsWhatCameLater(Holder):
    """When a settling is done it confirms all that is applied by then, also what came while it settled."""

    def settled(self, at: float) -> list[HolderAction]:
        if self._settling is not None:
            self._settling = (self.applied, self.applied)
        return super().settled(at)


class NeverSettles(Holder):
    """It lets nothing be judged again, and says that it did."""

    def change_applied(self, n: int, forbids: int) -> list[HolderAction]:
        actions = super().change_applied(n, forbids)
        settles = [action for action in actions if isinstance(action, Settle)]
        return actions if not settles else self.settled(0.0)


class BuriesTooSoon(Waiting):
    """A replica is taken for dead when its beat has stood still for half a lease."""

    def leases_read(self, rows: Iterable[Row], asked: float, answered: float) -> list[WaitingAction]:
        return super().leases_read(rows, asked + 0.7 * 2.0, answered)


class ForgetsTheSilent(Waiting):
    """A replica that has not confirmed after a second is left out."""

    def leases_read(self, rows: Iterable[Row], asked: float, answered: float) -> list[WaitingAction]:
        oldest = min((call.committed_at for call in self._calls.values()), default=answered)
        wanted = max((call.n for call in self._calls.values()), default=0)
        return super().leases_read([row for row in rows if answered < oldest + 1.0 or row.confirmed >= wanted], asked, answered)


class WaitsLonger(Waiting):
    """A call is more patient than its caller was told."""

    def __init__(self, bound: float) -> None:
        super().__init__(1.1 * bound)


SLOW_READERS = Faults(pause=0.0005, slow_reader=0.9)
LATE_ANSWERS = Faults(drift=0.18, troubles=("degrade",), late=(0.8, 1.0), slow_reader=0.9)

FORBIDDEN = {
    "wall_clock_instead_of_monotonic": (Rules(steady_clock=False), SLOW_READERS),
    "no_timer_for_a_stopped_process": (Rules(timer=False), SLOW_READERS),
    "left_when_send_returned": (Rules(left_when_acknowledged=False), SLOW_READERS),
    "join_without_looking_at_the_counter": (Rules(join_looks=False), SLOW_READERS),
    "deadline_after_the_answer": (Rules(holder=DeadlineAfterAnswer), LATE_ANSWERS),
    "lives_too_long": (Rules(holder=LivesTooLong), SLOW_READERS),
    "confirms_before_settling": (Rules(holder=ConfirmsBeforeSettling), SLOW_READERS),
    "confirms_what_came_later": (Rules(holder=ConfirmsWhatCameLater), SLOW_READERS),
    "never_settles": (Rules(holder=NeverSettles), SLOW_READERS),
    "buries_too_soon": (Rules(waiting=BuriesTooSoon), SLOW_READERS),
    "forgets_the_silent": (Rules(waiting=ForgetsTheSilent), SLOW_READERS),
}
"""Each lets something forbidden out, under these faults."""
LATE = {"waits_longer": (Rules(waiting=WaitsLonger), Faults(stubborn=True))}
"""Each lets a call wait longer than its bound."""

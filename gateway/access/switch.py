"""The switch: between the change that makes another revision active and the moment in which the engine has it."""

from __future__ import annotations

import threading
import time

SWITCH_S = 1.0
"""Until so many seconds after a revision has become active questions wait for the engine to take it."""


class Switch:
    """Thread-safe: told by the thread that applies changes and by the one that moves the engine, asked by all that decide."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._wanted: str | None = None
        self._has: str | None = None
        self._turning = False
        self._since = -SWITCH_S

    @property
    def turning(self) -> bool:
        """True if the active revision is another since, and the engine has not said yet that it has it."""
        return self._turning

    @property
    def turned_just_now(self) -> bool:
        """True for `SWITCH_S` after a turn, whether or not the engine has it by then."""
        return time.monotonic() < self._since + SWITCH_S

    def turn_to(self, revision: str) -> None:
        """This revision is active from now on."""
        with self._changed:
            self._wanted = revision
            self._turning = self._has != revision
            self._since = time.monotonic()

    def has(self, revision: str | None) -> None:
        """The engine answers by this revision now; None: by none."""
        with self._changed:
            self._has = revision
            self._turning = self._turning and revision != self._wanted
            self._changed.notify_all()

    def wait(self) -> bool:
        """Whether the engine has it, `SWITCH_S` after the turn at the latest."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._turning, max(0.0, self._since + SWITCH_S - time.monotonic()))

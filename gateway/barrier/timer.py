"""The kernel's timer that ends this process, running or stopped, when its lease has run out: timer_create(2) with SIGKILL.

A thread cannot do that: a process that is stopped between its last question and its write would write when it goes on.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
from typing import ClassVar

CLOCK_MONOTONIC, TIMER_ABSTIME, SIGEV_SIGNAL = 1, 1, 0


class _SignalEvent(ctypes.Structure):
    """`struct sigevent` of sigevent(3type): 64 bytes on Linux."""

    _fields_: ClassVar = [("value", ctypes.c_void_p), ("signo", ctypes.c_int), ("notify", ctypes.c_int), ("rest", ctypes.c_byte * 48)]


class _Moment(ctypes.Structure):
    _fields_: ClassVar = [("s", ctypes.c_long), ("ns", ctypes.c_long)]


class _Setting(ctypes.Structure):
    """`struct itimerspec`: an interval of zero fires once."""

    _fields_: ClassVar = [("interval", _Moment), ("value", _Moment)]


class DeathTimer:
    """One timer of this process. Deadlines are those of `time.monotonic`, which is the kernel's CLOCK_MONOTONIC.

    On another system than Linux there is none: `arm` does nothing, and a process that is stopped and goes on is not ended.
    """

    def __init__(self) -> None:
        self._id = ctypes.c_void_p()
        self._library: ctypes.CDLL | None = None
        if sys.platform == "linux":
            self._library = ctypes.CDLL(None, use_errno=True)
            event = _SignalEvent(None, signal.SIGKILL, SIGEV_SIGNAL)
            self._check(self._library.timer_create(CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._id)))

    def arm(self, deadline: float) -> None:
        """End the process at `deadline`; at once if that has passed. Replaces the deadline of before. Raises `OSError`."""
        if math.isfinite(deadline):
            self._set(deadline)

    def disarm(self) -> None:
        """Let the process live."""
        self._set(0.0)

    def _set(self, deadline: float) -> None:
        if self._library is None:
            return
        fraction, seconds = math.modf(deadline)
        setting = _Setting(_Moment(0, 0), _Moment(int(seconds), int(fraction * 1e9)))
        self._check(self._library.timer_settime(self._id, TIMER_ABSTIME, ctypes.byref(setting), None))

    @staticmethod
    def _check(result: int) -> None:
        if result != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

"""Supervise: `exchange serve` runs the gateway as a child, and starts it again when it has ended itself or was killed.

A replica that cannot renew its lease is ended, by itself or by the kernel, so that nothing forbidden leaves it; then another must
take its place. What ends the supervisor ends the child too, at once: PR_SET_PDEATHSIG of prctl(2). So does what ends a demonstration
end its supervisors, and with them its gateways.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import structlog

from gateway.barrier.protocol import ENDED_ITSELF, WENT_BACK
from gateway.logs import set_up_logs
from gateway.settings import Settings

log = structlog.get_logger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
STEADY_S = 30.0
"""A child that lived so long ended by chance: the next starts without delay."""
PR_SET_PDEATHSIG = 1
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024), "MALLOC_TRIM_THRESHOLD_": str(64 * 1024 * 1024)}
"""For glibc (mallopt(3)), unless the operator has said otherwise. Left alone it gives the memory of each body and record batch back to
the kernel and asks for it again, page by page: encoding a batch of 400 kB then takes four times as long.
"""


def supervise(settings: Settings, command: Sequence[str]) -> int:
    """Run the gateway by this command, with this process's id after it, until SIGTERM or SIGINT, which it gets as SIGTERM; its status.

    A child that cannot start the first time is not started again: its status is the answer.
    """
    set_up_logs(settings)
    return _Supervisor([*command, str(os.getpid())]).run()


class _Supervisor:
    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._has_served = False

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: self._stop())
        pause = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            self._child = subprocess.Popen(self._command, env=ALLOCATOR | os.environ)
            if self._stopping:
                self._stop()
            status = self._child.wait()
            if status == WENT_BACK:
                return 1  # it has said what is to be done
            self._has_served |= status in {ENDED_ITSELF, -signal.SIGKILL}
            if self._stopping or status == 0 or not self._has_served:
                return max(status, 0) if self._stopping else status
            pause = FIRST_PAUSE_S if time.monotonic() - began > STEADY_S else min(2 * pause, LONGEST_PAUSE_S)
            log.warning("gateway_ended", status=status, starts_again_in_s=pause)
            time.sleep(pause)

    def _stop(self) -> None:
        self._stopping = True
        if self._child is not None:
            self._child.terminate()


def die_with(parent: int) -> None:
    """End this process when `parent`, which has started it, has ended, however that came. Linux alone can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before
        raise SystemExit(1)

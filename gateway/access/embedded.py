"""The embedded policy engine, for one machine: Rego in a child process with limits on time and memory.

Whatever goes wrong in the child (too slow, crashed, killed, answered rubbish) denies that one decision; the child is
ended and a new one serves the next.
"""

from __future__ import annotations

import threading
from typing import Any

from gateway.access.answer import checked
from gateway.access.bundle import NAME, Bundle, BundleUnreadable, read_bundle
from gateway.access.decision import ENTRYPOINT, Answer, PolicyUnavailable
from gateway.access.rego_process import RegoProcess, require_library
from gateway.access.vetting import refuse_if, vet_sheets, vet_text, vet_trees

UNDEFINED = "<undefined>"
"""What the library says, as a string, where the rule has no value."""
_RULE = "data." + ENTRYPOINT.replace("/", ".")


class EmbeddedEngine:
    """`PolicyEngine` on Microsoft's regorus. Thread-safe: one decision at a time, each at most `timeout_s` in the child."""

    def __init__(self, timeout_s: float = 0.25) -> None:
        """Raises `PolicyUnavailable` if the library is not installed; nothing is started until `activate`."""
        require_library()
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._bundle: Bundle | None = None
        self._process: RegoProcess | None = None

    @property
    def pid(self) -> int | None:
        """The process that will answer next, if one runs."""
        process = self._process
        return process.pid if process else None

    def evaluate(self, facts: dict[str, Any]) -> Answer:
        """The answer at `ENTRYPOINT` for these facts. Raises `PolicyUnavailable`."""
        with self._lock:
            if self._bundle is None:
                raise PolicyUnavailable("no policy revision is active")
            if self._process is None:
                self._process = RegoProcess.loaded(self._bundle.modules, self._bundle.data)[0]
            try:
                document = self._process.evaluate(_RULE, facts, self._timeout_s)
            except PolicyUnavailable:
                self._end_process()
                raise
            revision = self._bundle.revision
        if document == UNDEFINED:
            raise PolicyUnavailable("the policy is undefined for these facts")
        return checked(document, revision)

    def activate(self, revision: str, bundle: bytes) -> None:
        """Vet the bundle, load it in a new child, then let that one answer. What was active before answers no more.

        Raises `RevisionRefused` with findings, or `PolicyUnavailable`; then nothing is active.
        """
        self.suspend()
        try:
            unpacked = read_bundle(bundle)
        except BundleUnreadable as error:
            raise PolicyUnavailable(str(error)) from error
        if unpacked.revision != revision:
            raise PolicyUnavailable("the bundle is of another revision")
        refuse_if([*vet_text(unpacked.modules), *vet_sheets(unpacked.data[NAME]["rules"])])
        process, trees = RegoProcess.loaded(unpacked.modules, unpacked.data)
        try:
            refuse_if(vet_trees(trees))
        except PolicyUnavailable:
            process.end()
            raise
        with self._lock:
            self._end_process()
            self._bundle, self._process = unpacked, process

    def suspend(self) -> None:
        """Answer no more until the next `activate`."""
        with self._lock:
            self._bundle = None
            self._end_process()

    def ping(self) -> None:
        """Return if the engine answers with the active revision, else raise `PolicyUnavailable`."""
        self.evaluate({})

    def close(self) -> None:
        """End the child; the engine answers nothing after this."""
        self.suspend()

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None

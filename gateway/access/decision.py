"""What a decision is: the facts that go into an engine, and the answer that comes out.

Python gathers facts, Rego decides, Python obeys: nothing here says yes or no.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

ENTRYPOINT = "exchange/main/decision"
"""The one rule that is asked, as OPA's path of `data`."""

Action = Literal["publish", "propose", "receive"]
"""`publish` to a dataset; `propose` a contract; `receive` events, under a contract or, of an open dataset, without one."""

ENFORCED = frozenset(
    {"keep", "drop", "mask", "pseudonymise", "generalise", "time_bucket", "consent_filter", "opt_out_filter", "row_filter", "rate_limit"},
)
"""Obligations that the lens and the stream plane carry out. An obligation in neither set means deny."""
PROMISED = frozenset({"retain", "attribution", "no_onward_transfer"})
"""Obligations that the recipient promises; they stand in the contract's text."""


class PolicyUnavailable(Exception):
    """No usable answer: unreachable, undefined, malformed, timed out, or of another revision than expected."""


class EngineRefused(PolicyUnavailable):
    """The engine is there and says that it does not take the revision, and why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine said: `document` is {allow, reasons, obligations, until}, checked for shape; `revision` computed it."""

    document: dict[str, Any]
    revision: str


class PolicyEngine(Protocol):
    """An engine that evaluates the active revision. Thread-safe and synchronous: decisions are rare, uses of them are not."""

    def evaluate(self, facts: dict[str, Any]) -> Answer:
        """The answer at `ENTRYPOINT` for these facts. Raises `PolicyUnavailable`."""

    def activate(self, revision: str, bundle: bytes) -> None:
        """Make `revision` the one that answers; returns once it does. Raises `EngineRefused`, `PolicyUnavailable`."""

    def suspend(self) -> None:
        """Answer no more (`PolicyUnavailable`) until the next `activate`: what is active has changed."""

    def ping(self) -> None:
        """Return if the engine answers with the active revision, else raise `PolicyUnavailable`."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision as it was audited. `until` is the first instant at which it may no longer be used."""

    id: str
    allow: bool
    reasons: tuple[dict[str, Any], ...]
    obligations: tuple[dict[str, Any], ...]
    revision: str
    until: datetime
    facts: bytes = field(repr=False, default=b"")

    @property
    def codes(self) -> tuple[str, ...]:
        """The stable codes of its reasons."""
        return tuple(reason["code"] for reason in self.reasons)

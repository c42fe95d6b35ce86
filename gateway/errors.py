"""The errors that leave the exchange, as RFC 9457 problems.

Exception
├── SettingsRefused          the process does not start
└── ExchangeError            any answer that is not the one asked for; carries a code of `schemas/problems.json`
    ├── Refused              policy said no: names the decision and its reasons
    └── Invalid              input that does not fit: names each place by JSON Pointer

A code has one status, a title, an explanation and a hint, in English and French, in `schemas/problems.json`;
`<issuer>/problems/{code}` shows them to people.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.resources import SCHEMAS


class SettingsRefused(ValueError):
    """The settings are insecure or incomplete for this environment; the message says what to do."""


@functools.cache
def catalogue() -> Mapping[str, Mapping[str, Any]]:
    """Each problem code with `status`, `title`, `explanation` and `hint`; the last three are {en, fr}."""
    loaded: dict[str, dict[str, Any]] = json.loads((SCHEMAS / "problems.json").read_text("utf-8"))
    return loaded


class ExchangeError(Exception):
    """A problem with a stable code. `members` go into the body beside the standard ones (RFC 9457 section 3.2)."""

    def __init__(
        self, code: str, detail: str = "", *, hint: str | None = None, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail
        self.hint = hint
        self.headers = dict(headers or {})
        self.members = members

    @property
    def status(self) -> int:
        return int(catalogue()[self.code]["status"])

    def problem(self, issuer: str, instance: str) -> dict[str, Any]:
        """The body: `application/problem+json`."""
        entry = catalogue()[self.code]
        body: dict[str, Any] = {
            "type": f"{issuer}/problems/{self.code}",
            "title": entry["title"]["en"],
            "status": entry["status"],
            "detail": self.detail or entry["explanation"]["en"],
            "instance": instance,
            "code": self.code,
            "hint": self.hint or entry["hint"]["en"],
        }
        return body | self.members


class Refused(ExchangeError):
    """Policy said no. `reasons` are the decision's, each with code and a title in both languages."""

    def __init__(self, decision_id: str, reasons: Sequence[Mapping[str, Any]], code: str = "policy_denied") -> None:
        detail = " ".join(str(reason["title"]["en"]) for reason in reasons)
        super().__init__(code, detail, decision_id=decision_id, reasons=[dict(reason) for reason in reasons])


class Invalid(ExchangeError):
    """Input that does not fit. `errors` are {pointer, detail} objects; values never stand in them."""

    def __init__(self, errors: Sequence[Mapping[str, Any]], code: str = "invalid_body", detail: str = "") -> None:
        first = errors[0] if errors else {}
        told = detail or f"{first.get('pointer') or 'The body'}: {first.get('detail', 'does not fit')}"
        super().__init__(code, told, errors=[dict(error) for error in errors])


class AnotherGatewayIsLive(RuntimeError):
    """A second gateway on one SQLite database."""

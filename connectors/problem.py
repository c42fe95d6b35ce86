"""What the exchange answers when it says no, or cannot: an RFC 9457 problem, or OAuth's own error (RFC 6749 section 5.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2


class ProblemError(Exception):
    """A refusal. `code` is stable; `hint` says what to do next, `errors` where input was wrong, `reasons` why policy said no."""

    def __init__(self, status: int, members: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.members = dict(members)
        self.headers = dict(headers or {})
        self.code = str(members.get("code") or members.get("error") or f"http_{status}")
        self.detail = str(members.get("detail") or members.get("error_description") or "")
        self.hint = str(members.get("hint") or "")
        self.errors: list[dict[str, Any]] = list(members.get("errors") or [])
        self.reasons: list[dict[str, Any]] = list(members.get("reasons") or [])
        super().__init__(f"{status} {self.code}: {self.detail}" if self.detail else f"{status} {self.code}")


def raise_for_problem(response: httpx2.Response) -> None:
    """Raises `ProblemError` if the status says so, or the body is a problem: what was asked for is stored, and not in force everywhere
    yet (202 `barrier_pending`). The body must have been read.
    """
    if not response.is_error and not response.headers.get("Content-Type", "").startswith("application/problem+json"):
        return
    try:
        members = response.json()
    except ValueError:
        members = None
    raise ProblemError(response.status_code, members if isinstance(members, dict) else {}, response.headers)

"""The states of a consent record, and whose act moves it from one to another.

    requested --> given <--> paused           refused: the person said no, which under a notice with opt-out is an objection
        `--> refused  |         |
                      `----+----'--> withdrawn (the person), revoked (provider or city), expired (time), invalidated (it never was good)

A record that has come to one of the last five stays there: who consents again gets a new record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

State = Literal["requested", "given", "refused", "paused", "withdrawn", "revoked", "expired", "invalidated"]
By = Literal["subject", "guardian", "holder", "provider", "officer", "time"]
"""Whose act: the person or who speaks for them, the holder of the withdrawal code, the dataset's owner, the city, or nobody's."""

PERSON: frozenset[By] = frozenset({"subject", "guardian"})
OFFICE: frozenset[By] = frozenset({"provider", "officer"})
GIVERS: frozenset[By] = PERSON | {"provider"}
_TIME: frozenset[By] = frozenset({"time"})

FIRST: Mapping[State, frozenset[By]] = {"requested": frozenset({"provider"}), "given": GIVERS, "refused": PERSON}
"""The states in which a record begins, and by whom."""
MOVES: Mapping[State, Mapping[State, frozenset[By]]] = {
    "requested": {"given": GIVERS, "refused": PERSON, "expired": _TIME, "invalidated": OFFICE},
    "given": {"paused": PERSON | OFFICE, "withdrawn": PERSON | {"holder"}, "revoked": OFFICE, "expired": _TIME, "invalidated": OFFICE},
    "paused": {"given": PERSON, "withdrawn": PERSON | {"holder"}, "revoked": OFFICE, "expired": _TIME, "invalidated": OFFICE},
    "refused": {},
    "withdrawn": {},
    "revoked": {},
    "expired": {},
    "invalidated": {},
}
"""State -> the states that may follow -> whose act that may be."""

OBJECTIONS: tuple[State, ...] = ("refused", "paused", "withdrawn")
"""The states in which the person's own word is no."""

DPV = "https://w3id.org/dpv#"
STATUS: Mapping[State, str] = {
    "requested": f"{DPV}ConsentRequested",
    "given": f"{DPV}ConsentGiven",
    "refused": f"{DPV}ConsentRefused",
    # DPV has no word for a pause; this is the class of all in which consent is no ground for processing.
    "paused": f"{DPV}ConsentStatusInvalidForProcessing",
    "withdrawn": f"{DPV}ConsentWithdrawn",
    "revoked": f"{DPV}ConsentRevoked",
    "expired": f"{DPV}ConsentExpired",
    "invalidated": f"{DPV}ConsentInvalidated",
}
"""Each state's term in the W3C Data Privacy Vocabulary."""


class IllegalMove(Exception):
    """A state that does not follow from the record's by this act. `legal` are the states that do follow."""

    def __init__(self, state: str, wanted: str, by: str) -> None:
        super().__init__(f"{state} -> {wanted} by {by}")
        self.state = state
        self.wanted = wanted
        self.by = by
        self.legal = sorted(MOVES[cast("State", state)])


def require_move(state: str, wanted: State, by: By) -> None:
    """Raises `IllegalMove` where `wanted` does not follow from `state` by this act."""
    if by not in MOVES[cast("State", state)].get(wanted, ()):
        raise IllegalMove(state, wanted, by)

"""The states of a contract, and who may move it from one to another.

    proposed --sign--> active --suspend--> suspended --resume--> active
        each of the three --end--> ended, which is final

A side is what the caller is to this contract: `provider`, `consumer`, or `officer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast, get_args

from gateway.contracts.models import Contract
from gateway.errors import ExchangeError
from gateway.identity.principal import Principal

State = Literal["proposed", "active", "suspended", "ended"]
Verb = Literal["sign", "suspend", "resume", "end"]
Side = Literal["provider", "consumer", "officer"]
EndedReason = Literal["by_consumer", "by_provider", "by_officer", "expired", "licence_revoked"]

MOVES: Mapping[State, Mapping[Verb, tuple[Side, ...]]] = {
    "proposed": {"sign": ("provider", "consumer"), "end": ("provider", "consumer", "officer")},
    "active": {"suspend": ("provider", "officer"), "end": ("provider", "consumer", "officer")},
    "suspended": {"suspend": ("officer",), "resume": ("provider", "officer"), "end": ("provider", "consumer", "officer")},
    "ended": {},
}
"""State -> verb -> the sides that may. Three things more are in `movers`: what the officer has suspended, the officer alone resumes;
what he has suspended he cannot suspend again; and a side signs once, the consumer only where signatures are asked of both."""

OVERSEERS = frozenset({"privacy_officer", "auditor", "operator"})
"""The roles that see every contract."""


def sides_of(caller: Principal, contract: Contract) -> tuple[Side, ...]:
    """What the caller is to this contract; none, if it only oversees. A contract may be between clients of one organization."""
    sides: list[Side] = []
    if caller.organization_id == contract.provider_id:
        sides.append("provider")
    if caller.organization_id == contract.consumer_id:
        sides.append("consumer")
    if "privacy_officer" in caller.roles:
        sides.append("officer")
    return tuple(sides)


def movers(contract: Contract, verb: Verb, *, both_sign: bool) -> tuple[Side, ...]:
    """The sides that may make this move now."""
    sides = MOVES[cast("State", contract.state)].get(verb, ())
    if verb == "sign":
        signed = {signature.side for signature in contract.signatures}
        sides = tuple(side for side in sides if side not in signed and (both_sign or side == "provider"))
    if contract.suspended_by == "officer" and verb != "end":
        sides = ("officer",) if verb == "resume" else ()
    return sides


def acting_side(contract: Contract, verb: Verb, sides: Sequence[Side], *, both_sign: bool) -> Side:
    """The side as which a caller that is `sides` makes this move.

    Raises `role_missing` for one who only looks on, `needs_officer`, and `illegal_state` with the moves that the caller may make.
    """
    if not sides:
        raise ExchangeError("role_missing", "Only its provider, its consumer and the privacy officer move a contract.")
    able = movers(contract, verb, both_sign=both_sign)
    for side in sides:
        if side in able:
            return side
    if verb == "resume" and able == ("officer",):
        raise ExchangeError("needs_officer", "The privacy officer has suspended this contract and alone may resume it.")
    legal = [move for move in get_args(Verb) if set(sides) & set(movers(contract, move, both_sign=both_sign))]
    whose = f"; to {verb} is the {' or the '.join(able)}'s" if able else ""
    raise ExchangeError(
        "illegal_state",
        f"The contract is {contract.state}{whose}.",
        hint=f"You may: {', '.join(legal)}." if legal else "There is nothing that you may do with it in this state.",
        legal=legal,
    )

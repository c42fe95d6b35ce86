"""Roles: what each may do, who may hold it, and the scopes that a person's token has by it. One table; `exchange roles` prints it.

A role of a client narrows what its scopes allow; a role of a person is where the person's scopes come from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

HeldIn = Literal["operating", "department", "any", "none"]


@dataclass(frozen=True, slots=True)
class Role:
    """`held_in`: persons of the operating organization, of any department, of any organization, or of none at all."""

    name: str
    may: str
    held_by: str
    held_in: HeldIn
    scopes: frozenset[str]


ROLES: dict[str, Role] = {
    role.name: role
    for role in (
        Role(
            "partner_admin",
            "Manage the API clients of one's own organization: make registration tokens, approve and revoke; read its contracts and log.",
            "the person who asked for an organization while signed in, once it is approved; whom an operator names",
            "any",
            frozenset({"catalog:read", "contracts:read", "clients:write", "audit:read"}),
        ),
        Role(
            "data_steward",
            "Look after a department's datasets: register and change them, write offers, propose and end contracts, record consent.",
            "a person of a department",
            "department",
            frozenset(
                {
                    *("catalog:read", "catalog:write", "contracts:read", "contracts:write"),
                    *("consents:read", "consents:write", "audit:read"),
                }
            ),
        ),
        Role(
            "privacy_officer",
            "Write policy and agree on it, lower a classification, suspend and end any contract, withdraw any consent, erase a person.",
            "a person or an API client of the operating organization; agreeing on policy, lowering a classification are a person's alone",
            "operating",
            frozenset(
                {
                    *("catalog:read", "catalog:write", "contracts:read", "contracts:write", "consents:read", "consents:write"),
                    *("policies:read", "policies:write", "policies:approve", "audit:read"),
                }
            ),
        ),
        Role(
            "auditor",
            "Search the whole audit log, and read every decision and policy.",
            "a person or an API client of the organization that operates the exchange",
            "operating",
            frozenset({"catalog:read", "contracts:read", "policies:read", "audit:read"}),
        ),
        Role(
            "operator",
            "Approve and suspend organizations, make and revoke clients, say which roles persons have; see the replicas.",
            "a person or an API client of the organization that operates the exchange",
            "operating",
            frozenset({"catalog:read", "organizations:write", "clients:write", "policies:read", "audit:read"}),
        ),
        Role(
            "resident",
            "Ask for an organization, and see who they are here. Their own data they ask for by a code of the provider.",
            "everybody who signs in",
            "none",
            frozenset(),
        ),
    )
}
"""Role to what it is."""

OPERATING = frozenset(name for name, role in ROLES.items() if role.held_in == "operating")
"""What only the organization that operates the exchange has, persons and clients."""


def scopes_of(roles: Iterable[str]) -> frozenset[str]:
    """All scopes that a person has by these roles."""
    return frozenset().union(*(ROLES[name].scopes for name in roles if name in ROLES))


def holdable(roles: Iterable[str], *, kind: str | None, operates: bool) -> frozenset[str]:
    """Those of the roles that a person of such an organization may hold: `kind` is department or partner, None for no organization."""
    return frozenset(name for name in roles if name in ROLES and _may_hold(ROLES[name].held_in, kind, operates=operates))


def _may_hold(held_in: HeldIn, kind: str | None, *, operates: bool) -> bool:
    if held_in == "none":
        return True
    if held_in == "operating":
        return operates
    return kind is not None and held_in in {"any", kind}

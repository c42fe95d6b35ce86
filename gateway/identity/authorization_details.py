"""Rich authorization requests (RFC 9396): `data_contract` narrows a token to contracts of the client's organization."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from authlib.oauth2 import OAuth2Error

ContractParties = Callable[[str], tuple[str, str] | None]
"""From a contract's identifier to its (provider, consumer), or None if there is no such contract."""

TYPE = "data_contract"
MOST = 100


def read_authorization_details(text: str | None, organization_id: str, contract_parties: ContractParties) -> list[dict[str, Any]]:
    """The details as granted: each of a contract to which the organization is a party, each once, with its actions.

    Raises `OAuth2Error` with `invalid_authorization_details`. A contract of others looks like one that does not exist.
    """
    if text is None:
        return []
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused("must be JSON") from error
    if not isinstance(asked, list) or not 1 <= len(asked) <= MOST:
        raise _refused(f"must be a list of 1 to {MOST} objects")
    contracts = dict.fromkeys(_contract_of(detail) for detail in asked)
    for contract in contracts:
        if organization_id not in (contract_parties(contract) or ()):
            raise _refused("name a contract that is not one of yours")
    return [{"type": TYPE, "contract": contract, "actions": ["read"]} for contract in contracts]


def _contract_of(detail: object) -> str:
    if not isinstance(detail, dict) or detail.get("type") != TYPE:
        raise _refused(f"must be objects of the type {TYPE}")
    if detail.keys() - {"type", "contract", "actions"}:
        raise _refused("have a member that this type does not have")
    if detail.get("actions", ["read"]) != ["read"]:
        raise _refused("must have the actions [read]")
    contract = detail.get("contract")
    if not isinstance(contract, str):
        raise _refused("need a contract")
    return contract


def _refused(fault: str) -> OAuth2Error:
    return OAuth2Error(f"The authorization_details {fault}.", error="invalid_authorization_details")

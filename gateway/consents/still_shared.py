"""What goes on when a person's consent ends: events that leave under another ground."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy.orm import Session

from consent.index import ConsentIndex
from gateway.access.grounds import Grounds
from gateway.catalog.purposes import purpose
from gateway.contracts.directory import ContractView
from gateway.database import now


def still_shared(session: Session, state: Any, slug: str, sref: str) -> list[dict[str, str]]:
    """[{contract, ground}]: the contracts in force over the dataset under which events about this person leave without their consent.

    It answers from what is stored where the policy engine is away: ending consent needs the database and nothing else.
    """
    at = now()
    in_force = [
        contract
        for contract in state.contracts.of_dataset(slug)
        if contract.state == "active" and contract.valid_from <= at < contract.valid_until
    ]
    if not in_force:
        return []
    grounds: Grounds = state.grounds
    standings = grounds.of(session, in_force)
    found = []
    for contract in sorted(in_force, key=lambda contract: contract.id):
        stands = standings.get(contract.id)
        if stands is None or "consent_filter" in stands.kinds:
            continue
        if "opt_out_filter" in stands.kinds and not _passes(state.consents, contract, sref):
            continue
        found.append({"contract": contract.id, "ground": stands.ground})
    return found


def _passes(consents: ConsentIndex, contract: ContractView, sref: str) -> bool:
    found = purpose(contract.purpose)
    if found is None:
        return False
    at = time.time_ns() // 1_000_000
    return consents.view(contract.dataset_slug, found.with_broader, contract.consumer_id, unless_opted_out=True)(sref, at, at)

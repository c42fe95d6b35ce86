"""Move: sign, suspend, resume and end a contract. `states.py` says who may. Of two at the same moment one wins; the other is told so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import flag_modified

from gateway.catalog.directory import DatasetView
from gateway.contracts.documents import Act, Signing
from gateway.contracts.models import Contract, Signature
from gateway.contracts.propose import note_act
from gateway.contracts.signatures import verify_detached
from gateway.contracts.states import EndedReason, Side, Verb, acting_side, sides_of
from gateway.database import now
from gateway.errors import ExchangeError, Invalid
from gateway.identity.directory import ClientView
from gateway.identity.principal import Principal

ENDED_BY: dict[Side, EndedReason] = {"provider": "by_provider", "consumer": "by_consumer", "officer": "by_officer"}


def sign(
    session: Session, contract: Contract, document: Signing, dataset: DatasetView, caller: Principal, client: ClientView | None
) -> None:
    """Sign as every side that the caller is; in force once the sides that must have signed.

    Raises `text_changed`, `illegal_state`, `strong_client_required`, and `Invalid` at /signature.
    """
    sides = sides_of(caller, contract)
    both = dataset.needs_signatures
    acting_side(contract, "sign", sides, both_sign=both)
    at = now()
    if contract.valid_until <= at:
        raise ExchangeError("illegal_state", "The time of this contract is over.", legal=[])
    if document.text_digest != contract.text_digest:
        raise ExchangeError("text_changed")
    key_id = _verified(document, client, required=both)
    done = {signature.side for signature in contract.signatures}
    needed = {"provider", "consumer"} if both else {"provider"}
    for side in sorted(needed & set(sides) - done):
        contract.signatures.append(Signature(side=side, by=caller.actor, at=at, key_id=key_id, jws=document.signature))
        detail = {"side": side, "text_digest": contract.text_digest} | ({"key_id": key_id} if key_id else {})
        flag_modified(contract, "state")  # so that two signatures at one moment meet in the contract's version
        note_act(session, contract, "signed", caller, detail)
    if needed <= {signature.side for signature in contract.signatures}:
        contract.state = "active"
        note_act(session, contract, "activated", caller, {"text_digest": contract.text_digest})


def suspend(session: Session, contract: Contract, act: Act, caller: Principal, *, both_sign: bool) -> None:
    """No event leaves under it until it is resumed. Raises `illegal_state`, `role_missing`."""
    side = _move(contract, "suspend", act, caller, both_sign=both_sign)
    contract.state, contract.suspended_by = "suspended", side
    note_act(session, contract, "suspended", caller, {"by": side})


def resume(session: Session, contract: Contract, act: Act, caller: Principal, *, both_sign: bool) -> None:
    """By the side that suspended it, or by the officer. Raises `illegal_state`, `role_missing`, `needs_officer`."""
    side = _move(contract, "resume", act, caller, both_sign=both_sign)
    contract.state, contract.suspended_by = "active", None
    note_act(session, contract, "resumed", caller, {"by": side})


def end(session: Session, contract: Contract, act: Act, caller: Principal, *, both_sign: bool) -> None:
    """For good; a proposal is withdrawn or declined by the same act. Raises `illegal_state`, `role_missing`."""
    side = _move(contract, "end", act, caller, both_sign=both_sign)
    end_as(session, contract, ENDED_BY[side], caller)


def held_open(session: Session, slug: str) -> Sequence[Contract]:
    """The contracts over this dataset that have not ended, held until the transaction ends.

    To be called before the change of the dataset is noted: whoever moves a contract holds it first and the change counter after it.
    """
    return session.scalars(select(Contract).where(Contract.dataset_slug == slug, Contract.state != "ended").with_for_update()).all()


def end_for_revoked_licence(session: Session, contracts: Iterable[Contract], caller: Principal) -> None:
    """End these contracts of a dataset whose licence was revoked. The dataset is held, so that none is proposed meanwhile."""
    for contract in contracts:
        end_as(session, contract, "licence_revoked", caller)


def _move(contract: Contract, verb: Verb, act: Act, caller: Principal, *, both_sign: bool) -> Side:
    side = acting_side(contract, verb, sides_of(caller, contract), both_sign=both_sign)
    contract.reason, contract.reason_note = act.reason, act.note
    return side


def end_as(session: Session, contract: Contract, reason: EndedReason, caller: Principal | None) -> None:
    """End it for this reason; without a caller, time did it."""
    contract.state, contract.ended_reason, contract.suspended_by = "ended", reason, None
    note_act(session, contract, "ended", caller, {"reason": reason})


def _verified(document: Signing, client: ClientView | None, *, required: bool) -> str | None:
    if document.signature is None:
        if required:
            raise Invalid([{"pointer": "/signature", "detail": "is needed: a contract over personal or sensitive data is signed by key"}])
        return None
    if client is None or client.jwks is None:
        raise ExchangeError("strong_client_required", "The signer has no keys by which its signature could be verified.")
    return verify_detached(document.signature, document.text_digest, client.jwks)

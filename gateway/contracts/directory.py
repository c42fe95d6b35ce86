"""The contracts as this process knows them: in memory, loaded once, then following the changes; and those who wait for one to change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.changes import Change
from gateway.contracts.models import Contract
from gateway.waiting import Waiting


@dataclass(frozen=True, slots=True)
class ContractView:
    """A contract at one change. `history` is `none`, an ISO 8601 duration, or `all`; `offer_id` names the offer that was taken up."""

    id: str
    state: str
    provider_id: str
    consumer_id: str
    dataset_slug: str
    purpose: str
    valid_from: datetime
    valid_until: datetime
    history: str
    offer_id: str | None = None
    ended_reason: str | None = None
    text_digest: str = ""


class Directory:
    """All contracts by id. Reading takes no lock: an entry is replaced whole."""

    def __init__(self) -> None:
        self._contracts: dict[str, ContractView] = {}
        self._of_dataset: dict[str, set[str]] = {}
        self._not_in_force: list[Callable[[ContractView], object]] = []
        self._waiting = Waiting()

    def get(self, contract_id: str) -> ContractView | None:
        return self._contracts.get(contract_id)

    def of_dataset(self, slug: str) -> tuple[ContractView, ...]:
        """Every contract over this dataset, in whatever state."""
        return tuple(self._contracts[contract_id] for contract_id in tuple(self._of_dataset.get(slug, ())))

    def parties(self, contract_id: str) -> tuple[str, str] | None:
        """Provider and consumer of this contract."""
        contract = self.get(contract_id)
        return (contract.provider_id, contract.consumer_id) if contract else None

    def due(self, at: datetime) -> tuple[str, ...]:
        """The contracts whose time is over and that have not ended yet."""
        return tuple(
            contract.id for contract in tuple(self._contracts.values()) if contract.state != "ended" and contract.valid_until <= at
        )

    def any_due(self, at: datetime) -> bool:
        """True if the time of a contract that has not ended is over."""
        return any(contract.valid_until <= at and contract.state != "ended" for contract in tuple(self._contracts.values()))

    def when_not_in_force(self, tell: Callable[[ContractView], object]) -> None:
        """Call `tell(contract)` at once when one is suspended or has ended: in the thread that applies changes, so it must not block."""
        self._not_in_force.append(tell)

    def load(self, session: Session) -> None:
        """Fill from the database, all anew."""
        self._contracts, self._of_dataset = {}, {}
        self._keep(session.scalars(select(Contract)))

    def on_changes(self, session: Session, changes: Sequence[Change]) -> None:
        """Read again what these changes are about; tell those who asked to be told."""
        ids = {change.object for change in changes if change.kind.startswith("contract_")}
        if not ids:
            return
        self._keep(session.scalars(select(Contract).where(Contract.id.in_(ids))))
        for contract in filter(None, map(self.get, ids)):
            if contract.state in {"suspended", "ended"}:
                for tell in self._not_in_force:
                    tell(contract)
        for contract_id in ids:
            self._waiting.wake(contract_id)

    async def wait_while(self, contract_id: str, state: str, seconds: float) -> None:
        """Return once the contract is in another state, or after these seconds. Holds no thread."""

        def is_another() -> bool:
            known = self.get(contract_id)
            return known is None or known.state != state

        await self._waiting.until(is_another, contract_id, seconds)

    def stop(self) -> None:
        """Let go all who wait: the process is about to end."""
        self._waiting.stop()

    def _keep(self, rows: Iterable[Contract]) -> None:
        for row in rows:
            self._contracts[row.id] = view(row)
            self._of_dataset.setdefault(row.dataset_slug, set()).add(row.id)


def view(row: Contract) -> ContractView:
    """What the rest of the gateway knows of a contract."""
    return ContractView(
        id=row.id,
        state=row.state,
        provider_id=row.provider_id,
        consumer_id=row.consumer_id,
        dataset_slug=row.dataset_slug,
        purpose=row.purpose,
        valid_from=row.valid_from,
        valid_until=row.valid_until,
        history=row.history,
        offer_id=row.offer_id,
        ended_reason=row.ended_reason,
        text_digest=row.text_digest,
    )


async def _contracts(request: Request) -> Directory:
    directory: Directory = request.app.state.contracts
    return directory


Contracts = Annotated[Directory, Depends(_contracts)]

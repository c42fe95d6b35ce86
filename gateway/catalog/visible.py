"""Who may see a dataset: everyone, save that one with sensitive data shows itself to owner, overseers and parties only."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Response

from gateway.catalog.directory import DatasetView, Directory
from gateway.contracts.directory import Directory as Contracts
from gateway.errors import ExchangeError
from gateway.identity.principal import Anybody, Principal

OVERSEERS = frozenset({"privacy_officer", "operator"})


def may_see(dataset: DatasetView, caller: Principal | None, contracts: Contracts) -> bool:
    """True if the caller may know that there is this dataset."""
    if dataset.classification != "sensitive":
        return True
    if caller is None or "catalog:read" not in caller.scopes:
        return False
    if caller.organization_id == dataset.owner_id or caller.roles & OVERSEERS:
        return True
    return any(caller.organization_id == contract.consumer_id for contract in contracts.of_dataset(dataset.slug))


def visible(slug: str, caller: Principal | None, catalog: Directory, contracts: Contracts) -> DatasetView:
    """The dataset, if the caller may see it. Raises `not_found`, and does not tell which it was."""
    dataset = catalog.get(slug)
    if dataset is None or not may_see(dataset, caller, contracts):
        raise ExchangeError("not_found")
    return dataset


def _seen(slug: str, request: Request, caller: Anybody) -> DatasetView:
    return visible(slug, caller, request.app.state.catalog, request.app.state.contracts)


Seen = Annotated[DatasetView, Depends(_seen)]
"""The dataset that the path names, if the caller may see it."""


def _readable_from_anywhere(response: Response) -> None:
    response.headers["Access-Control-Allow-Origin"] = "*"


ForBrowsers = Depends(_readable_from_anywhere)
"""Of calls that need no token: a page of any origin may read the answer."""

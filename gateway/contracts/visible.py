"""Who may see a dataset: everyone, save that one with sensitive data shows itself to its owner, those who oversee, and parties only."""

from __future__ import annotations

from gateway.catalog.directory import DatasetView
from gateway.catalog.directory import Directory as Catalog
from gateway.contracts.directory import Directory as Contracts
from gateway.errors import ExchangeError
from gateway.identity.principal import Principal

OVERSEERS = frozenset({"privacy_officer", "operator"})
SCOPES = frozenset({"catalog:read", "catalog:write"})


def may_see(dataset: DatasetView, caller: Principal | None, contracts: Contracts) -> bool:
    """True if the caller may know that there is this dataset."""
    if dataset.classification != "sensitive":
        return True
    if caller is None or not caller.scopes & SCOPES:
        return False
    if caller.organization_id == dataset.owner_id or caller.roles & OVERSEERS:
        return True
    return any(caller.organization_id == contract.consumer_id for contract in contracts.of_dataset(dataset.slug))


def visible(slug: str, caller: Principal | None, catalog: Catalog, contracts: Contracts) -> DatasetView:
    """The dataset, if the caller may see it. Raises `not_found`, which does not tell whether it exists."""
    dataset = catalog.get(slug)
    if dataset is None or not may_see(dataset, caller, contracts):
        raise ExchangeError("not_found")
    return dataset

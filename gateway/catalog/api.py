"""The catalogue over HTTP. What anyone may know needs no token; what is not open to the caller is not there."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from gateway.catalog import examples, sample
from gateway.catalog.asyncapi import dataset_document
from gateway.catalog.change import change_dataset
from gateway.catalog.directory import Catalog, DatasetView
from gateway.catalog.documents import (
    DatasetDocument,
    DatasetPage,
    NewDataset,
    NewOffer,
    NewSchema,
    OfferDocument,
    OfferPage,
    PurposePage,
    SchemaDocument,
)
from gateway.catalog.models import Dataset, Offer, SchemaVersion
from gateway.catalog.purposes import purposes
from gateway.catalog.register import locked, register_dataset, register_offer, register_schema
from gateway.contracts.directory import Contracts
from gateway.contracts.move import end_for_revoked_licence, held_open
from gateway.contracts.visible import may_see, visible
from gateway.database import Reading, Transaction
from gateway.errors import ExchangeError, Invalid
from gateway.http import After, IfMatch, Limit, etag, page, require_match
from gateway.idempotency import IdempotentRoute
from gateway.identity.principal import Allow, Anybody, Principal, require_fresh

router = APIRouter(prefix="/v1", tags=["catalog"], route_class=IdempotentRoute)

Writer = Annotated[Principal, Allow("catalog:write")]
BATCH = "application/cloudevents-batch+json"
FROM_ANYWHERE = {"Access-Control-Allow-Origin": "*"}


async def _readable_from_anywhere(response: Response) -> None:
    response.headers.update(FROM_ANYWHERE)


ForBrowsers = Depends(_readable_from_anywhere)
"""Of calls that need no token: a page of any origin may read the answer."""


async def _seen(slug: str, caller: Anybody, catalog: Catalog, contracts: Contracts) -> DatasetView:
    return visible(slug, caller, catalog, contracts)


Seen = Annotated[DatasetView, Depends(_seen)]
"""The dataset that the path names, if the caller may see it."""


def _shows(example: Any, status: int = 200, media_type: str = "application/json") -> dict[int | str, dict[str, Any]]:
    return {status: {"content": {media_type: {"example": example}}}}


def _example(value: dict[str, Any], media_type: str = "application/json") -> Any:
    return Body(media_type=media_type, openapi_examples={"example": {"value": value}})


@router.get(
    "/purposes", summary="The tree of purposes", dependencies=[ForBrowsers], responses=_shows({"items": [examples.PURPOSE], "next": None})
)
def list_purposes() -> PurposePage:
    """Each with its concept of the W3C Data Privacy Vocabulary, and the purposes that contain it. All on one page; no token."""
    items = [{"code": it.code, "iri": it.iri, "title": dict(it.title), "broader": list(it.broader)} for it in purposes()]
    return PurposePage.model_validate({"items": items})


@router.get(
    "/datasets",
    summary="The datasets",
    response_model=DatasetPage,
    dependencies=[ForBrowsers],
    responses=_shows({"items": [examples.SUMMARY], "next": None}),
)
def list_datasets(
    request: Request,
    response: Response,
    caller: Anybody,
    catalog: Catalog,
    contracts: Contracts,
    session: Reading,
    limit: Limit = 50,
    after: After = None,
) -> dict[str, Any]:
    """No token is needed; with one, sensitive datasets that concern the caller's organization are among them."""
    sensitive = [dataset.slug for dataset in catalog.all() if dataset.classification == "sensitive" and may_see(dataset, caller, contracts)]
    statement = select(Dataset).where(or_(Dataset.classification != "sensitive", Dataset.slug.in_(sensitive)))
    return page(session, statement, Dataset.slug, _summary, limit=limit, after=after, request=request, response=response)


@router.get("/datasets/{slug}", summary="A dataset", dependencies=[ForBrowsers], responses=_shows(examples.DATASET))
def read_dataset(dataset: Seen, session: Reading, response: Response) -> DatasetDocument:
    return _shown(session, session.get_one(Dataset, dataset.slug), response)


@router.post("/datasets", status_code=201, summary="Register a dataset", responses=_shows(examples.DATASET, 201))
def create_dataset(
    wanted: Annotated[NewDataset, _example(examples.NEW_DATASET)],
    caller: Writer,
    request: Request,
    response: Response,
    catalog: Catalog,
    session: Transaction,
) -> DatasetDocument:
    """With its first schema version. The owner is the caller's organization; an operator may name another."""
    owner_id = wanted.owner or caller.organization_id
    if owner_id != caller.organization_id:
        if "operator" not in caller.roles:
            raise ExchangeError("role_missing", "Only an operator registers a dataset for another organization.")
        if request.app.state.identity.organization(owner_id) is None:
            raise Invalid([{"pointer": "/owner", "detail": "names no organization"}])
    row = register_dataset(session, wanted, owner_id, caller, catalog, request.app.state.make_topic)
    response.headers["Location"] = f"/v1/datasets/{row.slug}"
    return _shown(session, row, response)


@router.patch("/datasets/{slug}", summary="Change a dataset (RFC 7396)", responses=_shows(examples.DATASET))
def patch_dataset(
    patch: Annotated[dict[str, Any], _example({"classification": "sensitive"}, "application/merge-patch+json")],
    caller: Writer,
    dataset: Seen,
    response: Response,
    session: Transaction,
    request: Request,
    if_match: IfMatch = None,
) -> DatasetDocument:
    """By the owner or the privacy officer, who alone lowers a classification, and signs in anew for that.

    `licence_revoked: true` ends every contract over it.
    """
    if "privacy_officer" not in caller.roles:
        _require_owner(dataset, caller)
    row = locked(session, dataset.slug)
    require_match(if_match, row.version)
    contracts = held_open(session, row.slug) if patch.get("licence_revoked") is True else ()
    if change_dataset(session, row, patch, caller, partial(require_fresh, request, caller)):
        end_for_revoked_licence(session, contracts, caller)
    return _shown(session, row, response)


@router.post(
    "/datasets/{slug}/schemas", status_code=201, summary="Publish a schema version", responses=_shows(examples.SCHEMA_VERSION, 201)
)
def create_schema(
    wanted: Annotated[NewSchema, _example({"schema": examples.SCHEMA_VERSION["schema"]})],
    caller: Writer,
    dataset: Seen,
    response: Response,
    session: Transaction,
) -> SchemaDocument:
    """Refused with what breaks, if it does not keep the compatibility that the dataset promises."""
    _require_owner(dataset, caller)
    version = register_schema(session, dataset, wanted, caller)
    response.headers["Location"] = f"/v1/datasets/{dataset.slug}/schemas/{version.number}"
    return _shown_schema(version)


@router.get(
    "/datasets/{slug}/schemas/{number}", summary="A schema version", dependencies=[ForBrowsers], responses=_shows(examples.SCHEMA_VERSION)
)
def read_schema(number: int, dataset: Seen, session: Reading) -> SchemaDocument:
    version = session.get(SchemaVersion, (dataset.slug, number)) if number in dataset.schemas else None
    if version is None:
        raise ExchangeError("not_found")
    return _shown_schema(version)


@router.get(
    "/datasets/{slug}/offers",
    summary="The standing offers",
    response_model=OfferPage,
    dependencies=[ForBrowsers],
    responses=_shows({"items": [examples.OFFER], "next": None}),
)
def list_offers(
    dataset: Seen, request: Request, response: Response, session: Reading, limit: Limit = 50, after: After = None
) -> dict[str, Any]:
    statement = select(Offer).where(Offer.dataset_slug == dataset.slug)
    return page(session, statement, Offer.id, _offer, limit=limit, after=after, request=request, response=response)


@router.post("/datasets/{slug}/offers", status_code=201, summary="Make a standing offer", responses=_shows(examples.OFFER, 201))
def create_offer(
    wanted: Annotated[NewOffer, _example(examples.NEW_OFFER)], caller: Writer, dataset: Seen, session: Transaction
) -> OfferDocument:
    """Terms to which the provider signs in advance: a contract that takes them up is in force at once. Open and internal datasets only."""
    _require_owner(dataset, caller)
    return OfferDocument.model_validate(_offer(register_offer(session, dataset, wanted, caller)))


@router.get(
    "/datasets/{slug}/asyncapi.json",
    summary="AsyncAPI 3.0 of a dataset",
    dependencies=[ForBrowsers],
    responses=_shows({"asyncapi": "3.0.0", "info": {"title": "Stops", "version": "1"}, "channels": {}}),
)
def read_asyncapi(dataset: Seen, request: Request) -> dict[str, Any]:
    return dataset_document(request.app.state.settings.issuer, dataset)


@router.get(
    "/datasets/{slug}/sample",
    summary="Twenty synthetic events",
    response_class=JSONResponse,
    responses=_shows([examples.EVENT], media_type=BATCH),
)
def read_sample(dataset: Seen, request: Request) -> JSONResponse:
    """Made from the schema alone, the same at each call; `synthetic` is true in each."""
    source = f"{request.app.state.settings.issuer}/v1/datasets/{dataset.slug}/sample"
    events = sample.events(dataset.slug, source, dataset.schema, dataset.fits)
    return JSONResponse(events, media_type=BATCH, headers=FROM_ANYWHERE)


def _require_owner(dataset: DatasetView, caller: Principal) -> None:
    if caller.organization_id != dataset.owner_id:
        raise ExchangeError("not_the_owner", f"{dataset.slug} belongs to another organization.")


def _shown(session: Session, row: Dataset, response: Response) -> DatasetDocument:
    response.headers["ETag"] = etag(row.version)
    schema = session.get_one(SchemaVersion, (row.slug, row.current)).document
    return DatasetDocument.model_validate(_summary(row) | {"schema": schema})


def _summary(row: Dataset) -> dict[str, Any]:
    named = {"owner": row.owner_id, "schema_version": row.current}
    same = set(DatasetDocument.model_fields) - {*named, "schema_"}
    return {name: getattr(row, name) for name in same} | named


def _shown_schema(version: SchemaVersion) -> SchemaDocument:
    return SchemaDocument.model_validate(
        {"dataset": version.dataset_slug, "number": version.number, "schema": version.document, "created_at": version.created_at},
    )


def _offer(row: Offer) -> dict[str, Any]:
    to = row.to[0] if row.to in (["anyone"], ["approved_organizations"]) else row.to
    same = ("id", "purpose", "terms", "max_validity", "max_history", "created_at")
    return {name: getattr(row, name) for name in same} | {"dataset": row.dataset_slug, "to": to}

"""The documents of what a person can ask, each with an example. They name neither the person nor anybody else."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from gateway.catalog.documents import Slug
from gateway.consents.documents import Shown
from gateway.consents.examples import ANSWERED
from gateway.http import Document, Time

WHO: dict[str, Any] = {"dataset": "port-credit-footfall", "subject": "visitor-4711"}
CODE: dict[str, Any] = {"code": "4T7N-0QXK-9M2B-H6WD", "expires_at": "2026-11-23T12:10:00Z"}
SESSION: dict[str, Any] = {"token": "exp_hG2vY0bN5sT1mR8kQ4wX7cJ3pL6dF9aZ0eU2iO5tB1n", "expires_at": "2026-11-23T12:17:00Z"}
DISCLOSURE: dict[str, Any] = {
    "day": "2026-11-23",
    "dataset": "port-credit-footfall",
    "contract": "con_01kaqv8f7e9n3p5r7t9w1y3a5c",
    "recipient": {"id": "org_01kaqv8f7e9n3p5r7t9w1y3a5c", "name": "Mobility Inc."},
    "purpose": "transit-planning",
    "decision": "dec_01kaqv8f7e9n3p5r7t9w1y3a5c",
    "events": 12,
}
DATASET: dict[str, Any] = {
    "slug": "port-credit-footfall",
    "title": {"en": "Footfall in Port Credit", "fr": "Fréquentation de Port Credit"},
    "description": {"en": "Visits to the shops of a street.", "fr": "Visites aux commerces d'une rue."},
    "classification": "personal",
    "owner": {"id": "org_01kaqv8f7e9n3p5r7t9w1y3a5d", "name": "Port Credit BIA"},
    "contact": "privacy@port-credit.example",
}


def _with(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class Who(Document):
    """A person in a dataset, as the dataset's events name them."""

    model_config = _with(WHO)

    dataset: Slug
    subject: Annotated[str, Field(min_length=1, max_length=512, description="Taken, never returned.")]


class Code(BaseModel):
    """A one-time code, to be handed to the person."""

    model_config = _with(CODE)

    code: str
    expires_at: Time


class Redeemed(Document):
    """The code as the person writes it; spaces, hyphens and small letters do not matter."""

    model_config = _with({"code": CODE["code"]})

    code: Annotated[str, Field(min_length=1, max_length=100)]


class Session(BaseModel):
    """A session: its token is sent as `Authorization: Bearer`."""

    model_config = _with(SESSION)

    token: str
    expires_at: Time


class Named(BaseModel):
    """An organization."""

    id: str
    name: str


class Disclosed(BaseModel):
    """What one recipient received about the person on one day (UTC), under one contract and decision. An event sent twice counts twice.

    Of open data, which anybody may have read, contract, recipient and purpose are null.
    """

    model_config = _with(DISCLOSURE)

    day: Annotated[date, PlainSerializer(date.isoformat, return_type=str)]
    dataset: str
    contract: str | None
    recipient: Named | None
    purpose: str | None
    decision: str
    events: int


class Disclosures(BaseModel):
    """Who received something about the person who asks, by day."""

    model_config = _with({"items": [DISCLOSURE], "next": None})

    items: list[Disclosed]
    next: str | None


class Described(BaseModel):
    """A dataset with something about the person, and whom to ask about it."""

    model_config = _with(DATASET)

    slug: str
    title: dict[str, str]
    description: dict[str, str]
    classification: str
    owner: Named
    contact: str | None


class Export(BaseModel):
    """All that the exchange can say to the person who asks. The events themselves are the provider's to give."""

    model_config = _with({"at": "2026-11-23T12:03:00Z", "datasets": [DATASET], "consents": [ANSWERED], "disclosures": [DISCLOSURE]})

    at: Time
    datasets: list[Described]
    consents: list[Shown]
    disclosures: list[Disclosed]

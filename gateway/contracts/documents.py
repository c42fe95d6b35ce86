"""The documents of contracts on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from gateway.catalog.documents import History, Line, PurposeCode, Slug, Text
from gateway.contracts.states import EndedReason, State
from gateway.http import Document, Time

Digest = Annotated[
    str,
    StringConstraints(max_length=100, pattern=r"^sha-256=:[A-Za-z0-9+/]{43}=:$"),
    Field(description="SHA-256 of the text as a byte sequence (RFC 9530)."),
]


class NewContract(Document):
    """A proposal: the consumer's act."""

    dataset: Slug
    purpose: PurposeCode
    valid_from: Time | None = Field(None, description="Now, if left out.")
    valid_until: Time | None = Field(None, description="A year later, if left out; under an offer as long as it gives.")
    history: History = Field("none", description="How far before `valid_from` it may read: `none`, an ISO 8601 duration, `all`.")
    note: Text | None = Field(None, description="For the other side to read.")
    offer: Line | None = Field(None, description="The standing offer to take up.")


class SignatureDocument(Document):
    """One side's act on the text; `by` is a client, or the offer by which the provider signed in advance."""

    side: Literal["provider", "consumer"]
    by: str
    at: Time
    key_id: str | None


class ContractDocument(Document):
    """A contract."""

    id: str
    state: State
    provider: str
    consumer: str
    dataset: str
    purpose: str
    valid_from: Time
    valid_until: Time
    history: str
    note: str | None
    offer: str | None
    text_digest: Digest
    signatures: list[SignatureDocument]
    decision: str = Field(description="The decision that allowed the proposal.")
    suspended_by: Literal["provider", "officer"] | None
    ended_reason: EndedReason | None
    reason: str | None = Field(description="Why it was last suspended, resumed or ended.")
    reason_note: str | None
    created_at: Time


class ContractPage(Document):
    """A page of contracts."""

    items: list[ContractDocument]
    next: str | None


class Signing(Document):
    """What the signer has read, and for personal and sensitive data the signature."""

    text_digest: Digest
    signature: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = Field(
        None,
        description="Detached JWS (RFC 7515 appendix F) over the bytes of `text_digest`; its `kid` is in the client's JWKS.",
    )


class Act(Document):
    """Why a contract is suspended, resumed or ended; both sides can read it."""

    reason: Line | None = None
    note: Text | None = None


class UsageDay(Document):
    """Events that left on a day (UTC), and their bytes."""

    day: str
    events: int
    bytes: int


class UsageDocument(Document):
    """What was delivered under a contract, by day."""

    days: list[UsageDay]

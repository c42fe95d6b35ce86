"""The documents of notices and consent records on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from consent.codes import LONGEST
from consent.states import State
from gateway.catalog.documents import Description, PurposeCode, Slug, Title
from gateway.consents import examples
from gateway.http import Document, Time

Word = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Identifier = Annotated[
    str, Field(min_length=1, max_length=512, description="As the dataset's events name the person; taken, never returned.")
]
Ground = Literal["consent", "notice_with_opt_out"]
Giver = Literal["subject", "guardian", "provider"]
Person = Literal["subject", "guardian"]
MOST_OF_A_CHUNK = 1000


def _distinct(values: list[str]) -> list[str]:
    if len(set(values)) != len(values):
        raise ValueError("names something twice")
    return values


Purposes = Annotated[list[PurposeCode], Field(min_length=1, max_length=50), AfterValidator(_distinct)]
Recipients = Annotated[
    list[Word], Field(min_length=1, max_length=200, description="Organizations, or `any_recipient`."), AfterValidator(_distinct)
]


def _like(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class NoticeContent(Document):
    """What a version of a notice says. Who is shown it can say yes to all of it or to a part."""

    model_config = _like(examples.NOTICE_CONTENT)

    title: Title
    text: Description
    purposes: Purposes
    recipients: Recipients
    legal_ground: Ground = "consent"
    covers_earlier: bool = Field(False, description="True if it says that events of before the consent are shared too.")


class NewNotice(NoticeContent):
    """A new notice, for one dataset."""

    model_config = _like(examples.NEW_NOTICE)

    dataset: Slug


class NoticeDocument(BaseModel):
    """A version of a notice. `asks_anew`: purposes, recipients, ground or reach are not those of the version before."""

    model_config = _like(examples.NOTICE)

    id: str
    version: str
    dataset: str
    title: dict[str, str]
    text: dict[str, str]
    text_digest: dict[str, str]
    purposes: list[str]
    recipients: list[str]
    legal_ground: Ground
    covers_earlier: bool
    asks_anew: bool
    created_at: str


class NoticePage(BaseModel):
    """A page of notices, each at its newest version."""

    model_config = _like({"items": [examples.NOTICE], "next": None})

    items: list[NoticeDocument]
    next: str | None


class NoticeReference(Document):
    """The notice that the person was shown: which, in which version, in which language."""

    id: Annotated[str, Field(pattern=r"^ntc_[0-9a-z]{26}$")]
    version: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$")]
    language: Literal["en", "fr"]


class Evidence(Document):
    """What shows that it was said: its kind, and the digest of what the provider keeps."""

    kind: Word
    digest: Word


class ConsentDocument(Document):
    """Consent as it is given, asked for (`requested`) or refused. `valid_from` is now, `valid_until` open, unless said."""

    model_config = _like(examples.ASKED)

    dataset: Slug
    subject: Identifier
    purposes: Purposes
    recipients: Recipients
    notice: NoticeReference
    state: Literal["given", "requested", "refused"] = "given"
    given_by: Giver | None = Field(None, description="Who says so; nobody yet, where it is only requested.")
    evidence: Evidence | None = None
    valid_from: Time | None = None
    valid_until: Time | None = None


class SearchDocument(Document):
    """A person in a dataset."""

    model_config = _like({"dataset": "port-credit-footfall", "subject": "visitor-4711"})

    dataset: Slug
    subject: Identifier


class Reply(Document):
    """The person's reply to a request, as it reached the provider."""

    model_config = _like({"given_by": "subject"})

    given_by: Giver
    evidence: Evidence | None = None


class Asked(Document):
    """The person's own act, brought by who was asked for it."""

    model_config = _like(examples.ASKED_BY)

    asked_by: Person = "subject"
    reason: Word | None = None
    evidence: Evidence | None = None


class Reasoned(Document):
    """An act of the provider or of the city, with its reason."""

    model_config = _like(examples.REASON)

    reason: Word | None = None
    evidence: Evidence | None = None


class CodeDocument(Document):
    """A withdrawal code, or the receipt that it stands in."""

    model_config = _like(examples.CODE)

    code: Annotated[str, Field(max_length=LONGEST)] | None = None
    receipt: Annotated[str, Field(max_length=64 * 1024)] | None = None


class Step(BaseModel):
    """A state that a record came to."""

    state: State
    at: str
    by: str
    reason: str | None


class Shown(BaseModel):
    """A consent record (ISO/IEC TS 27560), without its subject. `status` is the state's term in DPV."""

    model_config = _like(examples.ANSWERED)

    id: str
    state: State
    status: str
    dataset: str
    purposes: list[str]
    recipients: list[str]
    notice: dict[str, Any] | None
    legal_ground: Ground
    covers_earlier: bool
    renewal_needed: bool = Field(
        description="The notice has since changed in purpose, recipient, ground or reach: that needs a new consent."
    )
    given_by: str | None
    evidence: dict[str, str] | None
    given_at: str | None
    valid_from: str
    valid_until: str | None
    ended_at: str | None
    history: list[Step]


class Given(Shown):
    """A record with its receipt and, told this once, its withdrawal code."""

    model_config = _like(examples.GIVEN)

    receipt: str | None
    withdrawal_code: str | None


class Found(BaseModel):
    """The records of a person."""

    model_config = _like({"items": [examples.ANSWERED], "next": None})

    items: list[Shown]
    next: str | None


class Barrier(BaseModel):
    """`change` is the act's number, `replicas` how many have applied it, `waited_ms` how long that took once it was durable."""

    change: int
    replicas: int
    waited_ms: int


class Stopped(BaseModel):
    """The record's state, since when, and `still_shared`: what goes on under another ground than consent."""

    model_config = _like(examples.STOPPED)

    state: State
    effective_at: str
    still_shared: list[dict[str, str]]
    barrier: Barrier


class Reissued(BaseModel):
    """A receipt with a new withdrawal code; the one before is good no longer."""

    model_config = _like({"receipt": examples.RECEIPT, "withdrawal_code": examples.CODE["code"]})

    receipt: str
    withdrawal_code: str


class ImportedConsent(Document):
    """One person of a chunk."""

    subject: Identifier
    valid_from: Time | None = None
    valid_until: Time | None = None
    evidence: Evidence | None = None


class Chunk(Document):
    """A part of a mass import: who has said the same to the same notice. Sending it again does nothing twice."""

    model_config = _like(examples.CHUNK)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$", description="The import's, as its sender calls it.")]
    chunk: Annotated[int, Field(ge=0, le=10_000_000, description="The number of this part, from 0 on.")]
    dataset: Slug
    notice: NoticeReference
    purposes: Purposes
    recipients: Recipients
    state: Literal["given", "refused"] = "given"
    given_by: Giver
    codes: bool = Field(False, description="Answer with a withdrawal code for each.")
    consents: Annotated[list[ImportedConsent], Field(min_length=1, max_length=MOST_OF_A_CHUNK)]


class ImportedItem(BaseModel):
    """A record that an import made."""

    id: str
    withdrawal_code: str | None


class Imported(BaseModel):
    """What became of a chunk. `items` stand in the order in which they were sent; a chunk that was done before has none."""

    model_config = _like(examples.IMPORTED)

    name: str
    chunk: int
    records: int
    change: int
    repeated: bool
    items: list[ImportedItem] | None


class Progress(BaseModel):
    """How far an import has come: `next` is the least number of a chunk that is not done."""

    model_config = _like({"name": "spring-survey", "chunks": 12, "records": 6000, "next": 12})

    name: str
    chunks: int
    records: int
    next: int

"""The documents of the catalogue on the wire: purposes, datasets, schema versions, offers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AnyHttpUrl, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic.functional_validators import AfterValidator

from gateway.catalog.compatibility import Compatibility
from gateway.catalog.purposes import purpose
from gateway.http import Document, Period, Time

Classification = Literal["open", "internal", "personal", "sensitive"]
SubjectScheme = Literal["opaque", "email", "e164"]

NO_CONTROLS = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"
Line = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f\u2028\u2029]*$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=10_000, pattern=NO_CONTROLS)]
Pointer = Annotated[
    str,
    StringConstraints(max_length=200, pattern=r"^(/([^/~\x00-\x1f]|~[01])+)+$"),
    Field(description="JSON Pointer (RFC 6901) into the event's `data`, for example `/visitor`."),
]
Slug = Annotated[str, StringConstraints(max_length=100, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
_HTTP_URL = TypeAdapter(AnyHttpUrl)


def _check_url(value: str) -> str:
    try:
        _HTTP_URL.validate_python(value)
    except ValidationError as error:
        raise ValueError("must be an http or https URL") from error
    return value


def _check_purpose(code: str) -> str:
    if purpose(code) is None:
        raise ValueError("names no purpose; GET /v1/purposes lists them")
    return code


def _check_history(value: str) -> str:
    return value if value in {"none", "all"} else _PERIOD.validate_python(value)


_PERIOD: TypeAdapter[str] = TypeAdapter(Period)
Url = Annotated[Line, AfterValidator(_check_url)]
PurposeCode = Annotated[Line, AfterValidator(_check_purpose), Field(description="A code of GET /v1/purposes.")]
History = Annotated[Line, AfterValidator(_check_history), Field(description="`none`, an ISO 8601 duration, or `all`.")]


class Title(Document):
    """A line in English and French."""

    en: Line
    fr: Line


class Description(Document):
    """A text in English and French."""

    en: Text
    fr: Text


class Licence(Document):
    """The licence: its SPDX identifier or other short name, where it is written, and whom to name."""

    id: Line
    url: Url
    attribution: Line


class Changeable(Document):
    """What of a dataset its owner may change later."""

    title: Title
    description: Description
    classification: Classification
    licence: Licence
    personal_pointers: list[Pointer] = Field(default_factory=list, max_length=200, description="The fields that are about a person.")
    sealed_pointers: list[Pointer] = Field(
        default_factory=list,
        max_length=50,
        description="Those of them that are stored sealed, under a key that dies with the subject.",
    )
    compatibility: Compatibility = "backward"
    contact: Line | None = Field(None, description="Whom to ask about this dataset.")
    legal_authority: Line | None = Field(None, description="The ground in law for collecting it.")
    assessment: Line | None = Field(None, description="The privacy impact assessment that it rests on.")


class NewDataset(Changeable):
    """A dataset as it is proposed to the catalogue, with its first schema version."""

    slug: Slug
    owner: Line | None = Field(None, description="The owning organization; the caller's if left out. Another's: operators only.")
    key_pointer: Pointer | None = Field(None, description="The field whose value keeps events in order: equal values, one partition.")
    subject_pointer: Pointer | None = Field(None, description="The field that names the person whom the event is about.")
    subject_scheme: SubjectScheme | None = Field(None, description="How that name is normalised; `opaque` if left out.")
    partitions: int = Field(1, ge=1, le=64)
    retention: Period | None = Field(None, description="How long events are kept; for good if left out.")
    schema_: dict[str, Any] = Field(alias="schema", description="JSON Schema 2020-12 of the event's `data`.")
    supersedes: Slug | None = Field(None, description="The dataset that this one takes the place of.")


class ChangedDataset(Changeable):
    """A dataset after a merge patch (RFC 7396)."""

    licence_revoked: bool = Field(description="True ends every contract over the dataset, for good.")


class DatasetSummary(Changeable):
    """A dataset in a list."""

    slug: Slug
    owner: str
    licence_revoked: bool
    key_pointer: str | None
    subject_pointer: str | None
    subject_scheme: SubjectScheme | None
    partitions: int
    retention: str | None
    supersedes: str | None
    schema_version: int = Field(description="The number of the current schema version.")
    created_at: Time


class DatasetDocument(DatasetSummary):
    """A dataset with its current schema."""

    schema_: dict[str, Any] = Field(alias="schema")


class NewSchema(Document):
    """A further schema version."""

    schema_: dict[str, Any] = Field(alias="schema", description="JSON Schema 2020-12 of the event's `data`.")


class SchemaDocument(Document):
    """A schema version of a dataset."""

    dataset: Slug
    number: int
    schema_: dict[str, Any] = Field(alias="schema")
    created_at: Time


class NewOffer(Document):
    """Terms to which the provider signs in advance."""

    purpose: PurposeCode
    terms: Description
    max_validity: Period
    max_history: History = "none"
    to: Literal["anyone", "approved_organizations"] | Annotated[list[Line], Field(min_length=1, max_length=200)] = "approved_organizations"


class OfferDocument(NewOffer):
    """A standing offer."""

    id: str
    dataset: Slug
    created_at: Time


class PurposeDocument(Document):
    """A purpose; `broader` holds every purpose that contains it, the nearest first."""

    code: str
    iri: str = Field(description="The concept of the W3C Data Privacy Vocabulary that is the same or the next broader one.")
    title: Title
    broader: list[str]


class DatasetPage(Document):
    """A page of datasets."""

    items: list[DatasetSummary]
    next: str | None


class OfferPage(Document):
    """A page of offers."""

    items: list[OfferDocument]
    next: str | None


class PurposePage(Document):
    """All purposes, on one page."""

    items: list[PurposeDocument]
    next: None = None

"""The documents of policy on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from gateway.access.models import PolicyPreview, PolicyRevision
from gateway.access.states import Move, State, legal
from gateway.catalog.documents import Line
from gateway.http import Document, Time

REVISION_ID = r"^pol_[0-9a-z]{26}$"
RevisionId = Annotated[str, StringConstraints(pattern=REVISION_ID)]


class NewRevision(Document):
    """A draft: a copy of the active revision, or of the one that is named."""

    title: Line | None = Field(None, description="What it is for, in a few words.")
    based_on: RevisionId | None = Field(None, description="The revision to begin from; the active one, if left out.")


class NewPreview(Document):
    """What to replay beside every contract in force."""

    days: Annotated[int, Field(ge=1, le=365)] = Field(30, description="Decisions of so many days back; the newest 10,000 of them.")


class Approval(Document):
    """The preview that was seen."""

    preview: Annotated[int, Field(ge=1, le=1_000_000)]


class Vetting(Document):
    """What it was put to before it was proposed; `not_done` says what could not be, for want of the OPA program."""

    engines: list[str]
    tests: int
    inputs: int
    not_done: list[str]


class Silent(Document):
    """A replica whose policy engine did not take the revision, and what it said."""

    instance: str
    says: str


class Problem(Document):
    """Why it last did not become active."""

    at: Time
    instances: list[Silent]


class RevisionDocument(Document):
    """A revision. `digest` is the SHA-256 of its bundle; `moves` are the acts that are possible now."""

    id: str
    state: State
    title: str | None
    digest: str
    installed: bool = Field(description="By setup; every other one was agreed on by two persons.")
    based_on: str | None
    created_at: Time
    created_by: str | None
    proposed_at: Time | None
    proposed_by: str | None
    vetting: Vetting | None
    approved_at: Time | None
    approved_by: str | None
    approved_preview: int | None
    activated_at: Time | None
    activated_by: str | None
    problem: Problem | None
    moves: list[Move]
    files: list[str]


class RevisionPage(Document):
    items: list[RevisionDocument]
    next: str | None


class PreviewDocument(Document):
    """A preview as it stands. `result` is there when it is `done`."""

    revision: str
    number: int
    state: Literal["running", "done", "failed"]
    days: int
    done: int = Field(description="Of `total` evaluations.")
    total: int
    asked_at: Time
    asked_by: str
    digest: str = Field(description="Of the revision, as it was replayed.")
    against: str = Field(description="The revision that was active.")
    result: dict[str, Any] | None
    problem: str | None


class Todo(Document):
    """Something that waits for a privacy officer."""

    kind: Literal["rule_sheet_missing", "field_not_named", "dataset_incomplete", "revision_to_approve", "revision_to_activate"]
    dataset: str | None = None
    pointer: str | None = Field(None, description="The field, as a JSON Pointer into the event's data.")
    schema_version: int | None = None
    revision: str | None = None
    title: dict[str, str] = Field(description="In English and French.")


class TodoPage(Document):
    items: list[Todo]
    next: str | None = None


def shown(row: PolicyRevision) -> RevisionDocument:
    """The revision as it is told."""
    same = set(RevisionDocument.model_fields) - {"moves", "files"}
    told: dict[str, Any] = {name: getattr(row, name) for name in same}
    return RevisionDocument.model_validate(told | {"moves": list(legal(row)), "files": sorted(row.files)})


def shown_preview(row: PolicyPreview) -> PreviewDocument:
    """The preview as it is told."""
    same = set(PreviewDocument.model_fields) - {"revision"}
    told: Mapping[str, Any] = {name: getattr(row, name) for name in same}
    return PreviewDocument.model_validate({**told, "revision": row.revision_id})

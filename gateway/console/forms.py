"""A form's fields as the document that the API takes: one set of rules for both."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gateway.catalog.schemas import pointer_of
from gateway.errors import Invalid

Kind = TypeVar("Kind", bound=BaseModel)


def document(kind: type[Kind], **members: Any) -> Kind:
    """The document of these members. Raises `Invalid` with each place that does not fit, and no value."""
    try:
        return kind.model_validate(members)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise Invalid(
            [{"pointer": pointer_of(each["loc"]), "detail": each["msg"].removeprefix("Value error, ")} for each in found]
        ) from None


def number_of(text: str) -> int | None:
    """The whole number that a field holds; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None

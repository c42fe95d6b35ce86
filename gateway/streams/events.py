"""CloudEvents 1.0 over HTTP: the three content modes become one list of events, and every event is checked before any is appended.

Source: CloudEvents HTTP Protocol Binding 1.0.2, JSON Event Format 1.0.2.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any
from urllib.parse import unquote

import orjson
from jsonschema_rs import Draft202012Validator
from starlette.datastructures import Headers

from gateway.catalog.directory import DatasetView
from gateway.catalog.schemas import pointer_of
from gateway.errors import ExchangeError, Invalid
from gateway.streams.log import MAX_EVENT_BYTES

MOST_ERRORS = 20
ADDED = ("dataset", "contract", "schemaversion", "licence")
"""The extension attributes that the exchange adds; a publisher may not."""
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"

_TEXT = {"type": "string", "minLength": 1, "maxLength": 2048}
_ENVELOPE: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": _TEXT,
            "source": _TEXT | {"format": "uri-reference"},
            "type": _TEXT,
            "subject": _TEXT,
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"type": "string", "pattern": r"^[a-z]+/([A-Za-z0-9.+-]+\+)?json([ ;].*)?$"},
            "dataschema": _TEXT | {"format": "uri"},
            "data": True,
            **dict.fromkeys(ADDED, False),
        },
        "propertyNames": {"pattern": "^[a-z0-9]{1,64}$"},
        "additionalProperties": {"type": ["string", "integer", "boolean"], "maxLength": 2048},
    },
}


@functools.cache
def _envelope() -> Draft202012Validator:
    return Draft202012Validator(_ENVELOPE, validate_formats=True, mask="the value", offline=True)


def parse(headers: Headers, body: bytes) -> list[dict[str, Any]]:
    """The events of a request in binary, structured or batched mode. Raises `unsupported_media_type`, `invalid_body`."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == BATCH:
        events = _json(body)
        if not isinstance(events, list):
            raise Invalid([{"pointer": "", "detail": "must be an array of events"}])
        return events
    if media_type == STRUCTURED:
        return [_json(body)]
    if "ce-specversion" in headers:
        return [_binary(headers, media_type, body)]
    raise ExchangeError(
        "unsupported_media_type",
        f"Events come as {BATCH}, {STRUCTURED}, or JSON with ce-* headers.",
        headers={"Accept": f"{BATCH}, {STRUCTURED}, application/json"},
    )


def check(events: list[dict[str, Any]], dataset: DatasetView) -> None:
    """Every event is a CloudEvent whose `data` fits the dataset's schema, or none is taken.

    Raises `event_does_not_fit` with an error for each place (the first twenty), `subject_attribute_personal`.
    """
    if not _envelope().is_valid(events):
        found = islice(_envelope().iter_errors(events), MOST_ERRORS)
        raise Invalid([{"pointer": pointer_of(error.instance_path), "detail": error.message} for error in found], "event_does_not_fit")
    if dataset.subject_pointer is not None and any("subject" in event for event in events):
        raise ExchangeError("subject_attribute_personal")
    fits = dataset.validator.is_valid
    bad = [index for index, event in enumerate(events) if not fits(event["data"])]
    if bad:
        errors: list[dict[str, str]] = []
        for index in bad:
            errors += [
                {"pointer": f"/{index}/data{error['pointer']}", "detail": error["detail"]}
                for error in dataset.describe_errors(events[index]["data"])
            ]
            if len(errors) >= MOST_ERRORS:
                break
        raise Invalid(errors[:MOST_ERRORS], "event_does_not_fit")


def encode(events: Iterable[dict[str, Any]]) -> list[bytes]:
    """The JSON of each event, as it is stored. Raises `event_does_not_fit` for one that is nested too deep to be written again."""
    values: list[bytes] = []
    for index, event in enumerate(events):
        try:
            values.append(orjson.dumps(event))
        except orjson.JSONEncodeError as error:
            raise Invalid([{"pointer": f"/{index}/data", "detail": "is nested too deep"}], "event_does_not_fit") from error
    return values


def check_size(keys: Sequence[bytes], values: Sequence[bytes]) -> None:
    """Raises `body_too_large` for an event that the log does not take, its partition key counted with it."""
    if max(map(len, keys)) + max(map(len, values)) <= MAX_EVENT_BYTES:
        return
    for index, (key, value) in enumerate(zip(keys, values, strict=True)):
        if len(key) + len(value) > MAX_EVENT_BYTES:
            raise ExchangeError("body_too_large", f"Event {index} is larger than {MAX_EVENT_BYTES} bytes, its partition key counted.")


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid([{"pointer": "", "detail": "is not JSON, or nested too deep"}]) from error


def _binary(headers: Mapping[str, str], media_type: str, body: bytes) -> dict[str, Any]:
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise ExchangeError("unsupported_media_type", "The data of an event is JSON: Content-Type must say so.")
    # Header values are percent-encoded UTF-8 (HTTP Protocol Binding, section 3.1.3.2).
    event: dict[str, Any] = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    return event | {"datacontenttype": headers["content-type"], "data": _json(body)}

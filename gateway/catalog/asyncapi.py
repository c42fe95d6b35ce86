"""AsyncAPI 3.0 documents: how the events of a dataset, or what a contract makes of them, travel.

The exchange is the application that a document describes: it receives what is published and sends what is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from gateway.catalog.directory import DatasetView

Direction = Literal["publish", "read"]

_READ_FORMS = "Pull with a cursor (an array of CloudEvents), `application/x-ndjson`, or `text/event-stream`, by `Accept`."
_EXTENSIONS = {
    "dataset": "The slug of the dataset.",
    "contract": "The contract under which it is delivered.",
    "schemaversion": "The number of the dataset's schema version.",
    "licence": "The licence under which it is delivered.",
}


def dataset_document(issuer: str, dataset: DatasetView) -> dict[str, Any]:
    """Of a dataset as it is published; whoever has no contract reads it only if it is open."""
    directions: tuple[Direction, ...] = ("publish", "read") if dataset.classification == "open" else ("publish",)
    return _document(issuer, dataset, f"/v1/datasets/{dataset.slug}/events", dataset.schema, directions)


def contract_document(issuer: str, dataset: DatasetView, contract_id: str, received: Mapping[str, Any]) -> dict[str, Any]:
    """Of what one contract receives: `received` is the JSON Schema of the data after its obligations."""
    return _document(issuer, dataset, f"/v1/contracts/{contract_id}/events", received, ("read",))


def _document(
    issuer: str, dataset: DatasetView, address: str, schema: Mapping[str, Any], directions: tuple[Direction, ...]
) -> dict[str, Any]:
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": dataset.title["en"],
            "version": str(dataset.current),
            "description": dataset.description["en"],
            "license": {"name": dataset.licence["id"], "url": dataset.licence["url"]},
        },
        "defaultContentType": "application/cloudevents+json",
        "servers": {"exchange": _server(issuer)},
        "channels": {"events": {"address": address, "messages": {"event": {"$ref": "#/components/messages/event"}}}},
        "operations": {direction: _operation(direction) for direction in directions},
        "components": {
            "messages": {
                "event": {
                    "name": "event",
                    "title": dataset.title["en"],
                    "contentType": "application/cloudevents+json",
                    "payload": {"$ref": "#/components/schemas/event"},
                },
            },
            "schemas": {"event": _envelope(), "data": _moved(_without_identity(schema), "#/components/schemas/data")},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _server(issuer: str) -> dict[str, Any]:
    parts = urlsplit(issuer)
    server: dict[str, Any] = {"host": parts.netloc, "protocol": parts.scheme, "security": [{"$ref": "#/components/securitySchemes/token"}]}
    return server | ({"pathname": parts.path} if parts.path else {})


def _operation(direction: Direction) -> dict[str, Any]:
    return {
        "action": "receive" if direction == "publish" else "send",
        "channel": {"$ref": "#/channels/events"},
        "summary": "The provider publishes events." if direction == "publish" else "A consumer reads events.",
        "description": "One CloudEvent, or a batch." if direction == "publish" else _READ_FORMS,
        "messages": [{"$ref": "#/channels/events/messages/event"}],
        "bindings": {"http": {"method": "POST" if direction == "publish" else "GET", "bindingVersion": "0.3.0"}},
    }


def _envelope() -> dict[str, Any]:
    """A CloudEvent 1.0 in its JSON format, with the attributes that the exchange adds."""
    text = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": text,
            "source": {**text, "format": "uri-reference"},
            "type": text,
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": text,
            "dataschema": {**text, "format": "uri"},
            **{name: {"type": "string", "description": told} for name, told in _EXTENSIONS.items()},
            "data": {"$ref": "#/components/schemas/data"},
        },
    }


def _without_identity(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name not in {"$schema", "$id"}}


def _moved(node: Any, home: str) -> Any:
    """The same schema for another place: its references, which begin with `#`, lead there."""
    if isinstance(node, list):
        return [_moved(child, home) for child in node]
    if not isinstance(node, dict):
        return node
    return {
        name: home + value[1:] if name == "$ref" and isinstance(value, str) and value.startswith("#") else _moved(value, home)
        for name, value in node.items()
    }

"""A CloudEvent 1.0 as a dict (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

Event = dict[str, Any]


def event(kind: str, source: str, identifier: str, data: dict[str, Any], *, time: datetime | None = None, key: str | None = None) -> Event:
    """An event in the JSON format. `key` becomes the extension `partitionkey`: events of one key keep their order."""
    made: Event = {"specversion": "1.0", "id": identifier, "source": source, "type": kind, "datacontenttype": "application/json"}
    made["data"] = data
    if time is not None:
        made["time"] = rfc3339(time)
    if key is not None:
        made["partitionkey"] = key
    return made


def rfc3339(moment: datetime) -> str:
    """`2026-11-23T12:00:00Z`, in UTC, to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

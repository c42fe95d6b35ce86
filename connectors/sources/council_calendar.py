"""A council calendar: meetings of the City of Chicago, recorded from its eLMS service.

Mississauga's own calendar is on another system and none was recorded; the events say which city they are from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from connectors.cloudevent import Event, event, rfc3339
from connectors.samples import SAMPLES

SOURCE = "https://api.chicityclerkelms.chicago.gov/meeting"


def events() -> Iterator[Event]:
    """One event a meeting, earliest first, of type `gov.chicago.council.meeting.scheduled`."""
    lines = (SAMPLES / "council-calendar" / "chicago.jsonl").read_text("utf-8").splitlines()
    for meeting in sorted((_meeting(json.loads(line)) for line in lines), key=lambda meeting: (meeting["starts_at"], meeting["id"])):
        yield event("gov.chicago.council.meeting.scheduled", SOURCE, meeting["id"], meeting)


def _meeting(recorded: Mapping[str, Any]) -> dict[str, Any]:
    meeting: dict[str, Any] = {
        "id": recorded["meetingId"].lower(),
        "city": "Chicago",
        "body": recorded["body"],
        "starts_at": rfc3339(datetime.fromisoformat(recorded["date"])),
        "status": (recorded["status"] or "unknown").lower(),
        "agendas": [attached["path"] for attached in recorded["files"]],
    }
    for member, given in (("location", "location"), ("remark", "comment"), ("video", "videoLink")):
        told = " ".join((recorded[given] or "").split())
        if told:
            meeting[member] = told
    return meeting

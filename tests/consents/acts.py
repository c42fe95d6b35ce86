"""What the tests of consent do again and again, as the provider unless another client is named."""

from __future__ import annotations

import time
from typing import Any

from consent.records import ANY_RECIPIENT
from consent.subjects import find
from tests.city import FOOTFALL, City

TRANSIT = frozenset({"transit-planning"})
ANN = "visitor-ann"
TEXT = {"en": "We share when you visit.", "fr": "Nous partageons le moment de vos visites."}


def content(**members: Any) -> dict[str, Any]:
    usual = {
        "title": {"en": "Visits", "fr": "Visites"},
        "text": TEXT,
        "purposes": ["transit-planning", "research"],
        "recipients": [ANY_RECIPIENT],
    }
    return usual | members


def write(city: City, client: str | None = None, **members: Any) -> Any:
    return city.http.post(
        "/v1/notices-of-consent", json={"dataset": FOOTFALL} | content(**members), headers=city.as_(client or city.provider)
    )


def rewrite(city: City, notice: str, **members: Any) -> Any:
    return city.http.post(f"/v1/notices-of-consent/{notice}/versions", json=content(**members), headers=city.as_(city.provider))


def notice_of(city: City, **members: Any) -> dict[str, str]:
    """A new notice, as a consent names it."""
    answer = write(city, **members)
    assert answer.status_code == 201, answer.text
    return {"id": answer.json()["id"], "version": answer.json()["version"], "language": "en"}


def asked(city: City, **members: Any) -> dict[str, Any]:
    usual = {"dataset": FOOTFALL, "subject": ANN, "purposes": ["transit-planning"], "recipients": [ANY_RECIPIENT], "given_by": "subject"}
    return {"notice": notice_of(city)} | usual | members if "notice" not in members else usual | members


def give(city: City, client: str | None = None, **members: Any) -> Any:
    return city.http.post("/v1/consents", json=asked(city, **members), headers=city.as_(client or city.provider))


def given(city: City, **members: Any) -> str:
    answer = give(city, **members)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def act(city: City, consent: str, verb: str, body: dict[str, Any] | None = None, client: str | None = None) -> Any:
    return city.http.post(f"/v1/consents/{consent}/{verb}", json=body, headers=city.as_(client or city.provider))


def withdraw(city: City, consent: str, client: str | None = None) -> Any:
    return act(city, consent, "withdraw", client=client)


def passes(
    city: City, subject: str = ANN, recipient: str = "org_any", appended_ms: int | None = None, *, unless_opted_out: bool = False
) -> bool:
    """Whether an event about this person passes, appended now or then."""
    key = city.keys.secret("subject_index")
    with city.database.reading() as session:
        sref = find(session, key.id, key.value, city.transit, "opaque", subject)
    instant = time.time_ns() // 1_000_000 + 1
    view = city.consents.view(FOOTFALL, TRANSIT, recipient, unless_opted_out=unless_opted_out)
    return sref is not None and view(sref, appended_ms or instant, instant)

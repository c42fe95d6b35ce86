"""The Mississauga business directory: the five Business Improvement Areas, as the city published it in 2019 and in 2022.

Between the two years the columns drifted (`NAICSTitle` became `NAICSSecto`, `BldgNo` `BuildingNo`, `CHArea` `ChArea`), and
the later edition gained the place on the map and the improvement area. A blank cell is a member that is not there.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from connectors.cloudevent import Event, event
from connectors.samples import SAMPLES

SOURCE = "https://data.mississauga.ca/business-directory"
EDITIONS = (2019, 2022)

# member -> the columns that have carried it, over the years
TEXTS = {
    "name": ("Name",),
    "employees": ("EmplRange",),
    "naics_code": ("NAICSCode",),
    "sector": ("NAICSSecto", "NAICSTitle"),
    "activity": ("NAICSDescr",),
    "website": ("WebAddress",),
    "street_number": ("StreetNo",),
    "street": ("StreetName",),
    "postal_code": ("PostalCode",),
    "building": ("BuildingNo", "BldgNo"),
    "unit": ("UnitNo",),
    "area": ("ChArea", "CHArea"),
}
DISTRICTS = {"PC": "port-credit", "STR": "streetsville", "CLV": "clarkson", "MLT": "malton", "CK": "cooksville"}


def rows(edition: int) -> list[dict[str, Any]]:
    """The businesses of an edition (2019 or 2022), cleaned: what `data` of an event is."""
    with (SAMPLES / "business-directory" / f"{edition}.csv").open(encoding="utf-8-sig", newline="") as file:
        return [_business(row, edition) for row in csv.DictReader(file)]


def events(edition: int = 2022) -> Iterator[Event]:
    """One event a business, of type `ca.mississauga.business.listed`."""
    for business in rows(edition):
        modified = business.get("modified")
        time = datetime.fromisoformat(modified).replace(tzinfo=UTC) if modified else None
        yield event("ca.mississauga.business.listed", SOURCE, f"{edition}-{business['id']}", business, time=time)


def _business(row: Mapping[str, str], edition: int) -> dict[str, Any]:
    business: dict[str, Any] = {"id": row["ID"], "edition": edition, "ward": int(row["Ward"])}
    for member, columns in TEXTS.items():
        told = " ".join(next((row[column] for column in columns if column in row), "").split())
        if told and told != "N/A":
            business[member] = told
    if not re.fullmatch(r"[0-9]{2,6}", business.get("naics_code", "")):  # one row of 2022 has the code "1"
        business.pop("naics_code", None)
    if row["Modified"].strip():
        business["modified"] = row["Modified"][:10].replace("/", "-")
    if "BIA" in row:
        business |= {"district": DISTRICTS[row["BIA"]], "latitude": round(float(row["Y"]), 6), "longitude": round(float(row["X"]), 6)}
    return business

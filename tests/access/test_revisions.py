"""A revision from draft to active and back: who may do what, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.access.office import REVISIONS, SHEET, Office, an_office


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with an_office(tmp_path) as made:
        yield made


def without_the_first_rule(office: Office) -> str:
    revision = office.draft("No transit planning")
    sheet = office.sheet(revision)
    assert office.write(revision, SHEET, sheet | {"rules": sheet["rules"][1:]}).status_code == 200
    return revision


def test_a_sheet_that_one_person_changes_and_another_agrees_on_becomes_active(office: Office) -> None:
    first = office.active()
    revision = without_the_first_rule(office)
    office.agreed(revision)
    became = office.done("POST", f"{REVISIONS}/{revision}/activate", "ben")
    assert (became["state"], became["proposed_by"], became["approved_by"]) == ("active", office.persons["ada"], office.persons["ben"])
    assert office.active() == revision
    assert office.done("GET", f"{REVISIONS}/{first}")["state"] == "retired"
    assert office.app.state.access.revision == revision
    back = office.done("POST", f"{REVISIONS}/{first}/activate", "ada")
    assert back["state"] == "active"
    assert office.active() == first

"""What of a dataset may be stored sealed, and that it stays so."""

from __future__ import annotations

from typing import Any

import pytest

from tests.catalog.rooms import Rooms

PERSONAL = {"personal_pointers": ["/visitor", "/zone"]}


def patched(rooms: Rooms, patch: dict[str, Any], by: str = "bia") -> Any:
    tag = rooms.http.get("/v1/datasets/footfall").headers["ETag"]
    return rooms.http.patch("/v1/datasets/footfall", json=patch, headers=rooms.as_(by) | {"If-Match": tag})


@pytest.mark.parametrize(
    ("members", "place"),
    [
        ({"sealed_pointers": ["/nowhere"]}, "/sealed_pointers/0"),
        ({"sealed_pointers": ["/at"]}, "/sealed_pointers/0"),  # not personal
        ({"sealed_pointers": ["/visitor"]}, "/sealed_pointers/0"),  # the subject
        ({"sealed_pointers": ["/zone", "/zone"]}, "/sealed_pointers/1"),
        ({"sealed_pointers": ["zone"]}, "/sealed_pointers/0"),
        ({"sealed_pointers": "/zone"}, "/sealed_pointers"),
    ],
)
def test_a_field_that_cannot_be_sealed_is_refused_with_its_place(rooms: Rooms, members: dict[str, Any], place: str) -> None:
    rooms.register("footfall", "personal")
    answer = patched(rooms, PERSONAL | members)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, place)


def test_a_field_is_sealed_from_now_on_and_stays_so_even_for_the_officer(rooms: Rooms) -> None:
    rooms.register("footfall", "personal")
    answer = patched(rooms, PERSONAL | {"sealed_pointers": ["/zone"]})
    assert (answer.status_code, answer.json()["sealed_pointers"]) == (200, ["/zone"])
    for by in ("bia", "officer"):
        undone = patched(rooms, {"sealed_pointers": []}, by)
        assert (undone.status_code, undone.json()["code"]) == (409, "illegal_state")


def test_without_a_subject_nothing_is_sealed(rooms: Rooms) -> None:
    rooms.register("footfall", "internal")
    answer = patched(rooms, {"personal_pointers": ["/at"], "sealed_pointers": ["/at"]})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/sealed_pointers/0")

"""The OpenAPI document: every call has a summary and a real example, and `/docs` needs nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.gateway import Gateway


@pytest.fixture(scope="session")
def document(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = httpx2.get(f"{gateway.url}/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def has_example(content: dict[str, Any], document: dict[str, Any]) -> bool:
    for media in content.values():
        schema = media.get("schema", {})
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        if "example" in media or "examples" in media or schema.get("examples"):
            return True
    return False


def test_every_call_has_a_summary_and_an_example_of_its_body_and_of_its_answer(document: dict[str, Any]) -> None:
    found = list(operations(document))
    missing = []
    for name, operation in found:
        if not operation.get("summary"):
            missing.append(f"{name}: summary")
        body = operation.get("requestBody")
        if body is not None and not has_example(body["content"], document):
            missing.append(f"{name}: example of the body")
        good = [answer for status, answer in operation["responses"].items() if status.startswith("2") and answer.get("content")]
        if good and not any(has_example(answer["content"], document) for answer in good):
            missing.append(f"{name}: example of the answer")

    assert len(found) > 40
    assert missing == []


def test_the_documentation_page_is_served_whole_from_the_package(gateway: Gateway) -> None:
    page = httpx2.get(f"{gateway.url}/docs").text
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)

    assert assets
    for asset in assets:
        assert asset.startswith("/docs/assets/")
        assert httpx2.get(gateway.url + asset).status_code == 200

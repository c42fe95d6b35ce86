from __future__ import annotations

import json

import pytest
from jsonschema_rs import Draft202012Validator

from gateway.resources import SCHEMAS
from tests.catalog.wire_schemas import FILES, schema_of


@pytest.mark.parametrize("name", FILES)
def test_schema_in_the_folder_is_the_one_of_the_model(name: str) -> None:
    written = json.loads((SCHEMAS / name).read_text("utf-8"))
    assert written == schema_of(name), "run: python -m tests.catalog.wire_schemas"


@pytest.mark.parametrize("name", FILES)
def test_examples_fit_schema_and_model(name: str) -> None:
    schema = schema_of(name)
    for model, example in FILES[name]:
        assert Draft202012Validator({**schema, "$ref": f"#/$defs/{model.__name__}"}).is_valid(example)
        assert model.model_validate(example).model_dump(mode="json", by_alias=True, exclude_unset=True) == example

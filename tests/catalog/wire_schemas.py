"""The JSON Schemas in `schemas/` of what the catalogue and the contracts say on the wire, made from the models that check it.

`python -m tests.catalog.wire_schemas` writes them anew; a test compares.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.catalog import documents as catalog
from gateway.catalog import examples
from gateway.contracts import documents as contracts
from gateway.contracts import examples as contract_examples
from gateway.resources import SCHEMAS

# File -> what is read and its example, what is sent to make one and its example.
Pair = tuple[type[BaseModel], dict[str, Any]]
FILES: dict[str, tuple[Pair, Pair]] = {
    "dataset.json": ((catalog.DatasetDocument, examples.DATASET), (catalog.NewDataset, examples.NEW_DATASET)),
    "schema-version.json": ((catalog.SchemaDocument, examples.SCHEMA_VERSION), (catalog.NewSchema, {"schema": examples.SCHEMA})),
    "offer.json": ((catalog.OfferDocument, examples.OFFER), (catalog.NewOffer, examples.NEW_OFFER)),
    "contract.json": ((contracts.ContractDocument, contract_examples.CONTRACT), (contracts.NewContract, contract_examples.NEW_CONTRACT)),
}


def schema_of(name: str) -> dict[str, Any]:
    """The schema in this file: of the document as it is read; as `$defs`, of what makes one."""
    (read, read_example), (sent, sent_example) = FILES[name]
    _, made = models_json_schema([(read, "serialization"), (sent, "validation")], by_alias=True)
    made["$defs"][sent.__name__]["examples"] = [sent_example]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": f"#/$defs/{read.__name__}",
        "examples": [read_example],
        **made,
    }


if __name__ == "__main__":
    for file in FILES:
        (SCHEMAS / file).write_text(json.dumps(schema_of(file), indent=2, ensure_ascii=False) + "\n", "utf-8")

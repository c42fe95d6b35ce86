"""Checks what an engine said before anybody believes it: a document that does not fit its schema is no answer."""

from __future__ import annotations

import functools
import json
from datetime import datetime
from typing import Any

import jsonschema_rs

from gateway.access.decision import Answer, PolicyUnavailable
from gateway.resources import SCHEMAS


@functools.cache
def _schema() -> jsonschema_rs.Draft202012Validator:
    document = json.loads((SCHEMAS / "decision.json").read_text("utf-8"))
    return jsonschema_rs.Draft202012Validator(document, offline=True, mask="[value]")


def checked(document: object, revision: str) -> Answer:
    """The answer, with reasons and obligations in an order that does not depend on the engine.

    `document` must fit `schemas/decision.json`: the obligations of a closed list, each with exactly its members, and none
    with a refusal. Raises `PolicyUnavailable`; its message names places, never values.
    """
    if not isinstance(document, dict):
        raise PolicyUnavailable("the policy did not answer with a document")
    error = next(_schema().iter_errors(document), None)
    if error is not None:
        place = "/" + "/".join(str(step) for step in error.instance_path)
        raise PolicyUnavailable(f"the policy's answer does not fit its schema at {place}")
    if document["until"] is not None:
        _must_be_an_instant(document["until"])
    ordered: dict[str, Any] = {
        "allow": document["allow"],
        "reasons": sorted(document["reasons"], key=_by_code),
        "obligations": sorted(document["obligations"], key=_by_kind),
        "until": document["until"],
    }
    return Answer(ordered, revision)


def _must_be_an_instant(text: str) -> None:
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise PolicyUnavailable("the policy's answer does not fit its schema at /until") from error


def _by_code(reason: dict[str, Any]) -> tuple[str, str]:
    return reason["code"], json.dumps(reason, sort_keys=True)


def _by_kind(obligation: dict[str, Any]) -> tuple[str, str, str]:
    return obligation["kind"], obligation.get("pointer", ""), json.dumps(obligation, sort_keys=True)

"""A rule of a rule sheet as words in a table, and as the fields of a form. What a form does not show of a rule stays as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.catalog.directory import DatasetView
from gateway.catalog.purposes import purpose, purposes
from gateway.catalog.schemas import fields_of, property_at
from gateway.console.forms import number_of
from gateway.console.words import Say
from gateway.http import check_period

RECIPIENTS = ("anyone", "approved_organizations", "department", "partner")
CONSENT = ("required", "not_required", "opt_out")
GROUNDS = ("agreement", "consent", "notice_with_opt_out", "open_licence", "public_interest", "public_record", "statute")
INSTANTS = ("time_bucket:PT15M", "time_bucket:PT1H", "time_bucket:P1D")
NUMBERS = ("generalise:10", "generalise:60", "generalise:100", "generalise:1000")
TEXTS = ("pseudonymise", "pseudonymise:P1D", "pseudonymise:P30D", "mask:4")
WHOLE = {"generalise", "mask"}
NEW_RULE: Mapping[str, Any] = {"purposes": [], "recipients": ["approved_organizations"], "consent": "required", "keep": {}}


@dataclass(frozen=True, slots=True)
class Choice:
    """What a form offers: a value, its words, and whether the rule has it."""

    value: str
    words: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Line:
    """A field of the dataset in a form: how it may pass."""

    pointer: str
    title: str
    personal: bool
    ways: Sequence[Choice]


def told(
    rule: Mapping[str, Any], sheet: Mapping[str, Any], organizations: Mapping[str, str], dataset: DatasetView, say: Say
) -> dict[str, Any]:
    """A rule in words."""
    keep = rule.get("keep")
    return {
        "purposes": [purpose_named(code, say) for code in rule.get("purposes", ())],
        "recipients": [say.maybe(f"recipients.{name}", organizations.get(name, name)) for name in rule.get("recipients", ())],
        "consent": say(f"consent_of.{rule.get('consent', 'required')}"),
        "ground": say.maybe(f"ground.{rule.get('legal_ground', sheet.get('legal_ground'))}", str(rule.get("legal_ground", ""))),
        "reference": rule.get("legal_reference", sheet.get("legal_reference", "")),
        "keep": None
        if keep is None
        else [(_title(dataset, pointer), pointer, how_told(encoded(how), say)) for pointer, how in keep.items()],
        "drop": list(rule.get("drop", ())),
        "retain": say.period(rule["retain"]) if rule.get("retain") else None,
        "onward": bool(rule.get("onward_transfer", False)),
        "more": sorted(set(rule) & {"rows", "rate_limit", "attribution", "assessment"}),
    }


def choices(
    rule: Mapping[str, Any], sheet: Mapping[str, Any], organizations: Mapping[str, str], dataset: DatasetView, say: Say
) -> dict[str, Any]:
    """What the form of a rule offers."""
    ours = [name for name in rule.get("recipients", ()) if name not in RECIPIENTS]
    recipients = [*RECIPIENTS, *ours]
    ground = rule.get("legal_ground", "")
    return {
        "purposes": [Choice(it.code, say.of(it.title), it.code in rule.get("purposes", ())) for it in purposes()],
        "recipients": [
            Choice(name, say.maybe(f"recipients.{name}", organizations.get(name, name)), name in rule.get("recipients", ()))
            for name in recipients
        ],
        "consent": [Choice(name, say(f"consent_of.{name}"), rule.get("consent") == name) for name in CONSENT],
        "grounds": [
            Choice("", say("rule.ground_of_sheet", ground=say.maybe(f"ground.{sheet.get('legal_ground')}", "")), not ground),
            *grounds_offered(ground, say),
        ],
        "reference": rule.get("legal_reference", ""),
        "lines": _lines(rule, dataset, say) if "keep" in rule else None,
        "retain": _days(rule.get("retain", "")),
        "onward": bool(rule.get("onward_transfer", False)),
    }


def grounds_offered(ground: str, say: Say) -> list[Choice]:
    """Every legal ground, as a choice."""
    return [Choice(name, say(f"ground.{name}"), name == ground) for name in GROUNDS]


def rule_of(fields: Mapping[str, str], before: Mapping[str, Any]) -> dict[str, Any]:
    """The rule that a form says; what the form does not show is that of `before`."""
    rule = dict(before)
    rule["purposes"] = _in_order(_chosen(fields, "purpose."), before.get("purposes", ()))
    written = fields.get("organizations", "").replace(",", " ").split()
    rule["recipients"] = _in_order([*_chosen(fields, "recipient."), *written], before.get("recipients", ()))
    rule["consent"] = fields.get("consent", "required")
    for member in ("legal_ground", "legal_reference"):
        _set(rule, member, fields.get(member, "").strip())
    days = fields.get("retain", "").strip()
    if days or _days(rule.get("retain", "")):
        _set(rule, "retain", f"P{days}D" if days else "")
    rule["onward_transfer"] = "onward_transfer" in fields
    if "keep" in before:
        # Left empty it is refused: a rule that names no field would let all of them pass.
        keep = {name.removeprefix("keep."): decoded(way) for name, way in fields.items() if name.startswith("keep.") and way}
        rule["keep"] = {pointer: keep[pointer] for pointer in _in_order(keep, before["keep"])}
    return rule


def encoded(how: Any) -> str:
    """A way to pass as the value of a choice: `as_is`, `time_bucket:PT15M`."""
    if isinstance(how, Mapping):
        ((name, value),) = how.items()
        return f"{name}:{value}"
    return str(how)


def decoded(way: str) -> Any:
    """The inverse of `encoded`; what is none is refused by the sheet's schema."""
    name, colon, value = way.partition(":")
    if not colon:
        return name
    number = number_of(value) if name in WHOLE else None
    return {name: value if number is None else number}


def how_told(way: str, say: Say) -> str:
    """A way to pass, in words; what is none, as it was written."""
    name, _, value = way.partition(":")
    try:
        if name in {"time_bucket", "pseudonymise"} and value:
            return say(f"how.{name}_for", period=say.period(check_period(value)))
        return say(f"how.{name}", value=value) if value else say(f"how.{name}")
    except (KeyError, ValueError):
        return way


def purpose_named(code: str, say: Say) -> str:
    """The purpose in words; its code where the tree has it no more."""
    found = purpose(code)
    return say.of(found.title) if found else code


def _lines(rule: Mapping[str, Any], dataset: DatasetView, say: Say) -> list[Line]:
    keep: Mapping[str, Any] = rule["keep"]
    pointers = [*fields_of(dataset.schema), *(pointer for pointer in keep if pointer not in fields_of(dataset.schema))]
    personal = {*dataset.personal_pointers, dataset.subject_pointer}
    return [
        Line(
            pointer,
            _title(dataset, pointer),
            pointer in personal,
            _ways(pointer, encoded(keep[pointer]) if pointer in keep else "", dataset, say),
        )
        for pointer in pointers
    ]


def _ways(pointer: str, now: str, dataset: DatasetView, say: Say) -> list[Choice]:
    schema = _schema(dataset, pointer)
    kind = schema.get("type")
    offered: tuple[str, ...] = ("as_is",)
    if schema.get("format") == "date-time":
        offered += INSTANTS
    elif kind in {"integer", "number"}:
        offered += NUMBERS
    elif kind == "string":
        offered += TEXTS
    if now and now not in offered:
        offered += (now,)
    nothing = Choice("", say("how.nothing"), not now)
    return [nothing, *(Choice(way, how_told(way, say), way == now) for way in offered)]


def _title(dataset: DatasetView, pointer: str) -> str:
    return str(_schema(dataset, pointer).get("title", pointer))


def _schema(dataset: DatasetView, pointer: str) -> Mapping[str, Any]:
    found = property_at(dataset.schema, pointer)
    return found[0] if found else {}


def _chosen(fields: Mapping[str, str], prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in fields if name.startswith(prefix)]


def _in_order(chosen: Iterable[str], before: Iterable[str]) -> list[str]:
    """What was there in its order, then what is new: a form changes what it changes, and nothing else."""
    wanted, stood = dict.fromkeys(chosen), dict.fromkeys(before)
    return [*(name for name in stood if name in wanted), *(name for name in wanted if name not in stood)]


def _set(rule: dict[str, Any], member: str, value: Any) -> None:
    if value:
        rule[member] = value
    else:
        rule.pop(member, None)


def _days(period: str) -> str:
    return period.removeprefix("P").removesuffix("D") if period.endswith("D") and period[1:-1].isdigit() else ""


def organizations_named(rules: Iterable[Mapping[str, Any]], name_of: Any) -> dict[str, str]:
    """The names of the organizations that these rules name."""
    return {name: name_of(name) for rule in rules for name in rule.get("recipients", ()) if name not in RECIPIENTS}

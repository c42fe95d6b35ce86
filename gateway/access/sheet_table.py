"""A rule sheet as a table that a person reads, in English or French: for the command line and for pages. It needs no server's package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Language = Literal["en", "fr"]

WORDS: Mapping[str, Mapping[Language, str]] = {
    "rule": {"en": "Rule", "fr": "Règle"},
    "purposes": {"en": "For what", "fr": "À quelle fin"},
    "recipients": {"en": "For whom", "fr": "Pour qui"},
    "consent": {"en": "Consent", "fr": "Consentement"},
    "fields": {"en": "What passes, and how", "fr": "Ce qui passe, et comment"},
    "promises": {"en": "The recipient promises", "fr": "Le destinataire promet"},
    "ground": {"en": "Legal ground", "fr": "Fondement juridique"},
    "anyone": {"en": "anyone", "fr": "quiconque"},
    "approved_organizations": {"en": "any approved organization", "fr": "tout organisme approuvé"},
    "department": {"en": "departments of the city", "fr": "les services de la ville"},
    "partner": {"en": "approved partners", "fr": "les partenaires approuvés"},
    "required": {"en": "required", "fr": "exigé"},
    "not_required": {"en": "not required", "fr": "non exigé"},
    "opt_out": {"en": "unless opted out", "fr": "sauf opposition"},
    "as_is": {"en": "as it is", "fr": "tel quel"},
    "pseudonymise": {"en": "as a pseudonym", "fr": "sous pseudonyme"},
    "pseudonymise_for": {"en": "as a pseudonym that changes every {}", "fr": "sous un pseudonyme qui change tous les {}"},
    "time_bucket": {"en": "rounded down to {}", "fr": "arrondi vers le bas à {}"},
    "generalise": {"en": "rounded down to a multiple of {}", "fr": "arrondi vers le bas à un multiple de {}"},
    "mask": {"en": "its last {} characters only", "fr": "ses {} derniers caractères seulement"},
    "all_but": {"en": "all fields but {}", "fr": "tous les champs sauf {}"},
    "all": {"en": "all fields", "fr": "tous les champs"},
    "only_where": {"en": "only events where {} is one of {}", "fr": "seulement les événements où {} est l'un de {}"},
    "rate": {"en": "at most {} events in {}", "fr": "au plus {} événements par {}"},
    "retain": {"en": "deletes after {}", "fr": "efface après {}"},
    "attribution": {"en": "names the source: {}", "fr": "nomme la source : {}"},
    "no_onward": {"en": "does not pass it on", "fr": "ne le transmet pas"},
    "nothing_else": {
        "en": "What no rule names reaches nobody. The first rule that covers purpose and recipient decides alone.",
        "fr": "Ce qu'aucune règle ne nomme ne parvient à personne. La première règle qui vise la fin et le destinataire décide seule.",
    },
    "agreement": {"en": "agreement", "fr": "accord"},
    "open_licence": {"en": "open licence", "fr": "licence ouverte"},
    "notice_with_opt_out": {"en": "notice with opt-out", "fr": "avis avec droit d'opposition"},
    "public_interest": {"en": "public interest", "fr": "intérêt public"},
    "public_record": {"en": "public record", "fr": "registre public"},
    "statute": {"en": "statute", "fr": "loi"},
    "consent_ground": {"en": "consent", "fr": "consentement"},
}
COLUMNS = ("rule", "purposes", "recipients", "consent", "fields", "promises", "ground")


@dataclass(frozen=True, slots=True)
class Table:
    """`heads` and `rows` in the order of the columns; each cell holds lines. `footnote` says what no row says."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Sequence[str]]]
    footnote: str


def table(sheet: Mapping[str, Any], language: Language) -> Table:
    """The rules of a sheet, one row each."""
    rows = [_row(place, rule, sheet, language) for place, rule in enumerate(sheet.get("rules", []), 1)]
    return Table([WORDS[name][language] for name in COLUMNS], rows, WORDS["nothing_else"][language])


def as_text(made: Table, width: int = 28) -> str:
    """The table for a terminal: a block for each rule, its columns one below the other."""
    lines: list[str] = []
    for row in made.rows:
        for head, cell in zip(made.heads, row, strict=True):
            for place, line in enumerate(cell or ["-"]):
                lines.append(f"{head if place == 0 else '':<{width}}{line}")
        lines.append("")
    return "\n".join([*lines, made.footnote])


def _row(place: int, rule: Mapping[str, Any], sheet: Mapping[str, Any], language: Language) -> list[list[str]]:
    ground = str(rule.get("legal_ground", sheet.get("legal_ground", "")))
    return [
        [str(place)],
        [str(code) for code in rule.get("purposes", [])],
        [_word(str(who), language) for who in rule.get("recipients", [])],
        [_word(str(rule.get("consent", "")), language)],
        [*_fields(rule, language), *_limits(rule, language)],
        _promises(rule, language),
        [
            _word("consent_ground" if ground == "consent" else ground, language),
            str(rule.get("legal_reference", sheet.get("legal_reference", ""))),
        ],
    ]


def _fields(rule: Mapping[str, Any], language: Language) -> list[str]:
    if "keep" in rule:
        return [f"{pointer}: {_how(how, language)}" for pointer, how in rule["keep"].items()]
    if "drop" in rule:
        return [_word("all_but", language).format(", ".join(rule["drop"]))]
    return [_word("all", language)]


def _how(how: Any, language: Language) -> str:
    if isinstance(how, str):
        return _word(how, language)
    kind, value = next(iter(how.items()))
    return _word("pseudonymise_for" if kind == "pseudonymise" else kind, language).format(value)


def _limits(rule: Mapping[str, Any], language: Language) -> list[str]:
    rows = rule.get("rows", {}).items()
    limits = [_word("only_where", language).format(pointer, ", ".join(map(str, values))) for pointer, values in rows]
    if "rate_limit" in rule:
        limits.append(_word("rate", language).format(rule["rate_limit"]["events"], rule["rate_limit"]["per"]))
    return limits


def _promises(rule: Mapping[str, Any], language: Language) -> list[str]:
    promised = [_word(name, language).format(rule[name]) for name in ("retain", "attribution") if name in rule]
    return promised if rule.get("onward_transfer") else [*promised, _word("no_onward", language)]


def _word(name: str, language: Language) -> str:
    """What the word means, or itself: an organization, say."""
    found = WORDS.get(name)
    return found[language] if found else name

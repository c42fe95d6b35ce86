"""The text of a contract: rendered once from `schemas/contract-template.md`, then kept byte for byte."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from string import Template
from typing import Any, Literal

from gateway.catalog.directory import DatasetView
from gateway.catalog.purposes import Purpose
from gateway.contracts.directory import ContractView
from gateway.database import rfc3339
from gateway.resources import SCHEMAS

Language = Literal["en", "fr"]
Obligation = Mapping[str, Any]

_CLASSIFICATIONS: Mapping[str, Mapping[Language, str]] = {
    "open": {"en": "open", "fr": "ouvert"},
    "internal": {"en": "internal", "fr": "interne"},
    "personal": {"en": "personal", "fr": "personnel"},
    "sensitive": {"en": "sensitive", "fr": "sensible"},
}
_HISTORY: Mapping[str, Mapping[Language, str]] = {
    "none": {"en": "none: events from the beginning of the contract on", "fr": "aucun : les événements à partir du début du contrat"},
    "all": {"en": "all events that the exchange still holds", "fr": "tous les événements que l'échange détient encore"},
    "": {"en": "events of {history} before the beginning of the contract", "fr": "les événements de {history} avant le début du contrat"},
}
_PHRASES: Mapping[str, Mapping[Language, str]] = {
    "keep": {"en": "{pointer} as it is", "fr": "{pointer} tel quel"},
    "drop": {"en": "{pointer} is left out", "fr": "{pointer} est omis"},
    "mask": {
        "en": "{pointer} with only its last {keep_last} characters",
        "fr": "{pointer} avec ses {keep_last} derniers caractères seulement",
    },
    "pseudonymise": {"en": "{pointer} as a pseudonym of this contract's own", "fr": "{pointer} sous un pseudonyme propre à ce contrat"},
    "generalise": {"en": "{pointer} rounded down to a multiple of {step}", "fr": "{pointer} arrondi par défaut à un multiple de {step}"},
    "time_bucket": {"en": "{pointer} rounded down to {period}", "fr": "{pointer} arrondi par défaut à {period}"},
    "consent_filter": {
        "en": "only events about people who have consented to {purpose}",
        "fr": "seulement les événements de personnes qui ont consenti à {purpose}",
    },
    "opt_out_filter": {
        "en": "no events about people who have opted out of {purpose}",
        "fr": "aucun événement de personnes qui se sont opposées à {purpose}",
    },
    "row_filter": {
        "en": "only events in which {pointer} is one of {values}",
        "fr": "seulement les événements où {pointer} est l'une de {values}",
    },
    "rate_limit": {"en": "at most {events} events per {per}", "fr": "au plus {events} événements par {per}"},
    "retain": {
        "en": "to keep what it received no longer than {period}, and to delete it then",
        "fr": "de ne pas conserver ce qu'il a reçu plus de {period}, et de le supprimer ensuite",
    },
    "attribution": {"en": "to name the source: {text}", "fr": "de nommer la source : {text}"},
    "no_onward_transfer": {"en": "to pass it on to nobody", "fr": "de ne le transmettre à personne"},
}
_NOTHING: Mapping[str, Mapping[Language, str]] = {
    "enforced": {"en": "- every event as it is", "fr": "- chaque événement tel quel"},
    "promised": {"en": "- to use it for this purpose only", "fr": "- de ne l'utiliser qu'à cette fin"},
}


def render(
    contract: ContractView,
    dataset: DatasetView,
    purpose: Purpose,
    *,
    issuer: str,
    log: tuple[str, str],
    names: tuple[str, str],
    decision_id: str,
    obligations: Sequence[Obligation],
    terms: Mapping[str, str] | None,
) -> bytes:
    """The text in UTF-8, English, below it French. `log` is the audit log's origin and verifier key, `names` are provider's and
    consumer's, `terms` those of the offer taken up.
    """
    values: dict[str, str] = {
        "id": contract.id,
        "provider": contract.provider_id,
        "provider_name": _line(names[0]),
        "consumer": contract.consumer_id,
        "consumer_name": _line(names[1]),
        "issuer": issuer,
        "log_origin": log[0],
        "log_key": log[1],
        "dataset": dataset.slug,
        "schema_version": str(dataset.current),
        "licence": _line(dataset.licence["id"]),
        "licence_url": _line(dataset.licence["url"]),
        "attribution": _line(dataset.licence["attribution"]),
        "purpose": purpose.code,
        "purpose_iri": purpose.iri,
        "valid_from": rfc3339(contract.valid_from),
        "valid_until": rfc3339(contract.valid_until),
        "decision": decision_id,
    }
    languages: tuple[Language, Language] = ("en", "fr")
    for language in languages:
        values |= {f"{name}_{language}": value for name, value in _told(language, contract, dataset, purpose, obligations, terms).items()}
    return Template((SCHEMAS / "contract-template.md").read_text("utf-8")).substitute(values).encode()


def digest_of(text: bytes) -> str:
    """`sha-256=:<base64>:` (RFC 9530 section 2)."""
    return f"sha-256=:{b64encode(sha256(text).digest()).decode('ascii')}:"


def _told(
    language: Language,
    contract: ContractView,
    dataset: DatasetView,
    purpose: Purpose,
    obligations: Sequence[Obligation],
    terms: Mapping[str, str] | None,
) -> dict[str, str]:
    history = _HISTORY.get(contract.history, _HISTORY[""])[language].format(history=contract.history)
    heading = {"en": "## Terms of the offer", "fr": "## Conditions de l'offre"}[language]
    return {
        "dataset_title": _line(dataset.title[language]),
        "classification": _CLASSIFICATIONS[dataset.classification][language],
        "purpose_title": purpose.title[language],
        "history": history,
        "enforced": _list(language, obligations, "enforced"),
        "promised": _list(language, obligations, "promised"),
        "terms": f"{heading}\n\n{_quote(terms[language])}" if terms else "",
    }


def _list(language: Language, obligations: Sequence[Obligation], standing: str) -> str:
    told = [f"- {_phrase(obligation, language)}" for obligation in obligations if obligation.get("standing") == standing]
    rest = [] if told and standing == "enforced" else [_NOTHING[standing][language]]
    return "\n".join([*told, *rest])


def _phrase(obligation: Obligation, language: Language) -> str:
    members = {name: _line(", ".join(map(str, value)) if isinstance(value, list) else str(value)) for name, value in obligation.items()}
    phrase = _PHRASES[obligation["kind"]][language].format_map(members)
    if obligation["kind"] == "pseudonymise" and obligation.get("period"):
        phrase += {"en": f", another every {members['period']}", "fr": f", un autre à chaque {members['period']}"}[language]
    return phrase


def _line(value: str) -> str:
    """On one line, so that no name or title can pass for a line of the contract."""
    return " ".join(value.split())


def _quote(value: str) -> str:
    """As a quotation, each line marked: what a party wrote cannot pass for the contract's own words."""
    return "\n".join(f"> {line}".rstrip() for line in value.splitlines())

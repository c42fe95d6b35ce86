"""Facts that could be otherwise: each change with its words in English and French, for somebody who reads no Rego."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from gateway.catalog.purposes import purposes
from gateway.database import rfc3339
from gateway.http import parse_time

Words = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing otherwise: `pointer` into the facts, or into the rule sheets if `of_sheet`, and what stands there then.

    `names` says which fact it is, `words` what the change is. `along` are other facts that go with it.
    """

    pointer: str
    to: Any
    words: Words
    names: Words
    of_sheet: bool = False
    along: Mapping[str, Any] | None = None

    def applies(self, facts: Mapping[str, Any]) -> bool:
        """True if there is such a fact, and it is not so already."""
        return self.of_sheet or (_holder(facts, self.pointer) is not None and self.value_in(facts) != self.to)

    def value_in(self, facts: Mapping[str, Any]) -> Any:
        """What stands there now; of a purpose its code."""
        if self.of_sheet:
            return None
        value: Any = facts
        for name in self.pointer.split("/")[1:]:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def change_facts(self, facts: dict[str, Any]) -> None:
        """Make it so."""
        if self.of_sheet:
            return
        for pointer, value in {self.pointer: self.to, **(self.along or {})}.items():
            holder = _holder(facts, pointer)
            if holder is not None:
                holder[pointer.rsplit("/", 1)[-1]] = value

    def change_sheet(self, sheets: dict[str, Any]) -> None:
        """Make it so in every rule of the sheet."""
        if self.of_sheet:
            _, slug, member = self.pointer.split("/")
            for rule in sheets.get(slug, {}).get("rules", []):
                rule[member] = self.to


def _holder(facts: Mapping[str, Any], pointer: str) -> Any:
    holder: Any = facts
    for name in pointer.split("/")[1:-1]:
        holder = holder.get(name) if isinstance(holder, Mapping) else None
    return holder if isinstance(holder, dict) else None


def possible_changes(facts: Mapping[str, Any], sheets: Mapping[str, Any]) -> Iterator[Change]:
    """What could be otherwise, what is easiest to bring about first."""
    yield from _of_the_client(facts)
    yield from _of_the_purpose(facts)
    yield from _of_the_contract(facts)
    yield from _of_the_organizations()
    yield from _of_the_dataset(facts, sheets)


CLIENT = {"en": "whether the client authenticates by key", "fr": "si le client s'authentifie par clé"}
STANDING = {"en": "the standing of the client", "fr": "la situation du client"}
NAMED = {"en": "the contracts that the token names", "fr": "les contrats que nomme le jeton"}
PURPOSE = {"en": "the purpose", "fr": "la fin"}
STATE = {"en": "the state of the contract", "fr": "l'état du contrat"}
TIME = {"en": "the time", "fr": "le moment"}
ORGANIZATION = {"en": "the standing of the organization", "fr": "la situation de l'organisme"}
KIND = {"en": "what kind of organization it is", "fr": "la nature de l'organisme"}
OWNER = {"en": "the standing of the provider", "fr": "la situation du fournisseur"}
DATASET = {"en": "the dataset's classification", "fr": "la classification du jeu de données"}
LICENCE = {"en": "whether the dataset's licence was revoked", "fr": "si la licence du jeu de données a été révoquée"}
IN_USE = {"en": "whether the dataset is retired", "fr": "si le jeu de données est retiré"}
SUBJECT = {"en": "whether its events say whom they are about", "fr": "si ses événements disent qui ils concernent"}
CONSENT = {"en": "whether the rule asks for consent", "fr": "si la règle exige le consentement"}


def opposites(facts: Mapping[str, Any]) -> Iterator[Change]:
    """What would speak against it: to learn which facts an answer rests on, never as advice."""
    nothing: Words = {"en": "", "fr": ""}
    client, dataset = facts.get("client"), facts.get("dataset")
    if isinstance(client, Mapping):
        yield Change("/client/strong", not client.get("strong"), nothing, CLIENT)
        yield Change("/client/standing", "revoked", nothing, STANDING)
        yield Change("/client/contracts", [], nothing, NAMED)
    yield Change("/organization/standing", "suspended", nothing, ORGANIZATION)
    yield Change("/contract/state", "ended", nothing, STATE)
    yield Change("/dataset/owner_standing", "suspended", nothing, OWNER)
    yield Change("/dataset/licence_revoked", True, nothing, LICENCE)
    yield Change("/dataset/retired", True, nothing, IN_USE)
    yield Change("/dataset/has_subject", False, nothing, SUBJECT)
    if isinstance(dataset, Mapping):
        other = "open" if dataset.get("classification") in {"personal", "sensitive"} else "personal"
        yield Change("/dataset/classification", other, nothing, DATASET)
    if isinstance(facts.get("contract"), Mapping):
        yield Change("/at", facts["contract"]["valid_until"], nothing, TIME)


def _of_the_client(facts: Mapping[str, Any]) -> Iterator[Change]:
    by_key = {"en": "with a client that authenticates by key", "fr": "avec un client qui s'authentifie par clé"}
    yield Change("/client/strong", True, by_key, CLIENT)
    yield Change("/client/standing", "active", {"en": "with an active client", "fr": "avec un client actif"}, STANDING)
    contract, client = facts.get("contract"), facts.get("client")
    if isinstance(contract, Mapping) and contract.get("id") and isinstance(client, Mapping):
        named = sorted({*client.get("contracts", ()), contract["id"]})
        words = {"en": "with a token that names the contract", "fr": "avec un jeton qui nomme le contrat"}
        yield Change("/client/contracts", named, words, NAMED)


def _of_the_purpose(facts: Mapping[str, Any]) -> Iterator[Change]:
    """The contract is for the purpose of the decision, so both go together."""
    for each in purposes():
        words = {"en": f"for {each.code}", "fr": f"pour {each.code}"}
        along = {"/contract/purpose": each.code} if facts.get("contract") else None
        now = facts.get("purpose")
        if not (isinstance(now, Mapping) and now.get("code") == each.code):
            yield Change("/purpose", {"code": each.code, "broader": list(each.broader)}, words, PURPOSE, along=along)


def _of_the_contract(facts: Mapping[str, Any]) -> Iterator[Change]:
    state = {"receive": "active", "propose": "proposed"}.get(str(facts.get("action")))
    if state is not None:
        words = {"en": f"with a contract that is {state}", "fr": f"avec un contrat {'en vigueur' if state == 'active' else 'proposé'}"}
        yield Change("/contract/state", state, words, STATE)
    contract = facts.get("contract")
    if isinstance(contract, Mapping):
        within = {"en": "within the dates of the contract", "fr": "pendant la durée du contrat"}
        if not contract["valid_from"] <= str(facts.get("at")) < contract["valid_until"]:
            yield Change("/at", contract["valid_from"], within, TIME)
    elif facts.get("action") == "receive" and isinstance(facts.get("client"), Mapping):
        yield from _under_a_contract(facts)


def _under_a_contract(facts: Mapping[str, Any]) -> Iterator[Change]:
    """For each purpose, a contract in force that the token names."""
    caller, at = facts["client"]["organization"], parse_time(facts["at"])
    for each in purposes():
        contract = {
            "id": "con_0",
            "state": "active",
            "provider": facts["dataset"]["owner"],
            "consumer": caller,
            "purpose": each.code,
            "valid_from": facts["at"],
            "valid_until": rfc3339(at + timedelta(days=1)),
            "taken_up_offer": False,
        }
        along = {"/purpose": {"code": each.code, "broader": list(each.broader)}, "/client/contracts": ["con_0"]}
        words = {
            "en": f"under a contract for {each.code} that the token names",
            "fr": f"en vertu d'un contrat pour {each.code} que nomme le jeton",
        }
        yield Change("/contract", contract, words, {"en": "the contract", "fr": "le contrat"}, along=along)


def _of_the_organizations() -> Iterator[Change]:
    approved = {"en": "once the organization is approved", "fr": "une fois l'organisme approuvé"}
    yield Change("/organization/standing", "approved", approved, ORGANIZATION)
    provider = {"en": "once the provider is approved", "fr": "une fois le fournisseur approuvé"}
    yield Change("/dataset/owner_standing", "approved", provider, OWNER)
    department = {"en": "for a department of the city", "fr": "pour un service de la ville"}
    yield Change("/organization/kind", "department", department, KIND)


def _of_the_dataset(facts: Mapping[str, Any], sheets: Mapping[str, Any]) -> Iterator[Change]:
    yield Change("/dataset/licence_revoked", False, {"en": "with a licence in force", "fr": "avec une licence en vigueur"}, LICENCE)
    yield Change("/dataset/retired", False, {"en": "if the dataset were in use", "fr": "si le jeu de données était en usage"}, IN_USE)
    about = {"en": "if the events said whom they are about", "fr": "si les événements disaient qui ils concernent"}
    yield Change("/dataset/has_subject", True, about, SUBJECT)
    slug = str(facts.get("dataset", {}).get("slug"))
    if slug in sheets:
        yield Change(f"/{slug}/consent", "required", {"en": "with consent", "fr": "avec consentement"}, CONSENT, of_sheet=True)

"""Every kind of change that is remembered outside the database, and how it is applied again, in one table.

Those that forbid something, and the two that take a pause or a suspension back: they say how the object was left.
What only allows is not remembered. Lost with the database it allows nothing, which is what going back costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from gateway.changes import Change
from gateway.remembered import catalog, consents, contracts, identity, people, policy
from gateway.remembered.place import Remembered
from gateway.remembered.redoing import AS_IT_WAS, Kind, Outcome, Redoing

RESTORED = "database_restored"
"""The change by which a restoration is finished; what is remembered before it is settled in every database that has it."""


def _nothing(_session: Session, _change: Change) -> Sequence[Mapping[str, Any]]:
    return ()


def _stays(_redoing: Redoing, _entries: Sequence[Remembered]) -> Outcome:
    return AS_IT_WAS


_CONSENT = Kind("consent", consents.describe_record, consents.reapply_record)
_CONTRACT = Kind("contract", contracts.describe, contracts.reapply)
_CLIENT = Kind("client", identity.describe_client, identity.reapply_client)
_DATASET = Kind("dataset", catalog.describe, catalog.reapply)

KINDS: Mapping[str, Kind] = {
    "classification_lowered": _DATASET,
    "classification_raised": _DATASET,
    "client_changed": _CLIENT,
    "client_revoked": _CLIENT,
    "consent_invalidated": _CONSENT,
    "consent_paused": _CONSENT,
    "consent_refused": _CONSENT,
    "consent_resumed": _CONSENT,
    "consent_revoked": _CONSENT,
    "consent_withdrawn": _CONSENT,
    "contract_ended": _CONTRACT,
    "contract_resumed": _CONTRACT,
    "contract_suspended": _CONTRACT,
    RESTORED: Kind("restoration", _nothing, _stays),
    "dataset_changed": _DATASET,
    "licence_revoked": _DATASET,
    "organization_changed": Kind("organization", identity.describe_organization, identity.reapply_organization),
    "person_changed": Kind("person", people.describe_person, people.reapply_person),
    "person_signed_out": Kind("sign-in", people.describe_sign_in, people.reapply_sign_in),
    "policy_activated": Kind("policy", policy.describe, policy.reapply),
    "refusals_imported": Kind("import", consents.describe_import, consents.reapply_import),
    "registration_token_revoked": Kind("registration_token", identity.describe_registration_token, identity.reapply_registration_token),
    "schema_published": _DATASET,
    # When a key is retired stands beside it in every dump, and what it signed was no longer valid then.
    "signing_key_retired": Kind("signing key", _nothing, _stays),
    "token_revoked": Kind("token", identity.describe_token, identity.reapply_token),
    "subject_erased": Kind("subject", consents.describe_erasure, consents.reapply_erasure),
}


def remembered(session: Session, changes: Sequence[Change]) -> list[Remembered]:
    """What is to be remembered of these changes, which follow one another; the last entry marks.

    It is read as it stands now, not as each change left it: what comes behind is among the changes to come.
    """
    entries = [entry for change in changes for entry in _of(session, change)]
    last = changes[-1]
    if entries and entries[-1].n == last.n:
        final = entries.pop()
        return [*entries, Remembered(final.n, final.kind, final.object, final.forbids, final.redo, mark=True)]
    return [*entries, Remembered(last.n, last.kind, last.object, last.forbids, mark=True)]


def _of(session: Session, change: Change) -> Sequence[Remembered]:
    kind = KINDS.get(change.kind)
    if kind is None:
        return ()
    parts = kind.describe(session, change) or (None,)
    return [Remembered(change.n, change.kind, change.object, change.forbids, redo) for redo in parts]


def together(entries: Sequence[Remembered]) -> list[tuple[Kind, list[Remembered]]]:
    """What is to be applied again in one transaction each: by room and object, in the order of what was last done to it."""
    groups: dict[tuple[str, str], list[Remembered]] = {}
    for entry in entries:
        kind = KINDS.get(entry.kind)
        if kind is None:
            continue
        # Of policies the last one is active, whatever its name; the object of an import is no name.
        name = {"policy": "", "import": str(entry.n)}.get(kind.room, entry.object)
        group = groups.pop((kind.room, name), [])
        groups[kind.room, name] = [*group, entry]
    return [(KINDS[group[-1].kind], group) for group in groups.values()]

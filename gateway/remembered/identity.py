"""Organizations, clients and tokens, remembered and applied again: what was suspended or revoked, what a client lost, its credential."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from gateway.audit.record import Entry, record
from gateway.changes import Change, note
from gateway.database import now, rfc3339
from gateway.http import parse_time
from gateway.identity.models import Client, Organization, RegistrationToken, RevokedToken
from gateway.identity.revocation import forbid
from gateway.keys import b64, unb64
from gateway.remembered.place import Remembered
from gateway.remembered.redoing import AS_IT_WAS, Outcome, Redoing, last_redo, restored


def describe_organization(session: Session, change: Change) -> Sequence[Mapping[str, Any]]:
    """Its standing; neither name nor contact."""
    found = session.get(Organization, change.object)
    return () if found is None else ({"standing": found.standing},)


def describe_client(session: Session, change: Change) -> Sequence[Mapping[str, Any]]:
    """Standing, scopes, roles, and the credential as it is stored: public keys, or a keyed hash. Of a removed one, that it is gone."""
    found = session.get(Client, change.object)
    if found is None:
        return ({"standing": "revoked"},)
    credential = {
        "jwks": found.jwks,
        "jwks_uri": found.jwks_uri,
        "key_id": found.secret_key_id,
        "hash": b64(found.secret_hash) if found.secret_hash else None,
        "secret_id": found.secret_id,
        "previous": _previous(found),
    }
    return ({"standing": found.standing, "scopes": found.scopes, "roles": found.roles} | credential,)


def describe_registration_token(_session: Session, _change: Change) -> Sequence[Mapping[str, Any]]:
    """That it is revoked, which is final."""
    return ({"revoked": True},)


def reapply_registration_token(redoing: Redoing, entries: Sequence[Remembered]) -> Outcome:
    """Revoke it again. One that was made after the database's time is not there, and registers nobody."""
    found = redoing.session.get(RegistrationToken, entries[-1].object, with_for_update=True)
    if found is None or found.revoked_at is not None:
        return AS_IT_WAS
    found.revoked_at = now()
    redoing.session.flush()
    change = note(redoing.session, "registration_token_revoked", found.id)
    detail = {"registration_token": found.id, "organization": found.organization_id} | restored(entries)
    record(redoing.session, Entry(kind="client", action="revoke_token", change=change, detail=detail, consumer=found.organization_id))
    return Outcome(change)


def reapply_organization(redoing: Redoing, entries: Sequence[Remembered]) -> Outcome:
    """Suspend it again. The one that operates is never suspended."""
    told = last_redo(entries)
    found = redoing.session.get(Organization, entries[-1].object, with_for_update=True)
    if told is None or found is None or told["standing"] != "suspended" or found.standing == "suspended" or found.operates:
        return AS_IT_WAS
    found.standing = "suspended"
    redoing.session.flush()
    change = note(redoing.session, "organization_changed", found.id)
    detail = {"organization": found.id, "standing": found.standing} | restored(entries)
    record(redoing.session, Entry(kind="organization", action="suspend", change=change, detail=detail, consumer=found.id))
    return Outcome(change)


def reapply_client(redoing: Redoing, entries: Sequence[Remembered]) -> Outcome:
    """Revoke it again, or take again what was taken from it, and put its last credential in the place of what is stored."""
    told = last_redo(entries)
    found = redoing.session.get(Client, entries[-1].object, with_for_update=True)
    if told is None or found is None or found.standing == "revoked":
        return AS_IT_WAS
    if told["standing"] == "revoked":
        return _written(redoing, found, entries, "client_revoked", "revoke", {"standing": "revoked"})
    narrowed = {name: [held for held in getattr(found, name) if held in told[name]] for name in ("scopes", "roles")}
    credential = {
        "jwks": told["jwks"],
        "secret_key_id": told["key_id"],
        "secret_hash": unb64(told["hash"]) if told["hash"] else None,
    } | _told_since_registration(told)
    differing = {name: value for name, value in (narrowed | credential).items() if getattr(found, name) != value}
    if not differing:
        return AS_IT_WAS
    return _written(redoing, found, entries, "client_changed", "change", differing)


def describe_token(session: Session, change: Change) -> Sequence[Mapping[str, Any]]:
    """Until when it would have been good."""
    found = session.get(RevokedToken, change.object)
    return () if found is None else ({"expires_at": rfc3339(found.expires_at)},)


def reapply_token(redoing: Redoing, entries: Sequence[Remembered]) -> Outcome:
    """Revoke it again, unless its time is over."""
    told, token_id = last_redo(entries), entries[-1].object
    if told is None or parse_time(told["expires_at"]) <= now() or redoing.session.get(RevokedToken, token_id) is not None:
        return AS_IT_WAS
    change = forbid(redoing.session, token_id, parse_time(told["expires_at"]))
    record(redoing.session, Entry(kind="client", action="revoke_token", change=change, detail={"token": token_id} | restored(entries)))
    return Outcome(change)


def _previous(client: Client) -> dict[str, Any] | None:
    """The credential that is good beside the last, if there is one."""
    if client.previous_until is None:
        return None
    return {
        "until": rfc3339(client.previous_until),
        "jwks": client.previous_jwks,
        "key_id": client.previous_secret_key_id,
        "hash": b64(client.previous_secret_hash) if client.previous_secret_hash else None,
        "secret_id": client.previous_secret_id,
    }


def _told_since_registration(told: Mapping[str, Any]) -> dict[str, Any]:
    """What entries have told since clients register themselves. Without it no older credential is good: that is the stricter of the two."""
    before = told.get("previous") or {}
    members = {
        "previous_until": datetime.fromisoformat(before["until"]) if before else None,
        "previous_jwks": before.get("jwks"),
        "previous_secret_key_id": before.get("key_id"),
        "previous_secret_hash": unb64(before["hash"]) if before.get("hash") else None,
        "previous_secret_id": before.get("secret_id"),
    }
    return members | {name: told[name] for name in ("jwks_uri", "secret_id") if name in told}


def _written(
    redoing: Redoing, client: Client, entries: Sequence[Remembered], kind: str, action: str, members: Mapping[str, Any]
) -> Outcome:
    for name, value in members.items():
        setattr(client, name, value)
    redoing.session.flush()
    change = note(redoing.session, kind, client.id)
    detail = {"client": client.id, "organization": client.organization_id, "changed": " ".join(sorted(members))} | restored(entries)
    record(redoing.session, Entry(kind="client", action=action, change=change, detail=detail, consumer=client.organization_id))
    return Outcome(change)

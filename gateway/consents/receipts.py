"""Receipts: what a person holds, signed, and the withdrawal code that stands in it.

A receipt is a JWS in compact form (RFC 7515), by ES256, with a key of its own that `/oauth/jwks` names: `typ` and key keep it from
being taken for an access token.
"""

from __future__ import annotations

from typing import Any

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from sqlalchemy.orm import Session

from consent.codes import hash_of, new_code
from consent.models import ConsentRecord
from consent.notices import version
from consent.receipts import Around, receipt
from consent.records import histories
from gateway.audit.note import log_identity
from gateway.catalog.directory import Directory as Catalog
from gateway.catalog.purposes import purpose
from gateway.consents.visible import owner_of
from gateway.database import new_id, now
from gateway.identity.directory import Directory as People
from gateway.keys import Keys

TYPE = "consent-receipt+jwt"
MEDIA_TYPE = "application/jose"


class Receipts:
    """Made once for each request from what the application holds."""

    def __init__(self, state: Any) -> None:
        self._keys: Keys = state.keys
        self._issuer: str = state.settings.issuer
        self._log = log_identity(state.keys, state.settings)
        self._catalog: Catalog = state.catalog
        self._people: People = state.identity

    def sign(self, session: Session, found: ConsentRecord, code: str | None = None) -> str:
        """The receipt of the record as it is now. `code` is told in it; it cannot be told again later."""
        owner = owner_of(found, self._catalog) or ""
        organizations = filter(None, map(self._people.organization, dict.fromkeys([owner, *found.recipients])))
        around = Around(
            issuer=self._issuer,
            log=self._log,
            controller=owner,
            parties={organization.id: organization.name for organization in organizations},
            purposes=[
                {"code": code_, "iri": known.iri, "title": dict(known.title)} for code_ in found.purposes if (known := purpose(code_))
            ],
        )
        shown = version(session, found.notice["id"], int(found.notice["version"])) if found.notice else None
        history = histories(session, [found.id]).get(found.id, [])
        claims = receipt(found, shown, history, around, receipt_id=new_id("rcp"), at=now(), code=code)
        key = self._people.signing.signer("receipt")
        header = {"alg": "ES256", "typ": TYPE, "kid": key.kid}
        return jws.serialize_compact(header, orjson.dumps(claims), key, algorithms=["ES256"])

    def code_in(self, signed: str) -> str:
        """The withdrawal code in a receipt that the exchange has signed; empty if it is none, or tells none."""
        try:
            read = jws.deserialize_compact(signed.strip(), self._people.signing.public("receipt"), algorithms=["ES256"])
            if read.headers().get("typ") != TYPE:
                return ""
            return str(orjson.loads(read.payload)["pii_processing"]["withdrawal"]["code"] or "")
        except (JoseError, ValueError, KeyError, TypeError):
            return ""

    def code(self) -> tuple[str, tuple[str, bytes]]:
        """A new withdrawal code, and what is stored of it: the key's id and the keyed hash."""
        code, key = new_code(), self._keys.secret("withdrawal_code")
        hashed = hash_of(key.value, code)
        assert hashed is not None
        return code, (key.id, hashed)

    def hash_of(self, code: str) -> bytes | None:
        """What is stored of this code; None for what is none."""
        return hash_of(self._keys.secret("withdrawal_code").value, code)

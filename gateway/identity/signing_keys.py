"""The exchange's own signing keys, by use, and how one follows another without a refused token.

A new key is *published* in the JWKS first; when every verifier that keeps a JWKS has had to ask again, it becomes the *signing* one;
the key before it is *verifying*, still in the JWKS, until nothing that it signed is valid any more, and then *retired*. A receipt is
valid for ever: the keys of receipts are never retired. The first key of each use stands in the key file (`gateway/keys.py`), and is
written down here, without its private half, when another is to follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from joserfc.jwk import ECKey, KeySet
from sqlalchemy import JSON, LargeBinary, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from consent.sealing import KeyLost
from gateway import changes
from gateway.audit.record import Entry, record
from gateway.changes import Change
from gateway.database import Base, now, rfc3339
from gateway.errors import ExchangeError
from gateway.key_encryption import KeyEncryptionKeys, opened
from gateway.keys import Keys, Wrapped

Use = Literal["token", "receipt"]
USES: tuple[Use, ...] = ("token", "receipt")
"""The keys of policy bundles are configured in OPA, and stay in the key file."""
STEPS = {"published": "signing_key_changed", "verifying": "signing_key_retired"}
"""The states that end by time, and the change that this is."""
MARGIN_S = 5.0
"""Seconds that are added to each wait: for the step itself to reach every replica, and for clocks that are a little off."""


class SigningKey(Base):
    """A signing key. `state`: published, signing, verifying, retired; `due_at` is when the first and the third of these end.

    `wrapped` is the private JWK under the key-encryption key `kek_id`; both are null for the key that stands in the key file.
    """

    __tablename__ = "signing_keys"
    kid: Mapped[str] = mapped_column(primary_key=True)
    use: Mapped[str]
    state: Mapped[str]
    public_jwk: Mapped[dict[str, Any]] = mapped_column(JSON)
    kek_id: Mapped[str | None]
    wrapped: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]
    due_at: Mapped[datetime | None]


@dataclass(frozen=True, slots=True)
class _Held:
    """A row as it stands in memory, its private half still wrapped."""

    kid: str
    use: str
    state: str
    public: ECKey
    wrapped: Wrapped | None
    due_at: datetime | None


class SigningKeys:
    """The keys as this process knows them. Thread-safe: what is held is replaced, never changed.

    Private halves are opened at first need: verifying goes on where the key-encryption key is away.
    """

    def __init__(self, keys: Keys, keks: KeyEncryptionKeys) -> None:
        self._keys = keys
        self._keks = keks
        self._opened: dict[str, ECKey] = {}
        self._take([])

    def load(self, session: Session) -> None:
        """Read all, at start."""
        self._take([_held(row) for row in session.scalars(select(SigningKey).where(SigningKey.state != "retired"))])

    def on_changes(self, session: Session, changes: Sequence[Change]) -> None:
        if any(change.kind.startswith("signing_key_") for change in changes):
            self.load(session)

    def signer(self, use: Use) -> ECKey:
        """The key that signs now. May wait for the key-encryption key: call it in a worker thread. Raises `signing_unavailable`."""
        held = next((one for one in self._rows if one.use == use and one.state == "signing"), None)
        wrapped = held.wrapped if held is not None and held.wrapped is not None else self._keys.wrapped.get(use)
        if wrapped is None:
            return self._keys.signing[use]
        if wrapped.kid not in self._opened:
            self._opened[wrapped.kid] = ECKey.import_key(opened(self._keks, wrapped))
        return self._opened[wrapped.kid]

    def public(self, use: Use) -> KeySet:
        """The keys that signatures of this use are verified with."""
        return self._public[use]

    def jwks(self) -> dict[str, Any]:
        """The JWKS of all uses (RFC 7517): a key each, so that no receipt is ever taken for a token."""
        return {"keys": [key for use in USES for key in self._public[use].as_dict(private=False)["keys"]]}

    def any_due(self, at: datetime) -> bool:
        return any(held.due_at is not None and held.due_at <= at for held in self._rows)

    def _take(self, rows: list[_Held]) -> None:
        self._rows = rows
        self._public = {use: KeySet([one.public for one in rows if one.use == use] or [self._keys.signing[use]]) for use in USES}


def rotate(session: Session, keys: Keys, keks: KeyEncryptionKeys, use: Use, *, jwks_cache_s: float, waiting_too: bool = False) -> str:
    """Publish a new key and return its identifier; it signs when JWKS that are kept now have run out. One change and one audit entry.

    Raises `illegal_state` while a new key waits already (unless `waiting_too`), and `KeyAway` without a key-encryption key.
    """
    rows = session.scalars(select(SigningKey).where(SigningKey.use == use)).all()
    if not waiting_too and any(row.state == "published" for row in rows):
        raise ExchangeError("illegal_state", "A new key is published already: wait until it signs.", state="published", legal=[])
    if not rows:
        first = keys.signing[use]
        session.add(_row(first, use, "signing", None, None))
    key = ECKey.generate_key("P-256", parameters={"use": "sig", "alg": "ES256"}, private=True)
    kid = key.thumbprint()
    named = ECKey.import_key({**key.as_dict(private=True), "kid": kid})
    wrapped = keks.wrap(named.as_dict(private=True))
    session.add(_row(named, use, "published", wrapped, now() + timedelta(seconds=jwks_cache_s + MARGIN_S)))
    _tell(session, "signing_key_published", "published", kid, use)
    return kid


def replace_at_once(session: Session, keys: Keys, keks: KeyEncryptionKeys, use: Use) -> str:
    """For a key that was stolen: a new one signs now, and nothing that any key before it has signed is accepted; returns its identifier.

    Raises `KeyAway` without a key-encryption key to keep it under.
    """
    kid = rotate(session, keys, keks, use, jwks_cache_s=0, waiting_too=True)
    session.flush()
    _move(session, kid, "published", "signing", None)
    for row in session.scalars(select(SigningKey).where(SigningKey.use == use, SigningKey.state != "retired")).all():
        if row.kid != kid:
            _move(session, row.kid, row.state, "retired", None)
            _tell(session, "signing_key_retired", "retired", row.kid, use)
    return kid


def step(session: Session, at: datetime, *, token_lifetime_s: float) -> int:
    """Do what is due, whichever replica comes first; returns how many keys have changed. Each is one change and one audit entry."""
    moved = 0
    due = select(SigningKey).where(SigningKey.state.in_(STEPS), SigningKey.due_at <= at).order_by(SigningKey.due_at)
    for row in session.scalars(due).all():
        kid, use, state = row.kid, row.use, row.state
        if not _move(session, kid, state, "signing" if state == "published" else "retired", None):
            continue  # another replica was first
        moved += 1
        if state == "published":
            until = at + timedelta(seconds=token_lifetime_s + MARGIN_S) if use == "token" else None
            for before in session.scalars(select(SigningKey).where(SigningKey.use == use, SigningKey.state == "signing")).all():
                if before.kid != kid:
                    _move(session, before.kid, "signing", "verifying", until)
        _tell(session, STEPS[state], "signs" if state == "published" else "retired", kid, use)
    return moved


def rewrap(session: Session, keks: KeyEncryptionKeys) -> tuple[int, int]:
    """Wrap each private half under the current key-encryption key; returns how many were, and how many no key opens. Raises `KeyAway`."""
    kek_id, _ = keks.current()
    done = lost = 0
    for row in session.scalars(select(SigningKey).where(SigningKey.wrapped.is_not(None), SigningKey.state != "retired")):
        old = _wrapped(row)
        if old is None or old.kek_id == kek_id:
            continue
        try:
            anew = keks.wrap(keks.unwrap(old))
        except KeyLost:
            lost += 1
            continue
        row.kek_id, row.wrapped = anew.kek_id, anew.value
        done += 1
    session.flush()
    if done:
        _tell(session, "signing_key_changed", "rewrapped", kek_id, "")
    return done, lost


def shown(session: Session, keys: Keys) -> list[dict[str, str | None]]:
    """Every key of every use, oldest first, without anything secret."""
    rows = session.scalars(select(SigningKey).order_by(SigningKey.created_at, SigningKey.kid)).all()
    told: list[dict[str, str | None]] = [
        {
            "use": row.use,
            "key_id": row.kid,
            "state": row.state,
            "due_at": rfc3339(row.due_at) if row.due_at else None,
            "kept": "database" if row.wrapped is not None else None if row.state == "retired" else kept(keys, row.use),
        }
        for row in rows
    ]
    rotated = {row.use for row in rows}
    filed = [use for use in keys.signing if use not in rotated]
    return told + [
        {"use": use, "key_id": keys.signing[use].kid, "state": "signing", "due_at": None, "kept": kept(keys, use)} for use in filed
    ]


def kept(keys: Keys, use: str) -> str:
    """Where the private half of this use's key is, if it stands in the key file."""
    return "key file, encrypted" if use in keys.wrapped else "key file, in clear"


def _move(session: Session, kid: str, state: str, to: str, due_at: datetime | None) -> bool:
    """True if the key stood in that state; a retired one loses its private half."""
    values: dict[str, Any] = {"state": to, "due_at": due_at}
    if to == "retired":
        values |= {"wrapped": None, "kek_id": None}
    moving = update(SigningKey).where(SigningKey.kid == kid, SigningKey.state == state).values(values)
    return bool(session.execute(moving.execution_options(synchronize_session="fetch")).rowcount)  # type: ignore[attr-defined]


def _tell(session: Session, kind: str, action: str, kid: str, use: str) -> None:
    number = changes.note(session, kind, kid)
    record(session, Entry(kind="key", action=action, change=number, detail={"key_id": kid, "use": use}))


def _row(key: ECKey, use: str, state: str, wrapped: Wrapped | None, due_at: datetime | None) -> SigningKey:
    kek_id, value = (wrapped.kek_id, wrapped.value) if wrapped else (None, None)
    public = dict(key.as_dict(private=False))
    return SigningKey(kid=key.kid, use=use, state=state, public_jwk=public, kek_id=kek_id, wrapped=value, created_at=now(), due_at=due_at)


def _held(row: SigningKey) -> _Held:
    return _Held(row.kid, row.use, row.state, ECKey.import_key(row.public_jwk), _wrapped(row), row.due_at)


def _wrapped(row: SigningKey) -> Wrapped | None:
    return Wrapped(row.kid, row.kek_id or "", row.wrapped) if row.wrapped is not None else None

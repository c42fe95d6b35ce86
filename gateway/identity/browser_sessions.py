"""The cookie of a browser in which a person has signed in, and the access rule of a page as a type in its signature.

def show(caller: Annotated[Principal, PageAllow("audit:read")]) -> HTMLResponse: ...
def approve(caller: Annotated[Principal, PageAllow(roles=("operator",), fresh=True, back="/queue")], fields: Fields) -> ...

Whoever is not signed in is sent to `/login` and comes back. A page that changes something (any method but GET and HEAD) is asked for
by our own page alone, whatever it says: the rule looks at Fetch Metadata and at the form's token. Calls of the API take no cookie.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import update
from sqlalchemy.orm import Session
from starlette.responses import Response

from gateway.database import Database, now
from gateway.errors import ExchangeError
from gateway.identity import people, sign_ins
from gateway.identity.directory import Directory
from gateway.identity.once import Once
from gateway.identity.people_models import PersonSession
from gateway.identity.person_tokens import PersonTokens, facts_of
from gateway.identity.possession import ANSWER_HEADERS
from gateway.identity.principal import Principal, Rule, is_fresh
from gateway.identity.provider import Identity
from gateway.identity.scopes import SCOPES
from gateway.identity.sign_ins import SignIn
from gateway.identity.web_sign_in import WebSignIn
from gateway.keys import Keys, b64
from gateway.settings import Settings

COOKIE = "__Host-exchange"
WEB = "exchange-web"
"""The client, at the exchange, by which a person in a browser acts."""
TOUCHED_S = 15.0
"""That a session is in use is written down this often, in seconds: so much earlier at most an idle one ends."""
SAFE = frozenset({"GET", "HEAD"})
HERE = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,1000}", re.ASCII)
HOME = "/session"
CALLER = "exchange.page_caller"
TOKEN = "form_token"  # noqa: S105 - the name of a field
TOKEN_HEADER = "x-form-token"  # noqa: S105 - the name of a header


class SignInNeeded(Exception):
    """The page is for somebody who has signed in, or has just done so; `location` is where that is done."""

    def __init__(self, location: str) -> None:
        super().__init__("sign in first")
        self.location = location


class BrowserSessions:
    """The sessions of browsers, and the two ways into one. Thread-safe; every call blocks."""

    def __init__(self, settings: Settings, keys: Keys, database: Database, directory: Directory, people: PersonTokens) -> None:
        self.web = WebSignIn(settings, keys.secret("person"), Once(database), people.providers)
        self.accounts = people.local if settings.with_local_accounts else None
        self._settings = settings
        self._key = keys.secret("person")
        self._keys = keys
        self._database = database
        self._directory = directory
        self._idle = timedelta(minutes=settings.person_idle_min)

    def begin(self, identity: Identity, before: str, *, fresh: bool) -> SignIn | None:
        """A new session, in the place of the one that this browser had by the cookie `before`. None: not proved as `fresh` asks.

        Raises `role_missing` for a person who is suspended.
        """
        proved = identity.auth_time or 0  # a provider that does not say when: long ago
        if fresh and not is_fresh(proved, identity.acr, self._settings.oidc_acr):
            return None
        with self._database.transaction() as session:
            person = people.sign_in(session, self._keys, self._settings, identity)
            if person.standing != "active":
                raise ExchangeError("role_missing", "This person is suspended: ask the operator.")
            self._end(session, before, "replaced")
            return sign_ins.begin(
                session,
                self._key,
                person,
                kind="cookie",
                client_id=WEB,
                scope=" ".join(SCOPES),
                auth_time=proved,
                acr=identity.acr,
                lifetime=timedelta(hours=self._settings.person_session_h),
            )

    def caller(self, cookie: str) -> Principal | None:
        """Whose session this cookie is, with today's roles; None if it is nobody's any more. Raises `database_unavailable`."""
        with self._database.reading() as session:
            row = sign_ins.find(session, self._key, "cookie", cookie)
        if row is None or not self._in_use(row):
            return None
        try:
            return self._directory.person_as_principal(
                facts_of(row),
                client_id=row.client_id,
                scopes=frozenset(row.scope.split()),
                expires_at=int(row.expires_at.timestamp()),
                token_id=row.id,
            )
        except ExchangeError:  # suspended, or ended at another replica
            return None

    def end(self, cookie: str) -> None:
        """Sign out: when it returns, no replica takes the cookie any more. Raises `barrier_pending`, `database_unavailable`."""
        with self._database.transaction() as session:
            self._end(session, cookie, "signed_out")

    def form_token(self, caller: Principal) -> str:
        """What the forms of this session's pages carry."""
        assert caller.person is not None
        return b64(self._key.mac(b"form", caller.person.session_id.encode()))

    def _end(self, session: Session, cookie: str, why: Any) -> None:
        row = sign_ins.find(session, self._key, "cookie", cookie) if cookie else None
        if row is not None:
            sign_ins.end(session, row, why)

    def _in_use(self, row: PersonSession) -> bool:
        """False, and over, if nothing came for too long."""
        at = now()
        if at - row.used_at <= timedelta(seconds=TOUCHED_S):
            return True
        with self._database.transaction() as session:
            if at - row.used_at <= self._idle:
                session.execute(_still(row.id, at - self._idle).values(used_at=at))
                return True
            current = session.get(PersonSession, row.id, with_for_update=True)
            if current is None or at - current.used_at <= self._idle:
                return current is not None  # another request came at the same moment
            sign_ins.end(session, current, "idle")
        return False


def _still(session_id: str, since: datetime) -> Any:
    return update(PersonSession).where(PersonSession.id == session_id, PersonSession.ended_at.is_(None), PersonSession.used_at > since)


@dataclass(frozen=True, slots=True)
class PageRule:
    """A rule for who has a session. See `PageAllow`. Raises `SignInNeeded`, `cross_site_request`, and what the rule raises."""

    rule: Rule
    back: str

    async def __call__(self, request: Request) -> Principal:
        caller = await page_caller(request)
        if caller is None:
            raise SignInNeeded(self._login(request, fresh=False))
        if request.method not in SAFE:
            require_same_site(request)
            await _require_token(request, caller)
        try:
            self.rule.require(request, caller)
        except ExchangeError as refused:
            if refused.code == "insufficient_user_authentication":
                raise SignInNeeded(self._login(request, fresh=True)) from refused
            raise
        return caller

    def _login(self, request: Request, *, fresh: bool) -> str:
        """What was sent by a form is not sent again: the person comes back to the page that has it."""
        query = f"?{request.url.query}" if request.url.query else ""
        back = request.url.path + query if request.method in SAFE else self.back.format(**request.path_params)
        return "/login?" + urlencode({"next": back} | ({"fresh": "true"} if fresh else {}))


def PageAllow(  # noqa: N802 - it stands where a type stands, as `Depends` does
    *scopes: str, roles: Sequence[str] = (), fresh: bool = False, back: str = HOME
) -> Any:
    """`caller: Annotated[Principal, PageAllow("audit:read")]`. `fresh`: they signed in within the last minutes (RFC 9470).

    `back`: for a page that is no GET, where to come back to after signing in; it may name the path's parameters.
    """
    return Depends(PageRule(Rule(scopes, tuple(roles), person=True, fresh=fresh), back))


async def page_caller(request: Request) -> Principal | None:
    """Who has signed in in this browser. Looked at once for a request. Raises `rate_limited`, `database_unavailable`."""
    if CALLER not in request.scope:
        cookie = request.cookies.get(COOKIE)
        found = await run_in_threadpool(request.app.state.browsers.caller, cookie) if cookie else None
        request.scope[CALLER] = found
        if found is not None:
            limits = request.app.state.callers.count(found.actor, found.organization_id)
            request.scope.setdefault(ANSWER_HEADERS, {}).update(limits)
    caller: Principal | None = request.scope[CALLER]
    return caller


async def read_fields(request: Request) -> Mapping[str, str]:
    """The fields of a form; of one that is there twice the first. Raises `bad_request`."""
    try:
        pairs = parse_qsl((await request.body()).decode(), keep_blank_values=True, errors="strict", max_num_fields=200)
    except ValueError as error:
        raise ExchangeError("bad_request", "The body is not a form in UTF-8.") from error
    return dict(reversed(pairs))


Fields = Annotated[Mapping[str, str], Depends(read_fields)]


def require_same_site(request: Request) -> None:
    """Return if the browser says that a page of ours sent this (Fetch Metadata; `Origin` where a browser does not know that).

    Raises `cross_site_request`.
    """
    said = request.headers.get("sec-fetch-site")
    ours = said == "same-origin" if said is not None else request.headers.get("origin") == request.app.state.settings.issuer
    if not ours:
        raise ExchangeError("cross_site_request")


async def _require_token(request: Request, caller: Principal) -> None:
    sent = request.headers.get(TOKEN_HEADER) or (await read_fields(request)).get(TOKEN, "")
    if not hmac.compare_digest(sent.encode(), request.app.state.browsers.form_token(caller).encode()):
        raise ExchangeError("cross_site_request")


def here(following: str) -> str:
    """The path to go on to, if it is one of ours and not of signing in itself; else where everybody may go."""
    ours = HERE.fullmatch(following) is not None and not re.match(r"/log(in|out)\b", following)
    return following if ours else HOME


def set_cookie(response: Response, name: str, value: str, *, lives_s: int | None = None) -> None:
    """With the prefix `__Host-` a browser takes it by https alone, and from nobody but this host (RFC 6265bis section 4.1.3.2).

    `lax`, for the provider sends people back by a link. Without `lives_s` it goes with the browser. Empty: it is deleted.
    """
    lives_s = lives_s if value else 0
    response.set_cookie(name, value, max_age=lives_s, path="/", secure=True, httponly=True, samesite="lax")

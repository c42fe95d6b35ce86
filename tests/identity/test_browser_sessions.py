"""A person signs in in a browser: the cookie, where it is taken and where it ends, and who may send a form."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from fastapi import APIRouter
from pydantic import SecretStr
from sqlalchemy import select

from gateway.audit.models import AuditEntry
from gateway.browser import PAGE
from gateway.identity import sign_ins
from gateway.identity.browser_sessions import COOKIE, Fields, PageAllow, here
from gateway.identity.people_models import PersonSession
from gateway.identity.principal import Principal
from gateway.identity.web_sign_in import COOKIE as BEGUN
from tests.engines import OpenIdProvider
from tests.engines.openid import WEB, WEB_SECRET, Visitor
from tests.identity.exchange import ISSUER, Exchange, an_exchange
from tests.identity.signing_in import city
from tests.identity.surfing import HIDDEN, Surfer

PASSWORD = "correct horse battery staple"


@pytest.fixture
def exchange(tmp_path: Path, openid_provider: OpenIdProvider) -> Iterator[Exchange]:
    with with_pages(tmp_path, openid_provider) as made:
        yield made


def with_pages(folder: Path, provider: OpenIdProvider, **more: Any) -> AbstractContextManager[Exchange]:
    web = {"oidc_web_client_id": WEB, "oidc_web_client_secret": SecretStr(WEB_SECRET), "sessions_per_minute": 1000}
    return city(folder, provider, **({"local_accounts": False} | web | more))


def mount_pages(exchange: Exchange) -> list[str]:
    """Pages as the console has them, and what was approved by them."""
    router, approved = APIRouter(), []

    @router.get("/desk/{number}")
    def show(number: int, caller: Annotated[Principal, PageAllow("organizations:write", roles=("operator",))]) -> str:
        return f"{number} {caller.actor}"

    @router.post("/desk/{number}/approve")
    def approve(
        number: int, _caller: Annotated[Principal, PageAllow(roles=("operator",), fresh=True, back="/desk/{number}")], fields: Fields
    ) -> None:
        approved.append(f"{number} {fields['why']}")

    exchange.mount(router)
    return approved


def age(exchange: Exchange, **seconds: int) -> None:
    """Move these times of all sessions back."""
    with exchange.database.engine.begin() as connection:
        for name, back in seconds.items():
            connection.exec_driver_sql(f"UPDATE person_sessions SET {name} = datetime({name}, '-{back} seconds')")


def reasons(exchange: Exchange) -> list[str]:
    """Why sessions have ended, from the audit log."""
    with exchange.database.reading() as session:
        entries = [row.entry.decode() for row in session.scalars(select(AuditEntry))]
    return [why for entry in entries for why in ("signed_out", "replaced", "idle") if f'"why":"{why}"' in entry]


# -- signing in --------------------------------------------------------------------------------------------------------


def test_browser_signs_in_at_the_provider_and_comes_back_to_where_it_was(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    mount_pages(exchange)
    olga = Surfer(exchange)
    sent = olga.get("/desk/7?all=1")
    assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=%2Fdesk%2F7%3Fall%3D1")
    back = olga.sign_in(openid_provider, "olga", sent.headers["location"])
    assert (back.status_code, back.headers["location"]) == (303, "/desk/7?all=1")
    assert olga.get("/desk/7").json().startswith("7 per_")
    assert "operator, resident" in olga.get("/session").text


def test_cookies_are_of_this_host_alone_and_of_no_script(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    olga = Surfer(exchange)
    begun = olga.get("/login").headers["set-cookie"]
    came = olga.sign_in(openid_provider, "olga").headers.get_list("set-cookie")
    assert begun.startswith(f"{BEGUN}=")
    assert sorted(told.partition("=")[0] for told in came) == [COOKIE, BEGUN]
    for told in (begun, *came):
        parts = {part.strip().lower() for part in told.split(";")[1:]}
        assert {"httponly", "secure", "samesite=lax", "path=/"} <= parts
        assert not any(part.startswith("domain") for part in parts)
    assert set(olga.cookies) == {COOKIE}


def test_cookie_is_another_after_each_sign_in_and_the_one_before_is_over(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    olga = Surfer(exchange)
    olga.sign_in(openid_provider, "olga")
    before = dict(olga.cookies)
    olga.sign_in(openid_provider, "olga")
    assert olga.cookies[COOKIE] != before[COOKIE]
    thief = Surfer(exchange)
    thief.cookies = before
    assert (olga.is_signed_in(), thief.is_signed_in()) == (True, False)
    assert reasons(exchange) == ["replaced"]


def test_cookie_that_somebody_planted_is_not_the_one_of_the_session(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    olga = Surfer(exchange)
    olga.cookies[COOKIE] = "exc_planted"
    olga.sign_in(openid_provider, "olga")
    assert olga.cookies[COOKIE] != "exc_planted"


def test_cookie_stands_in_the_database_as_a_hash(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    olga = Surfer(exchange)
    olga.sign_in(openid_provider, "olga")
    kept = b"".join(path.read_bytes() for path in exchange.settings.data_dir.glob("exchange.db*"))
    assert olga.cookies[COOKIE].encode() not in kept


def test_cookie_is_no_credential_of_the_api(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    olga = Surfer(exchange)
    olga.sign_in(openid_provider, "olga")
    assert olga.get("/v1/me").json()["code"] == "token_missing"
    answer = exchange.http.get("/v1/me", headers={"Authorization": f"Bearer {olga.cookies[COOKIE]}"})
    assert answer.json()["code"] == "token_invalid"


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example",
     "javascript:alert(1)", "/login", "/logout", "/login/callback", "/login?next=/", "desk", "", "/" + "x" * 2000],
)  # fmt: skip
def test_nobody_is_sent_elsewhere_after_signing_in(exchange: Exchange, openid_provider: OpenIdProvider, elsewhere: str) -> None:
    assert here(elsewhere) == "/session"
    back = Surfer(exchange).sign_in(openid_provider, "rita", "/login?" + urlencode({"next": elsewhere}))
    assert back.headers["location"] == "/session"


# -- what comes back ---------------------------------------------------------------------------------------------------


def came_back(surfer: Surfer, login: str) -> str:
    """The address to which the provider sends this browser, which does not go there yet."""
    visitor = Visitor(login)
    address = visitor.sign_in(surfer.get("/login").headers["location"], f"{ISSUER}/login/callback")
    visitor.close()
    parts = urlsplit(address)
    return f"{parts.path}?{parts.query}"


def failed(surfer: Surfer, path: str) -> str:
    answer = surfer.get(path)
    assert (answer.status_code, COOKIE in surfer.cookies) == (400, False)
    assert answer.headers["content-security-policy"] == PAGE
    return str(answer.text)


def test_nobody_is_signed_in_by_an_answer_to_another_browser(exchange: Exchange) -> None:
    attacker, victim = Surfer(exchange), Surfer(exchange)
    address = came_back(attacker, "petra")
    failed(victim, address)
    victim.get("/login")
    failed(victim, address)
    assert attacker.get(address).status_code == 303


def test_answer_is_good_once(exchange: Exchange) -> None:
    olga = Surfer(exchange)
    address = came_back(olga, "olga")
    cookies = dict(olga.cookies)
    assert olga.get(address).status_code == 303
    again = Surfer(exchange)
    again.cookies = cookies
    failed(again, address)


@pytest.mark.parametrize("change", ["state", "code", "iss", "no state", "no code", "no iss", "error"])
def test_answer_that_is_not_the_providers_signs_nobody_in(exchange: Exchange, change: str) -> None:
    olga = Surfer(exchange)
    path, _, query = came_back(olga, "olga").partition("?")
    said = {name: values[0] for name, values in parse_qs(query).items()}
    if change.startswith("no "):
        del said[change[3:]]
    elif change == "error":
        said = {"state": said["state"], "iss": said["iss"], "error": "access_denied", "error_description": "<script>alert(1)</script>"}
    else:
        said[change] = "https://evil.example" if change == "iss" else "x" * 43
    assert "<script>" not in failed(olga, f"{path}?{urlencode(said)}")


@pytest.mark.parametrize("cookie", ["", "x", "exc_" + "A" * 43, "A" * 5000, "%C3%A9"], ids=["empty", "short", "secret", "long", "odd"])
def test_cookie_that_was_not_sealed_here_begins_nothing(exchange: Exchange, cookie: str) -> None:
    olga = Surfer(exchange)
    address = came_back(olga, "olga")
    olga.cookies[BEGUN] = cookie
    failed(olga, address)


def test_who_fails_too_often_waits(tmp_path: Path, openid_provider: OpenIdProvider) -> None:
    with with_pages(tmp_path, openid_provider, sessions_per_minute=3) as exchange:
        surfer = Surfer(exchange)
        statuses = [surfer.get("/login/callback?state=x&code=y").status_code for _ in range(5)]
        assert statuses == [400, 400, 400, 429, 429]


def test_while_the_provider_is_away_the_page_says_so(tmp_path: Path, openid_provider: OpenIdProvider) -> None:
    nowhere = {"oidc_issuer": "http://127.0.0.1:9"}
    with with_pages(tmp_path, openid_provider, **nowhere) as exchange:
        answer = Surfer(exchange).get("/login")
        assert (answer.status_code, "does not answer" in answer.text) == (503, True)


def test_provider_whose_metadata_names_another_issuer_is_not_asked(tmp_path: Path, openid_provider: OpenIdProvider) -> None:
    other = {"oidc_issuer": openid_provider.issuer.replace("127.0.0.1", "localhost")}
    with with_pages(tmp_path, openid_provider, **other) as exchange:
        assert Surfer(exchange).get("/login").status_code == 503


def test_person_who_is_suspended_gets_no_session(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    olga = Surfer(exchange)
    olga.sign_in(openid_provider, "olga")
    person = exchange.http.get("/v1/persons", headers=exchange.operator).json()["items"][0]["id"]
    assert exchange.http.post(f"/v1/persons/{person}/suspend", headers=exchange.operator).status_code == 200
    assert not olga.is_signed_in()
    assert Surfer(exchange).sign_in(openid_provider, "olga").status_code == 403


# -- how it ends -------------------------------------------------------------------------------------------------------


def test_session_ends_when_it_is_idle_and_goes_on_while_it_is_used(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    olga = Surfer(exchange)
    olga.sign_in(openid_provider, "olga")
    for _ in range(3):
        age(exchange, used_at=20 * 60)
        assert olga.is_signed_in()
    age(exchange, used_at=31 * 60)
    assert (olga.is_signed_in(), olga.is_signed_in()) == (False, False)
    assert reasons(exchange) == ["idle"]


def test_session_ends_after_its_hours_however_much_it_is_used(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    olga = Surfer(exchange)
    olga.sign_in(openid_provider, "olga")
    age(exchange, expires_at=12 * 3600 - 60)
    assert olga.is_signed_in()
    age(exchange, expires_at=60)
    assert not olga.is_signed_in()


def test_cookie_that_was_stolen_is_of_no_use_after_signing_out(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    olga, thief = Surfer(exchange), Surfer(exchange)
    olga.sign_in(openid_provider, "olga")
    thief.cookies = dict(olga.cookies)
    assert thief.is_signed_in()
    number = exchange.changes.applied
    out = olga.post("/logout", olga.form())
    assert (out.status_code, olga.cookies) == (200, {})
    assert exchange.changes_since(number) == ["person_signed_out"]
    assert not thief.is_signed_in()
    assert reasons(exchange) == ["signed_out"]


# -- forms -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", ["cross-site", "same-site", "none", "no metadata", "another origin", "no token", "another's token", "odd token"]
)
def test_form_that_our_page_did_not_send_changes_nothing(exchange: Exchange, openid_provider: OpenIdProvider, case: str) -> None:
    olga, other = Surfer(exchange), Surfer(exchange)
    for surfer in (olga, other):
        surfer.sign_in(openid_provider, "olga")
    fields, headers = olga.form(), {}
    if case in {"cross-site", "same-site", "none"}:
        headers = {"Sec_Fetch_Site": case}
    elif case in {"no metadata", "another origin"}:
        headers = {"Sec_Fetch_Site": ""} | ({"Origin": "https://evil.example"} if case == "another origin" else {})
    else:
        fields = {"another's token": other.form(), "no token": {}, "odd token": {"form_token": "é"}}[case]
    answer = olga.post("/logout", fields, **headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "cross_site_request")
    assert olga.is_signed_in()


def test_browser_without_fetch_metadata_says_where_it_comes_from(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    olga = Surfer(exchange)
    olga.sign_in(openid_provider, "olga")
    assert olga.post("/logout", olga.form(), Sec_Fetch_Site="", Origin=ISSUER).status_code == 200


def test_page_is_for_who_holds_the_role(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    mount_pages(exchange)
    rita = Surfer(exchange)
    rita.sign_in(openid_provider, "rita")
    assert rita.get("/desk/7").json()["code"] == "scope_missing"
    assert rita.post("/desk/7/approve", rita.form() | {"why": "no"}).json()["code"] == "role_missing"


def test_act_of_a_page_asks_for_a_fresh_sign_in_and_comes_back_to_its_form(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    approved = mount_pages(exchange)
    olga = Surfer(exchange)
    olga.sign_in(openid_provider, "olga")
    age(exchange, auth_time=301)
    sent = olga.post("/desk/7/approve", olga.form() | {"why": "first"})
    # A link, and no redirect: a browser that obeys `form-action` lets no form lead to the provider.
    following = "/login?next=%2Fdesk%2F7&fresh=true"
    assert (sent.status_code, html.escape(following) in sent.text) == (403, True)
    asked = parse_qs(urlsplit(olga.get(following).headers["location"]).query)
    assert asked["max_age"] == ["300"]
    assert olga.sign_in(openid_provider, "olga", following).headers["location"] == "/desk/7"
    assert olga.post("/desk/7/approve", olga.form() | {"why": "second"}).status_code == 200
    assert approved == ["7 second"]


def test_provider_that_does_not_prove_somebody_as_asked_signs_nobody_in_for_it(tmp_path: Path, openid_provider: OpenIdProvider) -> None:
    with with_pages(tmp_path, openid_provider, oidc_acr="urn:city:smartcard") as exchange:
        olga = Surfer(exchange)
        assert olga.sign_in(openid_provider, "olga").status_code == 303
        back = olga.sign_in(openid_provider, "olga", "/login?fresh=true&next=/desk")
        assert (back.status_code, "stronger" in back.text, "next=%2Fdesk" in back.text) == (400, True, True)


# -- local accounts ----------------------------------------------------------------------------------------------------


def with_account(exchange: Exchange) -> Surfer:
    with exchange.database.transaction() as session:
        exchange.app.state.authorization.people.local.make(session, "ada", PASSWORD)
    return Surfer(exchange)


def fill_in(surfer: Surfer, password: str, **headers: str) -> Any:
    fields = dict(HIDDEN.findall(surfer.get("/login?next=/desk").text))
    return surfer.post("/login", fields | {"username": "ada", "password": password}, **headers)


def test_local_account_signs_in_by_a_form_of_ours(tmp_path: Path) -> None:
    with an_exchange(tmp_path) as exchange:
        ada = with_account(exchange)
        wrong = fill_in(ada, "wrong horse battery staple")
        assert (wrong.status_code, ada.is_signed_in()) == (400, False)
        right = fill_in(ada, PASSWORD)
        assert (right.status_code, right.headers["location"]) == (303, "/desk")
        assert ada.is_signed_in()


def test_nobody_is_signed_in_as_somebody_else_by_a_form_of_another_site(tmp_path: Path) -> None:
    with an_exchange(tmp_path) as exchange:
        ada = with_account(exchange)
        assert fill_in(ada, PASSWORD, Sec_Fetch_Site="cross-site").status_code == 403
        fields = {"username": "ada", "password": PASSWORD, "state": "x"}
        assert ada.post("/login", fields).status_code == 400
        assert not ada.is_signed_in()


def test_where_there_are_no_local_accounts_no_form_asks_for_a_password(exchange: Exchange) -> None:
    assert Surfer(exchange).post("/login", {"username": "ada", "password": PASSWORD}).status_code == 404


def test_several_ways_to_sign_in_are_offered(tmp_path: Path, openid_provider: OpenIdProvider) -> None:
    with with_pages(tmp_path, openid_provider, local_accounts=True) as exchange:
        page = Surfer(exchange).get("/login?next=/desk").text
        assert (openid_provider.issuer in page, 'type="password"' in page, "<script>" in page) == (True, True, False)
        chosen = "/login?" + urlencode({"next": "/desk", "provider": openid_provider.issuer})
        assert Surfer(exchange).sign_in(openid_provider, "olga", chosen).headers["location"] == "/desk"


def test_sessions_of_a_day_ago_are_forgotten(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    Surfer(exchange).sign_in(openid_provider, "olga")
    age(exchange, expires_at=36 * 3600 + 60)
    with exchange.database.transaction() as session:
        sign_ins.forget_old(session)
        assert session.scalars(select(PersonSession)).all() == []

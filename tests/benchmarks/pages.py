"""The row of pages: how long somebody waits for one while others look at theirs."""

from __future__ import annotations

import re
import secrets
from statistics import median

import httpx2

from gateway.identity.browser_sessions import COOKIE
from gateway.setup import make_local_account
from tests.benchmarks.generator import run
from tests.benchmarks.measured import Measured, percentile
from tests.benchmarks.stage import LIVE, Stage

USERS = 20
PAGES = 40
LOOK_S = 0.5
CONTRACTS = 50
NAME = "bench-officer"
HIDDEN = re.compile(r'name="state" value="([^"]*)"')


def page_p99(stage: Stage) -> Measured:
    """Pages for anybody, for a party of a contract and for the officer, asked for in turn."""
    stage.dataset(LIVE, personal=True)
    contract = stage.terms(LIVE, CONTRACTS)[0].contract
    cookie = _signed_in(stage)
    paths = ["/", f"/datasets/{LIVE}", "/sharing", "/resident", "/partner", f"/partner/contracts/{contract}", "/officer"]
    paths += [f"/officer/datasets/{LIVE}", f"/officer/revisions/{_in_force(stage)}"]
    plan = {"address": stage.address, "paths": paths, "cookie": cookie, "users": USERS, "pages": PAGES, "look_s": LOOK_S}
    run("pages", plan | {"pages": len(paths)})  # each once before it counts, as on an exchange that was up for a minute
    taken = run("pages", plan)["ms"]
    return Measured({"page_p99_ms": percentile(taken, 0.99)}, f"{len(taken):,} pages, p50 {median(taken):.1f} ms")


def _signed_in(stage: Stage) -> str:
    """The cookie of a privacy officer who has signed in with a local account."""
    password = secrets.token_urlsafe(16)
    make_local_account(stage.gateway.settings(), NAME, password, None, ["privacy_officer"])
    with httpx2.Client(base_url=stage.gateway.url) as http:
        begun = http.get("/login")
        state = HIDDEN.search(begun.text)
        assert state is not None
        fields = {"state": state[1], "username": NAME, "password": password}
        # Python's jar keeps no cookie of this kind that comes by http.
        headers = {"Cookie": begun.headers["set-cookie"].partition(";")[0], "Sec-Fetch-Site": "same-origin"}
        answer = http.post("/login", data=fields, headers=headers)
    told = next(each for each in answer.headers.get_list("set-cookie") if each.startswith(f"{COOKIE}="))
    return told.partition(";")[0]


def _in_force(stage: Stage) -> str:
    revisions = stage.gateway.operator().get("/v1/policies/revisions?state=active")
    return str(revisions["items"][0]["id"])

"""A resident sees on a phone who received something about them, and stops it."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx2
from playwright.sync_api import expect

from tests.console.city import City
from tests.console.look import Look
from tests.e2e.district import pulled, visit
from tests.e2e.listener import Listener, until

Looks = Callable[..., Look]
STOP = "button.stop"


def enter(look: Look, city: City, visitor: str) -> None:
    """Open a session with a code of the provider."""
    look.page.goto(f"{city.url}/resident")
    look.page.fill("#code", city.one_time_code(visitor))
    look.page.click("text=Show me")
    expect(look.page.locator("h1")).to_have_text("What is shared about you")
    expect(look.page).to_have_url(f"{city.url}/resident")


def heard(listener: Listener, visitor: str) -> list[str]:
    return [str(event["id"]) for event in listener.events if str(event["id"]).startswith(visitor)]


def test_resident_stops_an_open_stream_from_a_phone(city: City, looks: Looks) -> None:
    consumer, mine, others = city.start_up("Streaming Start-up"), city.person(), city.person()
    contract = city.district.contract(consumer)
    city.district.consent(mine)
    city.district.consent(others)
    with Listener(consumer, contract, cursor="earliest") as listener:
        city.district.publish(visit(mine, 1), visit(others, 1))
        until(lambda: len(heard(listener, mine)) == len(heard(listener, others)) == 1, "the stream has both")
        look = looks(width=360)
        enter(look, city, mine)
        until(lambda: _shows(look, "Streaming Start-up"), "the digest of disclosures is written within seconds")
        look.closely("resident")
        expect(look.page.locator(STOP)).to_have_count(1)
        look.page.click(STOP)

        said = look.page.locator(".stopped")
        expect(said).to_contain_text("It has stopped.")
        expect(said).to_contain_text("has confirmed that not one more event of yours leaves under it")
        expect(said).to_contain_text("Nothing else about you is shared")
        city.district.publish(visit(mine, 2), visit(others, 2))
        until(lambda: len(heard(listener, others)) == 2, "the others' events go on")
        assert len(heard(listener, mine)) == 1
    look.closely("resident-stopped")
    expect(look.page.locator(STOP)).to_have_count(0)
    expect(look.page.locator("#agreed + ul, #agreed ~ ul").first).to_contain_text("stopped by you")


def test_resident_needs_no_script(city: City, looks: Looks) -> None:
    mine, consumer = city.person(), city.start_up("Scriptless Start-up")
    city.district.consent(mine)
    city.delivered(mine, consumer)
    look = looks(script=False)
    enter(look, city, mine)
    until(lambda: _shows(look, "Scriptless Start-up"), "the digest is written")
    row = look.page.locator("tr", has_text="Scriptless Start-up")
    expect(row).to_contain_text("Planning of public transit")
    expect(row).to_contain_text("the consent of the people concerned")
    look.page.click(STOP)
    expect(look.page.locator(".stopped")).to_contain_text("It has stopped.")


def test_several_consents_are_stopped_by_one_button_or_one_by_one(city: City, looks: Looks) -> None:
    mine = city.person()
    for purpose in ("transit-planning", "official-statistics"):
        city.district.notice = city.district.new_notice(purposes=[purpose])
        city.district.consent(mine, purposes=[purpose])
    city.district.notice = city.district.new_notice()
    look = looks(script=False)
    enter(look, city, mine)
    expect(look.page.locator(STOP)).to_have_count(3)
    look.page.locator("article", has_text="Official statistics").locator(STOP).click()
    expect(look.page.locator(STOP)).to_have_count(1)
    city.district.consent(mine)
    look.page.goto(f"{city.url}/resident")
    look.page.click("text=Stop all of it now")
    expect(look.page.locator(STOP)).to_have_count(0)
    expect(look.page.locator(".stopped")).to_have_count(2)


def test_what_goes_on_under_another_ground_is_said(city: City, looks: Looks) -> None:
    mine = city.person()
    department = city.gateway.partner("Statistics Office", kind="department")
    made = department.post("/v1/contracts", {"dataset": "port-credit-footfall", "purpose": "official-statistics"})["id"]
    department.sign(made)
    city.district.provider.sign(made)
    city.district.consent(mine)
    look = looks()
    enter(look, city, mine)
    look.page.click(STOP)
    expect(look.page.locator(".stopped")).to_contain_text("This goes on without your consent")
    expect(look.page.locator(".stopped")).to_contain_text("Statistics Office")
    expect(look.page.locator(".stopped")).to_contain_text("a statute")
    look.closely("resident-still-shared")
    department.post(f"/v1/contracts/{made}/end")


def test_receipts_code_is_that_button_alone(city: City, looks: Looks) -> None:
    mine, consumer = city.person(), city.start_up()
    contract = city.district.contract(consumer)
    code = city.district.given(mine)["withdrawal_code"]
    look = looks(script=False)
    look.page.goto(f"{city.url}/withdraw")
    look.page.fill("#code", code)
    look.page.click(STOP)
    expect(look.page.locator(".stopped")).to_contain_text("It has stopped.")
    assert code not in look.page.url
    city.district.publish(visit(mine, 1))
    assert not [event for event in pulled(consumer, contract) if str(event["id"]).startswith(mine)]


def test_wrong_code_is_said_where_it_was_entered(city: City, looks: Looks) -> None:
    look = looks()
    look.expects(404, 422)
    look.page.goto(f"{city.url}/resident")
    look.page.fill("#code", "0000-0000-0000-0000")
    look.page.click("text=Show me")
    expect(look.page.locator("[role=alert]")).to_contain_text("This code opens nothing")
    expect(look.page.locator("#code")).to_have_attribute("aria-invalid", "true")
    look.closely("resident-wrong-code")
    look.page.goto(f"{city.url}/withdraw")
    look.page.fill("#code", "W-0000-0000-0000-0000-0000-0000-0000-0000")
    look.page.click(STOP)
    expect(look.page.locator("[role=alert]")).to_contain_text("There is no consent with this withdrawal code")


def test_session_of_a_resident_ends_when_they_close_it(city: City, looks: Looks) -> None:
    mine = city.person()
    look = looks()
    enter(look, city, mine)
    (kept,) = [one for one in look.context.cookies() if "resident" in str(one.get("name"))]
    assert (kept.get("httpOnly"), kept.get("secure"), kept.get("sameSite"), kept.get("path")) == (True, True, "Strict", "/")
    stolen = {"Cookie": f"{kept.get('name')}={kept.get('value')}", "Accept": "text/html"}
    assert "There is no consent of yours here" in httpx2.get(f"{city.url}/resident", headers=stolen).text
    look.page.click("text=Close")
    expect(look.page.locator("#code")).to_be_visible()
    assert "Your one-time code" in httpx2.get(f"{city.url}/resident", headers=stolen).text


def test_page_of_another_site_can_stop_nothing(city: City) -> None:
    mine = city.person()
    code = city.district.given(mine)["withdrawal_code"]
    for path, form in (("/withdraw", {"code": code}), ("/resident/stop", {}), ("/resident", {"code": city.one_time_code(mine)})):
        refused = httpx2.post(city.url + path, data=form, headers={"Sec-Fetch-Site": "cross-site"})
        assert (refused.status_code, refused.json()["code"]) == (403, "cross_site_request"), path


def test_resident_withdraws_by_the_api_too(city: City) -> None:
    mine, other = city.person(), city.person()
    consent, of_another = city.district.consent(mine), city.district.consent(other)
    token = httpx2.post(f"{city.url}/v1/subjects/sessions", json={"code": city.one_time_code(mine)}).json()["token"]
    bearer = {"Authorization": f"Bearer {token}"}
    not_mine = httpx2.post(f"{city.url}/v1/subjects/self/consents/{of_another}/withdraw", headers=bearer)
    assert (not_mine.status_code, not_mine.json()["code"]) == (404, "not_found")
    answers = [httpx2.post(f"{city.url}/v1/subjects/self/consents/{consent}/withdraw", headers=bearer).json() for _ in range(2)]
    assert [answer["state"] for answer in answers] == ["withdrawn", "withdrawn"]
    assert answers[0]["effective_at"] == answers[1]["effective_at"]


def _shows(look: Look, text: str) -> bool:
    look.page.reload()
    return re.search(re.escape(text), look.page.content()) is not None

"""A privacy officer who writes no code changes policy in the browser, sees what it does first, and a second person agrees."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from gateway.access.revisions import install, read_files
from gateway.resources import POLICIES
from tests.console.city import City
from tests.console.look import Look
from tests.e2e.district import FOOTFALL, visit
from tests.e2e.listener import Listener, until

Looks = Callable[..., Look]
SHEET = f"rules/{FOOTFALL}.json"
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def advertising(city: City) -> Iterator[City]:
    """The city while its policy lets the footfall be used for advertising, too."""
    files = read_files(POLICIES)
    sheet = json.loads(files[SHEET])
    sheet["rules"][0]["purposes"].append("advertising")
    files[SHEET] = json.dumps(sheet, indent=2)
    database = city.gateway.database()
    with database.transaction() as session:
        revision = install(session, files).id
    until(lambda: _answers_by(city, revision), "the gateway decides by it")
    yield city
    with database.transaction() as session:
        install(session, read_files(POLICIES))
    database.close()


def _answers_by(city: City, revision: str) -> bool:
    asked = city.gateway.operator().get(f"/v1/policies/revisions/{revision}")
    return bool(asked["state"] == "active")


def press(look: Look, button: str) -> None:
    look.page.get_by_role("button", name=button, exact=True).click()


def forbid_advertising(look: Look) -> None:
    """In the row of the rule that has it, in place."""
    look.page.click("#rule-0 >> text=Edit")
    look.page.uncheck("label:text-is('Advertising')")
    press(look, "Save in the draft")
    expect(look.page.locator("main")).to_contain_text("You are editing a draft.")
    expect(look.page.locator("#rule-0")).not_to_contain_text("Advertising")


def agree_and_activate(look: Look, address: str) -> None:
    """As the second person, from the desk."""
    look.page.click("text=Rules of port-credit-footfall is proposed")
    expect(look.page).to_have_url(address)
    look.closely("revision-proposed")
    press(look, "Approve it")
    expect(look.page.locator("main")).to_contain_text("Two persons agree on it")
    press(look, "Activate it now")
    expect(look.page.locator("main")).to_contain_text("Every decision is made by it", timeout=PATIENCE_MS)
    look.closely("revision-active")


def test_officer_forbids_advertising_on_one_dataset_in_the_browser(advertising: City, looks: Looks) -> None:
    city = advertising
    consumer, visitor = city.start_up("Advert Agency"), city.person()
    contract = city.district.contract(consumer, "advertising")
    city.district.notice = city.district.new_notice(purposes=["advertising"])
    city.district.consent(visitor, purposes=["advertising"])
    city.district.notice = city.district.new_notice()
    with Listener(consumer, contract, cursor="earliest") as listener:
        city.district.publish(visit(visitor, 1))
        until(lambda: len(listener.events) == 1, "the stream has the event")

        petra = looks(width=1440)
        petra.page.set_default_timeout(PATIENCE_MS)
        petra.sign_in(city.url, "petra", "/officer")
        petra.closely("officer")
        petra.page.click(f"a[href='/officer/datasets/{FOOTFALL}']:has-text('Footfall')")
        petra.closely("sheet")
        petra.page.click("#rule-0 >> text=Edit")
        petra.closely("sheet-editing")
        petra.page.click("text=Cancel")
        forbid_advertising(petra)
        petra.page.click("text=Preview it and propose it")
        press(petra, "Make a preview")
        row = petra.page.locator("#preview ~ table tr", has_text="Advert Agency")
        expect(row).to_contain_text("loses", timeout=PATIENCE_MS)
        expect(row).to_contain_text(contract)
        expect(row).to_contain_text("Footfall in Port Credit")
        expect(row).to_contain_text("An estimate, rounded to 10")
        expect(petra.page.locator(".diff").first).to_contain_text("advertising")
        petra.closely("revision-preview")
        press(petra, "Check and propose it")
        expect(petra.page.locator("main")).to_contain_text("You proposed it", timeout=PATIENCE_MS)
        address = petra.page.url.replace(city.url, "").partition("#")[0]

        paul = looks(width=1440)
        paul.page.set_default_timeout(PATIENCE_MS)
        paul.sign_in(city.url, "paul", "/officer")
        agree_and_activate(paul, city.url + address)
        until(lambda: listener.ended is not None, "the live stream ends")
        city.district.publish(visit(visitor, 2))
        assert len(listener.events) == 1
    look = looks(script=False)
    look.page.goto(f"{city.url}/sharing")
    expect(look.page.locator("tr", has_text="Advert Agency")).to_contain_text("policy lets nothing pass at present")


def test_who_proposed_does_not_approve(city: City, looks: Looks) -> None:
    petra = looks(script=False)
    petra.page.set_default_timeout(PATIENCE_MS)
    petra.sign_in(city.url, "petra", f"/officer/datasets/{FOOTFALL}")
    petra.page.click("#rule-1 >> text=Edit")
    petra.page.fill("#retain-1", "30")
    press(petra, "Save in the draft")
    expect(petra.page.locator("#rule-1")).to_contain_text("deletes it after 30 days")
    petra.page.click("text=Preview it and propose it")
    press(petra, "Check and propose it")
    expect(petra.page.locator("main")).to_contain_text("so another privacy officer approves it")
    expect(petra.page.get_by_role("button", name="Approve it")).to_have_count(0)
    press(petra, "Put it away")
    expect(petra.page.locator("main")).to_contain_text("It is kept, and decides nothing.")


def test_rule_that_does_not_fit_is_told_and_what_was_entered_stays(city: City, looks: Looks) -> None:
    look = looks(script=False)
    look.expects(422)
    look.sign_in(city.url, "petra", f"/officer/datasets/{FOOTFALL}?edit=new")
    look.page.check("label:text-is('Research')")
    press(look, "Save in the draft")
    expect(look.page.locator("[role=alert]")).to_contain_text("keep")
    expect(look.page.get_by_label("Research", exact=True)).to_be_checked()
    look.page.get_by_label("Zone").select_option("as_is")
    press(look, "Save in the draft")
    expect(look.page.locator("#rule-2")).to_contain_text("Research")
    expect(look.page.locator("#rule-2")).to_contain_text("Zone: as it is")


def test_of_two_officers_in_one_draft_the_second_is_told_and_what_the_first_wrote_stays(city: City, looks: Looks) -> None:
    petra, paul = looks(script=False), looks()
    paul.expects(412)
    petra.sign_in(city.url, "petra", f"/officer/datasets/{FOOTFALL}?edit=1")
    petra.page.fill("#retain-1", "40")
    press(petra, "Save in the draft")
    draft = petra.page.url
    paul.sign_in(city.url, "paul", "/officer")
    for look in (petra, paul):
        look.page.goto(f"{draft}&edit=1")
    petra.page.fill("#retain-1", "30")
    press(petra, "Save in the draft")
    paul.page.fill("#retain-1", "20")
    press(paul, "Save in the draft")
    expect(paul.page.locator("[role=alert]")).to_contain_text("changed")
    paul.closely("sheet-stale")
    paul.page.goto(draft)
    expect(paul.page.locator("#rule-1")).to_contain_text("deletes it after 30 days")


def test_engineer_sees_errors_of_rego_at_their_lines(city: City, looks: Looks) -> None:
    look = looks(width=1440)
    look.page.set_default_timeout(PATIENCE_MS)
    look.expects(422)
    look.sign_in(city.url, "petra", "/officer")
    look.page.fill("#title", "By hand")
    press(look, "Begin a draft")
    look.page.click("text=checks/purpose/purpose.rego")
    text = look.page.input_value("#text")
    look.page.fill("#text", text + "\nthis is no rego\n")
    press(look, "Save and check")
    wrong = look.page.locator("#wrong")
    expect(wrong).to_contain_text("this is no rego")
    expect(wrong).to_contain_text(re.compile(r"Line \d+:"))
    look.closely("rego-wrong")
    look.page.fill("#text", text)
    press(look, "Save and check")
    expect(look.page.locator("[role=status]")).to_contain_text("Saved, and nothing is wrong.")
    look.closely("rego")


def test_officer_reads_the_desk_in_french(city: City, looks: Looks) -> None:
    look = looks(language="fr-CA")
    look.sign_in(city.url, "petra", "/officer")
    expect(look.page.locator("h1")).to_have_text("Bureau de la protection de la vie privée")
    look.closely("officer-fr")
    look.page.goto(f"{city.url}/officer/datasets/{FOOTFALL}?edit=0")
    look.closely("sheet-editing-fr")
    look.page.click("text=Annuler")
    expect(look.page.locator("#rule-0")).to_contain_text("arrondi à 15 minutes")


def test_auditor_looks_on_and_others_do_not(city: City, looks: Looks) -> None:
    auditor = looks(script=False)
    auditor.sign_in(city.url, "aldo", f"/officer/datasets/{FOOTFALL}")
    expect(auditor.page.locator("#sheet")).to_contain_text("Planning of public transit")
    expect(auditor.page.get_by_role("link", name=re.compile("Edit rule"))).to_have_count(0)
    resident = looks()
    resident.expects(403)
    resident.sign_in(city.url, "rosa", "/officer")
    expect(resident.page.locator("h1")).to_have_text("This page is for others")
    resident.closely("officer-refused")

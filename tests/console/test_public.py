"""Anybody looks up which data there is and who shares what with whom, in two languages, on any screen, with or without script."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx2
import pytest
from playwright.sync_api import expect

from tests.console.city import City
from tests.console.look import Look
from tests.e2e.district import FOOTFALL, dataset_document

PAGE = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Site": "none"}
PUBLIC = ("/", f"/datasets/{FOOTFALL}", "/sharing", "/log", "/resident", "/withdraw")
Looks = Callable[..., Look]


@pytest.fixture(scope="module")
def shared(city: City) -> str:
    """The identifier of a contract in force."""
    return city.district.contract(city.start_up("Mobility Start-up"))


@pytest.mark.parametrize("language", ["en-CA", "fr-CA"])
@pytest.mark.parametrize("path", PUBLIC)
def test_each_page_for_anybody_is_accessible_and_fits(city: City, shared: str, looks: Looks, path: str, language: str) -> None:
    look = looks(language=language)
    look.page.goto(city.url + path)
    look.closely(f"public{path.replace('/', '-').rstrip('-')}-{language[:2]}")
    expect(look.page.locator("html")).to_have_attribute("lang", language[:2])
    expect(look.page.locator("h1")).to_have_count(1)


def test_anybody_finds_from_the_register_who_receives_a_dataset_for_what_on_which_ground(city: City, shared: str, looks: Looks) -> None:
    look = looks(script=False)
    look.page.goto(city.url)
    look.page.click("text=Footfall in Port Credit")
    row = look.page.locator("table", has_text="On which ground").locator("tbody tr", has_text="Mobility Start-up").first
    expect(row).to_contain_text("Planning of public transit")
    expect(row).to_contain_text("the consent of the people concerned")
    expect(row).to_contain_text("MFIPPA")
    expect(look.page.locator("figure svg title")).to_contain_text("A picture")
    expect(look.page.locator("table", has_text="About a person")).to_contain_text("Length of the visit")


def test_contract_that_ended_is_not_in_the_list_any_more(city: City, looks: Looks) -> None:
    consumer = city.start_up("Short-lived")
    contract = city.district.contract(consumer)
    look = looks(script=False)
    look.page.goto(f"{city.url}/sharing")
    expect(look.page.locator("main")).to_contain_text("Short-lived")
    consumer.post(f"/v1/contracts/{contract}/end")
    look.page.reload()
    expect(look.page.locator("main")).not_to_contain_text("Short-lived")


def test_nothing_of_clients_or_people_stands_in_the_public_pages(city: City, shared: str) -> None:
    for path in PUBLIC:
        answer = httpx2.get(city.url + path, headers=PAGE)
        assert answer.status_code == 200, path
        assert not re.search(r"\b(cli|per|cns)_[0-9a-z]{26}", answer.text), path


def test_sensitive_dataset_is_on_no_public_page(city: City) -> None:
    document = dataset_document(FOOTFALL) | {"slug": "clinic-visits", "classification": "sensitive"}
    document["title"] = {"en": "Visits to a clinic", "fr": "Visites dans une clinique"}
    city.district.provider.post("/v1/datasets", document)
    for path in ("/", "/sharing"):
        assert "clinic" not in httpx2.get(city.url + path, headers=PAGE).text
    hidden, missing = (httpx2.get(f"{city.url}/datasets/{slug}", headers=PAGE) for slug in ("clinic-visits", "no-such-thing"))
    assert hidden.status_code == missing.status_code == 404
    assert "clinic" not in re.sub(r'value="[^"]*"', "", hidden.text), "the page says no more than that of what is not there"


def test_language_that_is_chosen_stays(city: City, looks: Looks) -> None:
    look = looks(script=False)
    look.page.goto(f"{city.url}/sharing")
    look.page.click("text=Français")
    expect(look.page).to_have_url(f"{city.url}/sharing")
    expect(look.page.locator("h1")).to_have_text("Qui partage quoi avec qui")
    look.page.click("text=Jeux de données")
    expect(look.page.locator("html")).to_have_attribute("lang", "fr")
    look.page.click("text=English")
    expect(look.page.locator("html")).to_have_attribute("lang", "en")


@pytest.mark.parametrize(
    ("asked", "language"),
    [("fr", "fr"), ("fr-CA;q=0.5, en;q=0.4", "fr"), ("de, en;q=0.8, fr;q=0.9", "fr"), ("fr;q=0, en", "en"), ("", "en")],
)
def test_language_is_what_the_browser_asks_for(city: City, asked: str, language: str) -> None:
    answer = httpx2.get(city.url, headers=PAGE | {"Accept-Language": asked})
    assert answer.headers["content-language"] == language
    assert {"Accept-Language", "Cookie"} <= set(answer.headers["vary"].split(", "))


def test_error_is_a_page_for_browsers_and_a_problem_for_programs(city: City, looks: Looks) -> None:
    look = looks()
    look.expects(404)
    look.page.goto(f"{city.url}/datasets/no-such-thing")
    expect(look.page.locator("h1")).to_have_text("There is nothing here for you")
    expect(look.page.locator("main")).to_contain_text("What to do next")
    look.closely("problem")
    program = httpx2.get(f"{city.url}/datasets/no-such-thing")
    assert program.headers["content-type"] == "application/problem+json"
    assert program.json()["code"] == "not_found"


def test_keyboard_comes_to_the_content_first_and_shows_where_it_is(city: City, looks: Looks) -> None:
    look = looks(width=1440)
    look.page.goto(city.url)
    look.page.keyboard.press("Tab")
    focused = look.page.locator(":focus")
    expect(focused).to_have_text("Skip to the content")
    assert look.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    look.page.keyboard.press("Enter")
    assert look.page.evaluate("document.activeElement.id") == "main"


def test_pages_run_and_load_nothing_but_our_files(city: City) -> None:
    answer = httpx2.get(city.url, headers=PAGE)
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
    assert (policy["form-action"], policy["frame-ancestors"]) == ("'self'", "'none'")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", answer.text)
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', answer.text):
        file = httpx2.get(city.url + address)
        assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert httpx2.get(f"{city.url}/static/0000000000000000/console.css").status_code == 404

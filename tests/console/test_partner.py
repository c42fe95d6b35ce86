"""A partner reads a contract, signs it or sees how, follows its state, and reads what it receives and why something was denied."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from connectors.client import Client
from connectors.problem import ProblemError
from tests.console.city import TRANSIT, City
from tests.console.look import Look
from tests.e2e.district import FOOTFALL
from tests.gateway import READER

Looks = Callable[..., Look]
GUESS = """async address => {
    const guessed = new URLSearchParams({form_token: "guessed"});
    const answer = await fetch(address, {method: "POST", body: guessed, headers: {Accept: "application/json"}});
    return (await answer.json()).code;
}"""


@pytest.fixture(scope="module")
def partner(city: City) -> Client:
    """The client of a start-up that Rita administers."""
    client = city.start_up("Rita's Start-up")
    city.belongs("rita", client, "partner_admin")
    return client


@pytest.fixture(scope="module")
def steward(city: City) -> Client:
    """The client of the department whose datasets Steve looks after."""
    city.belongs("steve", city.department, "data_steward")
    return city.department


def proposed(consumer: Client, dataset: str = FOOTFALL) -> str:
    """A contract that waits for signatures."""
    return str(consumer.post("/v1/contracts", {"dataset": dataset, "purpose": "transit-planning", "history": "all"})["id"])


def test_partner_follows_a_contract_until_both_have_signed_by_key(city: City, partner: Client, looks: Looks) -> None:
    contract = proposed(partner)
    look = looks(width=360)
    look.sign_in(city.url, "rita", "/partner")
    look.closely("partner")
    look.page.click(f"a[href='/partner/contracts/{contract}']")
    expect(look.page.locator("main")).to_contain_text(f"exchange contract sign {contract}")
    expect(look.page.locator("#state")).to_contain_text("It waits for signatures")
    look.closely("contract-proposed")
    partner.sign(contract)
    city.district.provider.sign(contract)
    expect(look.page.locator("#state")).to_contain_text("Events are delivered under it")  # by itself
    expect(look.page.locator("main")).not_to_contain_text("exchange contract sign")
    expect(look.page.locator("ol")).to_contain_text("signed")
    expect(look.page.locator(".document[lang=en]")).to_contain_text("What the consumer promises")
    expect(look.page.locator(".document[lang=fr]")).to_contain_text("Ce que le consommateur promet")
    look.closely("contract")


def test_partner_reads_what_a_contract_receives_and_no_more(city: City, partner: Client, looks: Looks) -> None:
    contract = proposed(partner)
    look = looks(script=False)
    look.sign_in(city.url, "rita", f"/partner/contracts/{contract}")
    fields = look.page.locator("table", has_text="About a person")
    expect(fields).to_contain_text("/zone")
    expect(fields).not_to_contain_text("/age_band")
    look.page.click("summary:has-text('An example')")
    expect(look.page.locator("details pre")).to_contain_text('"synthetic": true')
    partner.post(f"/v1/contracts/{contract}/end")
    look.page.reload()
    expect(look.page.locator("#state")).to_contain_text("The consumer ended it.")


def test_steward_signs_and_ends_a_contract_over_open_data_in_the_browser(
    city: City, partner: Client, steward: Client, looks: Looks
) -> None:
    contract = proposed(partner, TRANSIT)
    look = looks(script=False)
    look.sign_in(city.url, "steve", f"/partner/contracts/{contract}")
    look.page.click("text=Sign it")
    expect(look.page.locator("#state")).to_contain_text("in force")
    assert partner.get(f"/v1/contracts/{contract}")["state"] == "active"
    look.page.click("summary:has-text('Suspend, resume')")
    look.page.fill("#reason-suspend", "A question is open")
    look.page.click("text=Suspend it")
    expect(look.page.locator("#state")).to_contain_text("A question is open")
    look.page.click("summary:has-text('Suspend, resume')")
    look.page.click("text=End it for good")
    expect(look.page.locator("#state")).to_contain_text("The provider ended it.")
    assert steward.get(f"/v1/contracts/{contract}")["ended_reason"] == "by_provider"


def test_partner_reads_why_reading_was_denied(city: City, partner: Client, looks: Looks) -> None:
    contract = city.district.contract(partner)
    weak = city.gateway.another_client(partner.get("/v1/me")["organization"]["id"], scopes=READER, strong=False)
    with pytest.raises(ProblemError):
        weak.pull(contract).__next__()
    look = looks()
    look.sign_in(city.url, "rita", f"/partner/contracts/{contract}")
    expect(look.page.locator("section", has=look.page.locator("#denied"))).to_contain_text("key")
    look.closely("contract-denied")
    look.page.click("text=What would make it yes")
    expect(look.page.locator("h1")).to_have_text("Why it was decided so")
    expect(look.page.locator("main")).to_contain_text("with a client that authenticates by key")
    expect(look.page.locator("main")).to_contain_text("whether the client authenticates by key: no")
    look.closely("decision")


def test_partner_reads_why_a_proposal_was_denied_and_what_would_be_allowed(city: City, partner: Client, looks: Looks) -> None:
    with pytest.raises(ProblemError):
        partner.post("/v1/contracts", {"dataset": FOOTFALL, "purpose": "advertising"})
    look = looks(script=False, language="fr-CA")
    look.sign_in(city.url, "rita", "/partner")
    look.page.locator("article", has_text="advertising").locator("h3 a").first.click()
    expect(look.page.locator("main")).to_contain_text("Ce qui mènerait à un oui")
    expect(look.page.locator("main")).to_contain_text("transit-planning")


def test_contract_of_others_is_not_there(city: City, partner: Client, looks: Looks) -> None:
    contract = city.district.contract(city.start_up("Somebody else"))
    look = looks(script=False)
    look.sign_in(city.url, "rita", "/partner")
    expect(look.page.locator("main")).not_to_contain_text("Somebody else")
    look.expects(404)
    look.page.goto(f"{city.url}/partner/contracts/{contract}")
    expect(look.page.locator("h1")).to_have_text("There is nothing here for you")


def test_who_may_not_sign_is_told_so(city: City, partner: Client, looks: Looks) -> None:
    contract = proposed(partner, TRANSIT)
    look = looks()
    look.sign_in(city.url, "rita", f"/partner/contracts/{contract}")
    expect(look.page.locator("main")).not_to_contain_text("Sign it")
    look.expects(403)
    code = look.page.evaluate(GUESS, f"/partner/contracts/{contract}/sign")
    assert code == "cross_site_request"

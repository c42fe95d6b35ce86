"""A person takes consent back with the code of their receipt, and is told what goes on under another ground."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from connectors.client import Client
from gateway.resources import POLICIES
from gateway.setup import activate_policies
from tests.e2e.district import FOOTFALL, District, pulled, visit
from tests.gateway import READER, Gateway


def names(events: list[dict[str, str]]) -> set[str]:
    return {event["id"].split("-")[0] for event in events}


def by_curl(gateway: Gateway, code: str) -> dict[str, Any]:
    """One line that a resident types, without an account."""
    words = ["curl", "-s", f"{gateway.url}/v1/consents/withdraw", "-H", "Content-Type: application/json", "-d", json.dumps({"code": code})]
    return dict(json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout))


def test_a_code_withdraws_and_tells_what_goes_on_by_statute(district: District, consumer: Client, gateway: Gateway) -> None:
    statistics = gateway.partner("Statistics", kind="department", scopes=READER)
    by_statute = district.contract(statistics, "official-statistics")
    contract = district.contract(consumer)
    receipt = district.given("ines")
    district.publish(visit("ines"))
    assert "ines" in names(pulled(consumer, contract))

    answer = by_curl(gateway, receipt["withdrawal_code"])

    assert answer["state"] == "withdrawn"
    shared = {each["contract"]: each["ground"] for each in answer["still_shared"]}
    assert shared[by_statute].startswith("statute: MFIPPA")
    assert contract not in shared
    assert "ines" not in names(pulled(consumer, contract))
    assert "ines" in names(pulled(statistics, by_statute))


def test_paused_consent_withholds_and_resumed_consent_leaves_a_gap(district: District, consumer: Client) -> None:
    consent, contract = district.consent("jana"), district.contract(consumer)
    district.publish(visit("jana", 1))
    district.provider.post(f"/v1/consents/{consent}/pause")
    district.publish(visit("jana", 2))
    assert "jana" not in names(pulled(consumer, contract))
    district.provider.post(f"/v1/consents/{consent}/resume")
    district.publish(visit("jana", 3))
    mine = [event["id"][:6] for event in pulled(consumer, contract) if event["id"].startswith("jana-")]
    assert mine == ["jana-1", "jana-3"]


def test_a_notice_that_covers_earlier_events_lets_them_pass(district: District, consumer: Client) -> None:
    district.publish(visit("kora"))
    contract = district.contract(consumer)
    assert "kora" not in names(pulled(consumer, contract))
    district.consent("kora", notice=district.new_notice(covers_earlier=True))
    assert "kora" in names(pulled(consumer, contract))


def test_under_a_notice_with_opt_out_all_pass_but_who_said_no(new_gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    gateway = new_gateway()
    _opt_out_policies(gateway, tmp_path / "policies")
    district = District(gateway)
    consumer = gateway.partner("Start-up", scopes=READER)
    contract = district.contract(consumer)
    notice = district.new_notice(legal_ground="notice_with_opt_out")
    district.publish(visit("lena"), visit("mara"))
    assert names(pulled(consumer, contract)) == {"lena", "mara"}

    district.given("mara", notice=notice, state="refused")
    district.publish(visit("lena", 2), visit("mara", 2))
    assert names(pulled(consumer, contract)) == {"lena"}

    # Who has given consent is told that it is shared without; who says no is not shared, and told nothing.
    consent = district.consent("lena", notice=notice)
    revoked = district.provider.post(f"/v1/consents/{consent}/revoke", {"reason": "By mistake."})
    assert [(each["contract"], each["ground"].split(":")[0]) for each in revoked["still_shared"]] == [(contract, "notice_with_opt_out")]
    withdrawn = district.provider.post(f"/v1/consents/{district.consent('lena', notice=notice)}/withdraw")
    assert withdrawn["still_shared"] == []
    assert names(pulled(consumer, contract)) == set()


def _opt_out_policies(gateway: Gateway, folder: Path) -> None:
    shutil.copytree(POLICIES, folder)
    path = folder / "rules" / f"{FOOTFALL}.json"
    sheet = json.loads(path.read_text())
    sheet["rules"][0] |= {"consent": "opt_out", "legal_ground": "notice_with_opt_out", "legal_reference": "The notice at each counter"}
    path.write_text(json.dumps(sheet))
    gateway.stop()
    activate_policies(gateway.settings(), folder)
    gateway.start()

"""A preview over more contracts than a page shows: whom it takes something from stands first, and the rest is a page further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.access.examples import PREVIEW
from gateway.console.previews import A_PAGE, preview_told
from gateway.console.words import Say
from tests.access.office import an_office


def test_a_long_preview_pages_and_the_losers_come_first(tmp_path: Path) -> None:
    [changed] = PREVIEW["result"]["contracts"]["changed"]
    contracts = [changed | {"contract": f"con_{number}", "change": "loses" if number % 3 == 0 else "gains"} for number in range(120)]
    result: dict[str, Any] = PREVIEW["result"] | {"contracts": {"in_force": 200, "changed": contracts}}
    with an_office(tmp_path) as office:
        pages = [preview_told(result, office.app.state, Say("en"), after) for after in (0, A_PAGE, 2 * A_PAGE, 3 * A_PAGE)]
    assert [len(page["contracts"]) for page in pages] == [50, 50, 20, 0]
    assert [page["following"] for page in pages] == ["50", "100", None, None]
    assert {str(page["counts"]) for page in pages} == {str({"loses": 40, "gains": 80, "changes": 0})}
    shown = [each["change"] for page in pages for each in page["contracts"]]
    assert shown == ["loses"] * 40 + ["gains"] * 80

"""The numbers behind the small pictures, and what a comparison shows."""

from __future__ import annotations

import json
from datetime import date, timedelta

from gateway.console.comparison import MOST_LINES, differences
from gateway.console.days import HEIGHT, MOST_DAYS, WIDTH, by_day
from gateway.console.flow import LINE, flow_of

FIRST = date(2026, 11, 1)


def test_days_without_a_count_have_a_place_and_no_bar() -> None:
    drawn = by_day({FIRST: 10, FIRST + timedelta(days=2): 5})
    assert drawn is not None
    assert [bar.height for bar in drawn.bars] == [HEIGHT, 0, HEIGHT // 2]
    assert (drawn.first, drawn.last, drawn.most) == (FIRST, FIRST + timedelta(days=2), 10)


def test_small_count_is_seen_beside_a_large_one() -> None:
    drawn = by_day({FIRST: 100_000, FIRST + timedelta(days=1): 1})
    assert drawn is not None
    assert drawn.bars[1].height == 1


def test_picture_of_many_days_shows_the_last_ones_and_stays_within_its_width() -> None:
    drawn = by_day({FIRST + timedelta(days=day): 1 for day in range(100)})
    assert drawn is not None
    assert len(drawn.bars) == MOST_DAYS
    assert drawn.bars[-1].x + drawn.bars[-1].width <= WIDTH


def test_one_day_is_no_picture() -> None:
    assert by_day({FIRST: 3}) is None
    assert by_day({}) is None


def test_flow_draws_some_recipients_and_counts_the_others() -> None:
    flow = flow_of([(f"Organization {number}", "Research") for number in range(9)], 5, 12)
    assert (len(flow.boxes), flow.more) == (5, 7)
    assert flow.boxes[-1].y + 48 < flow.height
    assert len(flow_of([("x" * 200, "y" * 200)], 5, 1).boxes[0].name) == LINE


def test_rule_sheets_that_mean_the_same_do_not_differ() -> None:
    sheet = {"dataset": "a", "rules": [{"purposes": ["research"], "keep": {"/zone": "as_is"}}]}
    assert differences({"rules/a.json": json.dumps(sheet)}, {"rules/a.json": json.dumps(sheet, indent=4)}) == []


def test_each_line_that_differs_has_its_sign() -> None:
    (added, changed, removed) = differences({"b.rego": "one\ntwo\n", "c.rego": "x\n"}, {"a.rego": "new\n", "b.rego": "one\n2\n"})
    assert (added.path, added.what, added.lines[-1]) == ("a.rego", "added", ("+", "new"))
    assert (changed.what, set(changed.lines)) == ("changed", {("…", ""), (" ", "one"), ("-", "two"), ("+", "2")})
    assert (removed.path, removed.what) == ("c.rego", "removed")


def test_comparison_of_a_large_file_ends() -> None:
    (found,) = differences({"a.rego": ""}, {"a.rego": "\n".join(map(str, range(5 * MOST_LINES)))})
    assert (len(found.lines), found.more) == (MOST_LINES, True)

"""Which state follows which, by whose act."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from consent.states import FIRST, MOVES, STATUS, By, IllegalMove, State, require_move

STATES: tuple[State, ...] = get_args(State)
FINAL = ("refused", "withdrawn", "revoked", "expired", "invalidated")


def test_every_state_has_its_moves_and_its_term() -> None:
    assert set(MOVES) == set(STATUS) == set(STATES)
    assert len(STATES) == 8


@pytest.mark.parametrize("state", FINAL)
def test_what_has_ended_stays_ended(state: State) -> None:
    assert MOVES[state] == {}


def test_paused_consent_is_resumed_by_the_person_only() -> None:
    assert MOVES["paused"]["given"] == {"subject", "guardian"}


@pytest.mark.parametrize("state", ["given", "paused"])
def test_consent_in_force_or_paused_can_always_be_withdrawn_by_the_person_and_the_holder_of_the_code(state: State) -> None:
    assert MOVES[state]["withdrawn"] == {"subject", "guardian", "holder"}


def test_the_holder_of_a_code_withdraws_and_does_nothing_else() -> None:
    by_holder = {(was, wanted) for was, moves in MOVES.items() for wanted, by in moves.items() if "holder" in by}
    assert by_holder == {("given", "withdrawn"), ("paused", "withdrawn")}
    assert all("holder" not in by for by in FIRST.values())


def test_time_ends_and_does_nothing_else() -> None:
    by_time = {wanted for moves in MOVES.values() for wanted, by in moves.items() if "time" in by}
    assert by_time == {"expired"}


def test_nobody_refuses_in_a_persons_place() -> None:
    assert FIRST["refused"] == MOVES["requested"]["refused"] == {"subject", "guardian"}


@pytest.mark.parametrize(("was", "wanted"), list(product(STATES, STATES)))
def test_a_move_that_is_not_in_the_table_is_refused_with_those_that_are(was: State, wanted: State) -> None:
    for by in get_args(By):
        if by in MOVES[was].get(wanted, ()):
            require_move(was, wanted, by)
            continue
        with pytest.raises(IllegalMove) as refused:
            require_move(was, wanted, by)
        assert refused.value.legal == sorted(MOVES[was])

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from gateway.contracts.expiry import expire_due
from gateway.contracts.signatures import verify_detached
from gateway.contracts.states import MOVES
from gateway.database import now
from gateway.errors import Invalid
from tests.catalog.rooms import Rooms, detached


def state(rooms: Rooms, contract: dict[str, Any]) -> str:
    read: dict[str, Any] = rooms.http.get(f"/v1/contracts/{contract['id']}", headers=rooms.as_("auditor")).json()
    return str(read["state"])


def test_internal_contract_is_in_force_when_the_provider_signs(rooms: Rooms) -> None:
    rooms.register("footfall")
    made = rooms.propose()
    signed = rooms.sign(made).json()
    assert (signed["state"], [signature["side"] for signature in signed["signatures"]]) == ("active", ["consumer", "provider"])
    assert rooms.change_kinds()[-2:] == ["contract_signed", "contract_activated"]
    assert [entry["action"] for entry in rooms.audited("contract")] == ["proposed", "signed", "activated"]


@pytest.mark.parametrize("order", [("bia", "mobility"), ("mobility", "bia")])
def test_personal_contract_is_in_force_when_both_sides_have_signed_by_key(rooms: Rooms, order: tuple[str, str]) -> None:
    rooms.register("footfall", "personal")
    made = rooms.propose()
    assert made["signatures"] == []
    first = rooms.sign(made, order[0], key=True)
    assert (first.status_code, first.json()["state"]) == (200, "proposed")
    again = rooms.sign(made, order[0], key=True)
    assert (again.status_code, again.json()["code"]) == (409, "illegal_state")
    done = rooms.sign(made, order[1], key=True).json()
    assert done["state"] == "active"
    assert {signature["key_id"] for signature in done["signatures"]} == {"bia-key", "mobility-key"}
    entry = rooms.audited("contract")[-2]
    assert entry["detail"] == {"side": entry["detail"]["side"], "text_digest": made["text_digest"], "key_id": f"{order[1]}-key"}


def test_own_organization_signs_for_both_sides(rooms: Rooms) -> None:
    rooms.register("footfall", "personal")
    signed = rooms.sign(rooms.propose(by="bia"), key=True).json()
    assert (signed["state"], len(signed["signatures"])) == ("active", 2)


def test_another_text_is_not_signed(rooms: Rooms) -> None:
    rooms.register("footfall", "personal")
    made, other = rooms.propose(), rooms.propose()
    answer = rooms.sign(other | {"id": made["id"]}, key=True)
    assert (answer.status_code, answer.json()["code"]) == (409, "text_changed")


def test_signature_must_be_the_clients_own_over_this_text(rooms: Rooms) -> None:
    rooms.register("footfall", "personal")
    made = rooms.propose()
    digest, key = made["text_digest"], rooms.keys["bia"]
    whole = detached(digest, key).replace("..", ".eyJ9.")
    for signature in (
        None,
        "",
        "x" * 5000,
        "....",
        "a.b.c",
        "..",
        whole,
        detached("sha-256=:other:", key),
        detached(digest, rooms.keys["mobility"]),
        detached(digest, ECKey.generate_key("P-256", parameters={"kid": "bia-key"})),
        detached(digest, key)[:-4],
        "W10.." + "A" * 86,
        "eyJhbGciOiJub25lIn0..",
    ):
        answer = rooms.sign(made, signature=signature)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/signature"), signature
    assert state(rooms, made) == "proposed"


def test_signature_that_nobody_asked_for_is_verified_too(rooms: Rooms) -> None:
    rooms.register("footfall")
    made = rooms.propose()
    assert rooms.sign(made, signature="eyJhbGciOiJub25lIn0..").status_code == 422
    assert rooms.sign(made, key=True).json()["signatures"][-1]["key_id"] == "bia-key"


DIGEST = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"


@pytest.mark.parametrize(
    ("make", "algorithm"),
    [
        (lambda: ECKey.generate_key("P-256", parameters={"kid": "k"}), "ES256"),
        (lambda: OKPKey.generate_key("Ed25519", parameters={"kid": "k"}), "Ed25519"),
        (lambda: RSAKey.generate_key(2048, parameters={"kid": "k"}), "PS256"),
    ],
)
def test_es256_ed25519_and_ps256_are_taken_and_rs256_is_not(make: Callable[[], Key], algorithm: str) -> None:
    key: Any = make()
    jwks = {"keys": [key.as_dict(private=False)]}
    assert verify_detached(detached(DIGEST, key, algorithm, algorithms=(algorithm,)), DIGEST, jwks) == "k"
    with pytest.raises(Invalid):
        verify_detached(detached(DIGEST, key, algorithm, algorithms=(algorithm,)), DIGEST.replace("47", "48"), jwks)
    if isinstance(key, RSAKey):
        with pytest.raises(Invalid):
            verify_detached(detached(DIGEST, key, "RS256", algorithms=("RS256",)), DIGEST, jwks)


def test_payload_within_the_signature_does_not_pass_for_the_text() -> None:
    key = ECKey.generate_key("P-256", parameters={"kid": "k"})
    from joserfc import jws

    attached = jws.serialize_compact({"alg": "ES256", "kid": "k"}, "another text", key)
    with pytest.raises(Invalid):
        verify_detached(attached, DIGEST, {"keys": [key.as_dict(private=False)]})


WHO = {"provider": "bia", "consumer": "mobility", "officer": "officer"}


@pytest.mark.parametrize("verb", ["sign", "suspend", "resume", "end"])
@pytest.mark.parametrize("side", WHO)
@pytest.mark.parametrize("start", list(MOVES))
def test_each_side_makes_the_moves_of_the_table_and_no_other(rooms: Rooms, start: str, side: str, verb: str) -> None:
    rooms.register("footfall", "personal")
    contract = rooms.propose()
    if start != "proposed":
        rooms.sign(contract, "bia", key=True)
        rooms.sign(contract, "mobility", key=True)
    if start in {"suspended", "ended"}:
        assert rooms.move(contract, start.removesuffix("ed"), "bia").status_code == 200
    by = WHO[side]
    answer = rooms.sign(contract, by, key=True) if verb == "sign" else rooms.move(contract, verb, by)
    if side in MOVES[start].get(verb, ()):  # type: ignore[call-overload, index]
        assert answer.status_code == 200, answer.text
        return
    assert (answer.status_code, answer.json()["code"]) == (409, "illegal_state")
    legal = [move for move, sides in MOVES[start].items() if side in sides]  # type: ignore[index]
    assert answer.json()["legal"] == legal
    assert all(move in answer.json()["hint"] for move in legal)
    assert state(rooms, contract) == start


def test_what_the_officer_suspended_the_provider_does_not_resume(rooms: Rooms) -> None:
    rooms.register("footfall")
    contract = rooms.active()
    assert rooms.move(contract, "suspend", "officer", reason="A complaint is looked into.").json()["suspended_by"] == "officer"
    denied = rooms.move(contract, "resume", "bia")
    assert (denied.status_code, denied.json()["code"]) == (403, "needs_officer")
    assert rooms.move(contract, "suspend", "officer").json()["legal"] == ["resume", "end"]
    assert rooms.move(contract, "resume", "officer").json()["suspended_by"] is None


def test_officer_takes_over_a_suspension(rooms: Rooms) -> None:
    rooms.register("footfall")
    contract = rooms.active()
    rooms.move(contract, "suspend", "bia")
    assert rooms.move(contract, "suspend", "officer").json()["suspended_by"] == "officer"
    assert rooms.move(contract, "resume", "bia").json()["code"] == "needs_officer"


def test_reason_and_note_are_told_to_both_sides_and_not_to_the_log(rooms: Rooms) -> None:
    rooms.register("footfall")
    contract = rooms.active()
    rooms.move(contract, "suspend", "bia", reason="Counters are replaced.", note="Back on Monday.")
    read = rooms.http.get(f"/v1/contracts/{contract['id']}", headers=rooms.as_("mobility")).json()
    assert (read["reason"], read["reason_note"]) == ("Counters are replaced.", "Back on Monday.")
    assert "Monday" not in str(rooms.audited("contract"))
    assert rooms.http.post(f"/v1/contracts/{contract['id']}/resume", headers=rooms.as_("bia")).json()["state"] == "active"


@pytest.mark.parametrize(("by", "reason"), [("bia", "by_provider"), ("mobility", "by_consumer"), ("officer", "by_officer")])
def test_ending_says_who_ended_it_and_is_final(rooms: Rooms, by: str, reason: str) -> None:
    rooms.register("footfall")
    contract = rooms.active()
    ended = rooms.move(contract, "end", by).json()
    assert (ended["state"], ended["ended_reason"]) == ("ended", reason)
    assert rooms.move(contract, "end", by).json()["legal"] == []


def test_contract_whose_time_is_over_expires(rooms: Rooms) -> None:
    rooms.register("footfall")
    contract, other = rooms.active(), rooms.propose()
    at = now() + timedelta(days=365)
    assert set(rooms.contracts.due(at)) == {contract["id"], other["id"]}
    with rooms.database.transaction() as session:
        assert expire_due(session, now()) == 0
        assert expire_due(session, at) == 2
    view = rooms.contracts.get(contract["id"])
    assert view is not None
    assert (view.state, view.ended_reason) == ("ended", "expired")
    assert rooms.contracts.due(at) == ()
    assert "actor" not in rooms.audited("contract")[-1]


def test_those_who_ask_are_told_at_once_that_a_contract_is_not_in_force(rooms: Rooms) -> None:
    told: list[str] = []
    rooms.contracts.when_not_in_force(lambda contract: told.append(contract.state))
    rooms.register("footfall")
    contract = rooms.active()
    for verb in ("suspend", "resume", "end"):
        rooms.move(contract, verb, "bia")
    assert told == ["suspended", "ended"]


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """The answers of calls that are made at the same moment, each in a thread of its own."""
    gate = threading.Barrier(len(calls))

    def made(call: Callable[[], Any]) -> Any:
        gate.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(made, calls))


def test_of_two_who_move_a_contract_at_once_one_wins(rooms: Rooms) -> None:
    rooms.register("footfall")
    who = (("end", "bia"), ("end", "mobility"), ("end", "officer"), ("suspend", "bia"))
    for _ in range(5):
        contract = rooms.active()
        answers = at_once(*(partial(rooms.move, contract, verb, by) for verb, by in who))
        done = [answer.json()["state"] for answer in answers if answer.status_code == 200]
        assert {answer.status_code for answer in answers} <= {200, 409, 412}
        assert sorted(done) in (["ended"], ["suspended"], ["ended", "suspended"])
        assert state(rooms, contract) == min(done)


def test_two_signatures_at_once_are_both_kept_or_one_is_told_to_repeat(rooms: Rooms) -> None:
    rooms.register("footfall", "personal")
    contract = rooms.propose()
    answers = at_once(*(partial(rooms.sign, contract, by, key=True) for by in ("bia", "mobility")))
    codes = dict(zip(("bia", "mobility"), (answer.status_code for answer in answers), strict=True))
    assert set(codes.values()) <= {200, 412}
    for by in [by for by, code in codes.items() if code == 412]:
        assert rooms.sign(contract, by, key=True).status_code == 200
    assert state(rooms, contract) == "active"

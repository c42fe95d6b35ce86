"""A revision from draft to active and back: who may do what, what is refused, and what everybody finds written down."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from gateway.access.models import PolicyRevision
from gateway.audit.models import AuditEntry
from gateway.errors import ExchangeError, SettingsRefused
from gateway.identity.people_models import Person
from gateway.settings import Settings
from gateway.setup import activate_policies
from tests.access.office import FOOTFALL, REVISIONS, SHEET, Office, an_office


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with an_office(tmp_path_factory.mktemp("office")) as made:
        yield made


def without_the_first_rule(office: Office) -> str:
    revision = office.draft("No transit planning")
    sheet = office.sheet(revision)
    assert office.write(revision, SHEET, sheet | {"rules": sheet["rules"][1:]}).status_code == 200
    return revision


def told(office: Office, revision: str) -> list[dict[str, Any]]:
    """The audit entries about a revision, in their order."""
    with office.app.state.database.reading() as session:
        entries = [json.loads(text) for text in session.scalars(select(AuditEntry.entry).where(AuditEntry.kind == "policy"))]
    return [entry for entry in entries if entry.get("revision") == revision]


def code(answer: Any) -> str:
    return str(answer.json()["code"])


def test_what_one_person_proposes_and_another_agrees_on_becomes_active_and_going_back_is_one_call(office: Office) -> None:
    first = office.active()
    revision = without_the_first_rule(office)
    office.agreed(revision)
    became = office.done("POST", f"{REVISIONS}/{revision}/activate", "ben")
    assert (became["state"], became["proposed_by"], became["approved_by"]) == ("active", office.persons["ada"], office.persons["ben"])
    assert office.active() == revision
    assert office.done("GET", f"{REVISIONS}/{first}")["state"] == "retired"
    assert office.app.state.access.revision == revision
    assert office.done("POST", f"{REVISIONS}/{first}/activate", "ada")["state"] == "active"
    assert office.active() == first


def test_each_act_names_the_digest_and_the_persons_that_have_agreed_until_then(office: Office) -> None:
    revision = without_the_first_rule(office)
    office.agreed(revision)
    first = office.active()
    office.done("POST", f"{REVISIONS}/{revision}/activate", "ben")
    entries = told(office, revision)
    assert [entry["action"] for entry in entries] == ["draft", "write", "propose", "approve", "activate", "activated"]
    digest = office.done("GET", f"{REVISIONS}/{revision}")["digest"]
    for entry in entries[2:]:
        assert (entry["detail"]["digest"], entry["detail"]["proposed_by"]) == (digest, office.persons["ada"])
    for entry in entries[3:]:
        assert entry["detail"]["approved_by"] == office.persons["ben"]
    assert entries[4]["change"] == entries[5]["change"]
    office.done("POST", f"{REVISIONS}/{first}/activate", "ada")


def test_the_sha_256_of_the_bundle_is_the_digest_and_the_bundle_holds_every_file(office: Office) -> None:
    revision = without_the_first_rule(office)
    known = office.done("GET", f"{REVISIONS}/{revision}")
    answer = office.call("GET", f"{REVISIONS}/{revision}/bundle")
    assert hashlib.sha256(answer.content).hexdigest() == known["digest"]
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        assert set(archive.getnames()) == {*known["files"], ".manifest", "data.json"}
    assert answer.content == office.call("GET", f"{REVISIONS}/{revision}/bundle").content


def test_a_revision_is_edited_as_a_draft_alone_and_by_who_has_seen_it(office: Office) -> None:
    revision = office.draft()
    path = f"{REVISIONS}/{revision}/files/{SHEET}"
    headers = office.as_("ada") | {"Content-Type": "application/json"}
    sheet = json.dumps(office.sheet(revision))
    assert office.http.put(path, content=sheet, headers=headers).status_code == 428
    seen = office.http.get(path, headers=headers).headers["etag"]
    assert office.http.put(path, content=sheet, headers=headers | {"If-Match": seen}).status_code == 200
    assert code(office.http.put(path, content=sheet, headers=headers | {"If-Match": seen})) == "stale"
    office.done("POST", f"{REVISIONS}/{revision}/propose")
    refused = office.http.put(path, content=sheet, headers=headers | {"If-Match": "*"})
    assert (code(refused), refused.json()["legal"]) == ("illegal_state", ["preview", "approve", "retire"])
    office.done("POST", f"{REVISIONS}/{revision}/retire")


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        (SHEET, {"dataset": FOOTFALL}, "required"),
        ("rules/other.json", {"dataset": FOOTFALL}, "other"),
        ("../main.rego", "package main", "must be"),
        ("main/Main.rego", "package main", "must be"),
        ("main.rego", "package main", "must be"),
    ],
)
def test_a_file_that_a_revision_cannot_hold_is_refused_where_it_is_wrong(office: Office, path: str, content: Any, says: str) -> None:
    answer = office.write(office.draft(), path, content)
    assert answer.status_code in {404, 422}
    assert answer.status_code == 404 or says in answer.text


def test_a_candidate_that_is_refused_is_told_everything_with_file_line_and_what_to_do(office: Office) -> None:
    revision = office.draft()
    module = "# METADATA\n# title: T\npackage exchange.checks.weather\n\ndeny contains 1 if http.send({})\n\nproven := true\n"
    assert office.write(revision, "checks/weather/weather.rego", module).status_code == 200
    answer = office.call("POST", f"{REVISIONS}/{revision}/propose")
    assert (answer.status_code, code(answer)) == (422, "policy_refused")
    places = {(each["file"], each["line"]) for each in answer.json()["errors"]}
    assert places >= {("checks/weather/weather.rego", line) for line in (1, 5, 7)}
    assert all(each["hint"] and each["detail"] for each in answer.json()["errors"])
    assert office.done("GET", f"{REVISIONS}/{revision}")["state"] == "draft"


def test_without_the_opa_program_development_says_what_was_not_done(office: Office) -> None:
    revision = office.draft()
    vetting = office.done("POST", f"{REVISIONS}/{revision}/propose")["vetting"]
    assert vetting["engines"] == ["embedded"]
    assert "comparison of both engines" in vetting["not_done"]


def test_nobody_agrees_with_themselves_and_no_program_is_a_person(office: Office) -> None:
    revision = without_the_first_rule(office)
    assert code(office.call("POST", f"{REVISIONS}/{revision}/propose", by="")) == "person_required"
    office.done("POST", f"{REVISIONS}/{revision}/propose")
    number = office.previewed(revision, "ada")["number"]
    body = {"preview": number}
    assert code(office.call("POST", f"{REVISIONS}/{revision}/approve", "ada", body)) == "second_person_needed"
    assert code(office.call("POST", f"{REVISIONS}/{revision}/approve", "", body)) == "person_required"
    assert code(office.call("POST", f"{REVISIONS}/{revision}/activate", "ben")) == "illegal_state"
    assert code(office.call("POST", f"{REVISIONS}/{revision}/approve", "ben", {"preview": 7})) == "not_found"


def test_what_was_seen_before_another_revision_became_active_is_no_longer_agreed_on(office: Office) -> None:
    first, early, late = office.active(), without_the_first_rule(office), without_the_first_rule(office)
    office.agreed(early)
    office.done("POST", f"{REVISIONS}/{late}/propose")
    number = office.previewed(late)["number"]
    office.done("POST", f"{REVISIONS}/{early}/activate", "ben")
    answer = office.call("POST", f"{REVISIONS}/{late}/approve", "ben", {"preview": number})
    assert (code(answer), "another revision became active" in answer.json()["detail"]) == ("stale", True)
    office.done("POST", f"{REVISIONS}/{first}/activate", "ben")
    third = without_the_first_rule(office)
    office.agreed(third)
    office.done("POST", f"{REVISIONS}/{early}/activate", "ben")
    assert code(office.call("POST", f"{REVISIONS}/{third}/activate", "ben")) == "stale"
    office.done("POST", f"{REVISIONS}/{first}/activate", "ben")


def test_two_officers_who_activate_at_once_leave_one_active_and_the_other_is_told(office: Office) -> None:
    first = office.active()
    revisions = [without_the_first_rule(office), without_the_first_rule(office)]
    for revision in revisions:
        office.agreed(revision)
    answers: dict[str, Any] = {}

    def act(name: str, revision: str) -> None:
        answers[revision] = office.call("POST", f"{REVISIONS}/{revision}/activate", name)

    threads = [threading.Thread(target=act, args=pair) for pair in zip(("ada", "ben"), revisions, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [revision for revision in revisions if answers[revision].status_code == 200]
    lost = [code(answer) for answer in answers.values() if answer.status_code != 200]
    assert len(won) == 1
    assert lost in (["illegal_state"], ["stale"])
    assert office.active() == won[0]
    with office.app.state.database.reading() as session:
        assert session.scalars(select(PolicyRevision.id).where(PolicyRevision.state.in_(["active", "activating"]))).all() == won
    office.done("POST", f"{REVISIONS}/{first}/activate", "ada")


def test_the_same_revision_activated_twice_at_once_is_activated_once(office: Office) -> None:
    first, revision = office.active(), without_the_first_rule(office)
    office.agreed(revision)
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda name=name: answers.append(office.call("POST", f"{REVISIONS}/{revision}/activate", name)))
        for name in ("ada", "ben")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.json().get("state") for answer in answers] == ["active", "active"]
    assert [entry["action"] for entry in told(office, revision)].count("activated") == 1
    office.done("POST", f"{REVISIONS}/{first}/activate", "ada")


def test_files_that_were_changed_in_the_database_are_not_taken_and_the_former_revision_answers_again(office: Office) -> None:
    first, revision = office.active(), without_the_first_rule(office)
    office.agreed(revision)
    with office.app.state.database.transaction() as session:
        row = session.get_one(PolicyRevision, revision)
        row.files = {**row.files, SHEET: json.dumps(office.sheet(first))}
    answer = office.call("POST", f"{REVISIONS}/{revision}/activate", "ben")
    assert (answer.status_code, code(answer)) == (409, "policy_not_taken")
    assert "were changed in the database" in answer.json()["instances"][0]["says"]
    assert office.active() == first
    assert office.done("GET", f"{REVISIONS}/{revision}")["state"] == "approved"
    assert [entry["action"] for entry in told(office, revision)][-2:] == ["activate", "went_back"]


def test_an_officer_who_has_lost_the_role_since_is_no_longer_one_of_the_two(office: Office) -> None:
    revision = without_the_first_rule(office)
    office.agreed(revision)
    with office.app.state.database.transaction() as session:
        session.get_one(Person, office.persons["ada"]).granted_roles = []
    try:
        answer = office.call("POST", f"{REVISIONS}/{revision}/activate", "ben")
        assert (code(answer), "no privacy officer any more" in answer.json()["detail"]) == ("second_person_needed", True)
    finally:
        with office.app.state.database.transaction() as session:
            session.get_one(Person, office.persons["ada"]).granted_roles = ["privacy_officer"]


def test_an_account_whose_roles_have_just_changed_waits_before_it_approves(tmp_path: Path) -> None:
    with an_office(tmp_path, approval_wait_h=24) as office:
        revision = without_the_first_rule(office)
        office.done("POST", f"{REVISIONS}/{revision}/propose")
        answer = office.call("POST", f"{REVISIONS}/{revision}/approve", "ben", {"preview": office.previewed(revision)["number"]})
        assert code(answer) == "second_person_needed"


def test_production_refuses_to_activate_a_folder_on_an_exchange_that_is_set_up(tmp_path: Path) -> None:
    settings = Settings(
        environment="production",
        issuer="https://exchange.test",
        data_dir=tmp_path,
        database_url=f"sqlite:///{tmp_path / 'exchange.db'}",
        log_url="kafka://127.0.0.1:1",
        policy_url="http://127.0.0.1:1",
        policy_token=SecretStr("a token"),
        kek_command="print-the-key",
    )
    with pytest.raises(SettingsRefused, match="Two persons change policy"):
        activate_policies(settings, tmp_path)


def test_production_proposes_nothing_without_the_opa_program(office: Office) -> None:
    settings = office.settings.model_copy(update={"environment": "production", "opa_binary": "no-such-program"})
    with pytest.raises(ExchangeError, match="vetting_unavailable"):
        _ = replace(office.app.state.desk, settings=settings).opa


def test_who_signed_in_long_ago_signs_in_again_to_agree_and_to_activate(office: Office) -> None:
    revision = office.draft()
    for path, body in (("approve", {"preview": 1}), ("activate", None)):
        answer = office.http.post(f"{REVISIONS}/{revision}/{path}", json=body, headers=office.long_signed_in("ben"))
        assert (answer.status_code, code(answer)) == (401, "insufficient_user_authentication")
        assert "max_age" in answer.headers["www-authenticate"]

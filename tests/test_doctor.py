from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from gateway.changes import hold_the_only_seat
from gateway.database import Database
from gateway.doctor import Finding, examine
from gateway.settings import Settings
from gateway.setup import set_up


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(environment="development", data_dir=tmp_path / "data", port=1)
    set_up(made, "City of Mississauga")
    return made


def findings(settings: Settings) -> dict[str, Finding]:
    return {finding.part: finding for finding in examine(settings)}


def sick(settings: Settings) -> dict[str, str]:
    return {part: finding.says for part, finding in findings(settings).items() if not finding.well}


def test_an_exchange_that_was_just_set_up_is_well(settings: Settings) -> None:
    assert sick(settings) == {}
    assert set(findings(settings)) == {
        "settings",
        "disk",
        "keys",
        "database",
        "gateway",
        "clock",
        "policy",
        "sealing",
        "memory",
        "log",
        "audit log",
    }


def test_nothing_set_up_is_the_first_thing_to_say(tmp_path: Path) -> None:
    assert "exchange setup" in sick(Settings(environment="development", data_dir=tmp_path / "none"))["keys"]


def test_a_key_file_that_others_can_read_is_a_finding(settings: Settings) -> None:
    settings.resolved_key_file.chmod(0o644)
    assert "chmod 600" in sick(settings)["keys"]


def test_an_empty_database_is_a_finding(settings: Settings, tmp_path: Path) -> None:
    other = settings.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'other.db'}"})
    assert "exchange setup" in sick(other)["database"]


def test_a_database_of_an_older_version_is_a_finding(settings: Settings) -> None:
    database = Database(settings.resolved_database_url)
    with database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'long_ago'"))
    database.close()
    assert "exchange migrate" in sick(settings)["database"]


def test_no_active_policy_is_a_finding(settings: Settings) -> None:
    database = Database(settings.resolved_database_url)
    with database.transaction() as session:
        session.execute(text("UPDATE policy_revisions SET state = 'retired'"))
    database.close()
    assert "everything is denied" in sick(settings)["policy"]


def test_a_gateway_that_holds_the_database_and_does_not_answer_is_a_finding(settings: Settings) -> None:
    database = Database(settings.resolved_database_url)
    leave = hold_the_only_seat(database)
    try:
        assert "another_gateway_is_live" in sick(settings)["gateway"]
    finally:
        leave()
        database.close()


def test_an_opa_that_is_away_is_a_finding(settings: Settings) -> None:
    away = settings.model_copy(update={"policy_url": "http://127.0.0.1:1"})
    assert "everything is denied" in sick(away)["policy"]


def test_a_log_that_is_away_is_a_finding(settings: Settings) -> None:
    away = settings.model_copy(update={"log_url": "kafka://127.0.0.1:1"})
    assert "EXCHANGE_LOG_URL" in sick(away)["log"]


def test_a_disk_that_is_nearly_full_is_a_finding(settings: Settings) -> None:
    more_than_there_is = shutil.disk_usage(settings.data_dir).total + 1
    (disk,) = (finding for finding in examine(settings, least_free=more_than_there_is) if finding.part == "disk")
    assert not disk.well
    assert "make room" in disk.says


def test_the_command_ends_with_1_if_anything_is_wrong(settings: Settings) -> None:
    environment = {"PATH": os.environ["PATH"], "EXCHANGE_ENVIRONMENT": "development", "EXCHANGE_DATA_DIR": str(settings.data_dir)}

    def run() -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "gateway.cli", "doctor"]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

    assert run().returncode == 0
    settings.resolved_key_file.chmod(0o644)
    ended = run()
    assert ended.returncode == 1
    assert "BAD  keys" in ended.stdout

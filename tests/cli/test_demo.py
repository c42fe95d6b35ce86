from __future__ import annotations

import subprocess
import sys
from io import StringIO
from pathlib import Path

import httpx2
import pytest

from connectors.client import Client
from gateway.cli.demo.audited import receipt_hash
from gateway.cli.demo.process import MARK, DemoFailed, empty_folder
from gateway.cli.demo.screen import ClaimFailed, Screen
from tests.connectors.recorded import as_json, listening
from tests.e2e.listener import until
from tests.replicas.city import is_dead


def test_a_claim_that_is_false_fails_loudly() -> None:
    out = StringIO()
    with pytest.raises(ClaimFailed):
        Screen(out).claim([], "something came")
    assert "FALSE something came" in out.getvalue()


def test_each_line_is_a_call_that_was_made() -> None:
    out = StringIO()
    screen = Screen(out)
    with listening() as server, Client(server.url, on_response=screen.heard) as client:
        server.give("/v1/datasets", *[as_json({})] * 2)
        server.give("/v1/me", as_json({}))
        with screen.line("looked twice, and asked who it is"):
            client.get("/v1/datasets")
            client.get("/v1/datasets")
            client.get("/v1/me")
    first, second = out.getvalue().splitlines()
    assert first.split() == ["GET", "/v1/datasets", "x2", "200"]
    assert second.split() == ["GET", "/v1/me", "200", "looked", "twice,", "and", "asked", "who", "it", "is"]


def test_a_line_stands_there_also_if_the_call_was_refused() -> None:
    out = StringIO()
    screen = Screen(out)
    with listening() as server, httpx2.Client(base_url=server.url, event_hooks={"response": [screen.heard]}) as http:
        server.give("/v1/contracts", as_json({"code": "policy_denied"}, status=403))
        with screen.line("no"):
            http.post("/v1/contracts")
    assert out.getvalue().split() == ["POST", "/v1/contracts", "403", "no"]


def test_a_folder_that_no_demonstration_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DemoFailed):
        empty_folder(tmp_path)
    ended = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "demo", "--exit", "--data-dir", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "another folder" in ended.stdout
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_what_an_earlier_demonstration_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / MARK).touch()
    (tmp_path / "data").mkdir()
    empty_folder(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [MARK]
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_receipt_is_found_under_the_form_that_the_log_shows() -> None:
    assert receipt_hash("sha-256=:+/8AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:") == "-_8AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


def test_several_replicas_need_the_real_engines() -> None:
    refused = subprocess.run([sys.executable, "-m", "gateway.cli", "demo", "--replicas", "2"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "--engines" in refused.stderr


@pytest.mark.timeout(420)
@pytest.mark.usefixtures("opa_binary")  # it starts the real engines, which this one stands for
def test_a_withdrawal_at_one_of_two_replicas_on_the_real_engines_silences_a_stream_at_each(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "gateway.cli", "demo", "--engines", "--replicas", "2", "--exit", "--data-dir", str(tmp_path / "demo")]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    told = ended.stdout
    assert ended.returncode == 0, told[-4000:] + ended.stderr[-2000:]
    assert "on Kafka, PostgreSQL and OPA" in told
    assert "when that came, 2 replicas have confirmed" in told
    assert "true  and not one of those events reached the 2 open streams" in told
    assert "of the others went on in each" in told
    assert "Every claim held." in told


def test_nothing_of_a_demonstration_outlives_it_however_it_ends(tmp_path: Path) -> None:
    all_end_with_it(tmp_path, [], ["serve"])


@pytest.mark.timeout(420)
@pytest.mark.usefixtures("opa_binary")  # it starts the real engines, which this one stands for
def test_no_engine_and_no_replica_of_a_demonstration_outlives_it_however_it_ends(tmp_path: Path) -> None:
    all_end_with_it(
        tmp_path, ["--engines", "--replicas", "2"], ["serve", "serve", "tests.engines", "kafka.Kafka", "postgres", "opa", "opa"]
    )


def all_end_with_it(tmp_path: Path, more: list[str], programs: list[str]) -> None:
    """`kill -9` of a demonstration in the middle of its story, by when these programs run."""
    words = [sys.executable, "-m", "gateway.cli", "demo", "--data-dir", str(tmp_path / "demo"), *more]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "true" in line:
                break  # the story has begun
        left = descendants(demo.pid)
        demo.kill()
    words_of = [command.decode(errors="replace").split("\0") for command in left.values()]
    for program in set(programs):
        running = [found for found in words_of if program in {Path(word).name for word in found}]
        assert len(running) >= programs.count(program), program
    until(lambda: all(is_dead(pid) for pid in left), "the end of all that it had started", seconds=20)


def descendants(pid: int) -> dict[int, bytes]:
    """The process's children, and theirs, with their command lines."""
    found: dict[int, bytes] = {}
    for child in Path(f"/proc/{pid}/task").glob("*/children"):
        for below in map(int, child.read_text("ascii").split()):
            found |= {below: Path(f"/proc/{below}/cmdline").read_bytes()} | descendants(below)
    return found

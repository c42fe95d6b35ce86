"""Witnesses: their policy in the form of C2SP tlog-policy, and a stock one that was not written here."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.audit.note import Checkpoint, Verifier
from gateway.audit.witness_policy import Policy, read_policy
from gateway.audit.witnesses import Witnesses
from gateway.database import Database
from gateway.errors import SettingsRefused
from tests.audit.growing import Log, forked
from tests.audit.others import fsck_verifies, go_verifies
from tests.engines.process import free_port
from tests.engines.witness import LiteWitness


def vkey(name: str, *, kind: int = 4, key: bytes | None = None) -> str:
    material = bytes([kind]) + (key or sha256(name.encode()).digest())
    key_id = sha256(name.encode() + b"\n" + material).digest()[:4].hex()
    return f"{name}+{key_id}+{b64encode(material).decode()}"


LOG = Verifier.parse(vkey("log.example/audit", kind=1))
X1, X2, Y = (f"witness {name} {vkey(f'{name}.example')}" for name in ("X1", "X2", "Y"))
GROUPS = "group X any X1 X2\ngroup all-of all X Y\nquorum all-of\n"
GOOD = f"# ours\nlog {LOG.vkey} https://log.example/\n\n {X1} https://x1.example/w/\n{X2}\n{Y}\n{GROUPS}"


def policy_of(text: str, folder: Path) -> Policy:
    file = folder / "policy"
    file.write_text(text, "utf-8")
    return read_policy(file, LOG)


def test_a_quorum_is_what_its_groups_need(tmp_path: Path) -> None:
    policy = policy_of(GOOD, tmp_path)
    assert (policy.witnesses["X1"].url, policy.witnesses["X2"].url) == ("https://x1.example/w", "")
    for cosigners, met in {("X1", "Y"): True, ("X2", "Y"): True, ("X1", "X2"): False, ("Y",): False, (): False}.items():
        assert policy.is_met(cosigners) is met
    assert policy_of("quorum none\n", tmp_path).is_met(())
    two = policy_of(f"{X1}\n{X2}\n{Y}\ngroup g 2 X1 X2 Y\nquorum g\n", tmp_path)
    assert [two.is_met(each) for each in (("X1",), ("X1", "Y"))] == [False, True]


WRONG = {
    "no quorum": X1,
    "two": f"{X1}\nquorum X1\nquorum none",
    "unknown": f"{X1}\nquorum X2",
    "a group of none": f"{X1}\ngroup g any\nquorum g",
    "more than there are": f"{X1}\ngroup g 2 X1\nquorum g",
    "none of them": f"{X1}\ngroup g 0 X1\nquorum g",
    "no number": f"{X1}\ngroup g most X1\nquorum g",
    "a member twice": f"{X1}\ngroup g any X1 X1\nquorum g",
    "in two groups": f"{X1}\n{X2}\ngroup g any X1\ngroup h any X1 X2\nquorum h",
    "a name twice": f"{X1}\n{X2.replace('X2', 'X1', 1)}\nquorum X1",
    "the name none": f"witness none {vkey('none.example')}\nquorum none",
    "a key twice": f"{X1}\nwitness Z {vkey('z.example', key=sha256(b'X1.example').digest())}\nquorum X1",
    "a log's key": f"witness Z {vkey('z.example', kind=1)}\nquorum Z",
    "another id": f"{X1.replace('+', '+0', 1)}\nquorum X1",
    "another log": f"log {vkey('other.example', kind=1)}\nquorum none",
    "no such line": "wittness X\nquorum none",
    "two addresses": f"{X1} https://a.example https://b.example\nquorum X1",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_a_policy_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused, match="EXCHANGE_AUDIT_WITNESSES"):
        policy_of(text, tmp_path)
    with pytest.raises(SettingsRefused, match="cannot be read"):
        read_policy(tmp_path / "none", LOG)


@pytest.fixture
def log(database: Database, tmp_path: Path) -> Log:
    return Log(database, tmp_path)


@pytest.fixture
def witness(tlog_programs: Path, tmp_path: Path, log: Log) -> Iterator[LiteWitness]:
    with closing(LiteWitness(tlog_programs, tmp_path / "witness")) as made:
        made.start()
        made.trust(log.origin, log.vkey)
        yield made


def watched_by(log: Log, *lines: str) -> Policy:
    file = log.folder / "policy"
    file.write_text("\n".join([f"log {log.vkey}", *lines, ""]), "ascii")
    policy = read_policy(file, Verifier.parse(log.vkey))
    log.sequencer = log.replica(witnesses=Witnesses(policy, log.tiles))
    return policy


def until_cosigned(log: Log, policy: Policy) -> Checkpoint:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        log.sequencer.step()
        checkpoint = Checkpoint.parse(log.tiles.checkpoint() or b"")
        if policy.is_met(policy.cosigners(checkpoint)):
            return checkpoint
        time.sleep(0.05)
    raise TimeoutError("no quorum")


def test_a_stock_witness_cosigns_each_checkpoint_and_verifiers_of_others_still_accept_it(
    log: Log, witness: LiteWitness, tlog_programs: Path
) -> None:
    policy = watched_by(log, f"witness W {witness.vkey} {witness.url}", "quorum W")
    for count in (1, 5, 300):
        checkpoint = log.grow(count)
        assert policy.cosigners(checkpoint) == {"W"}
        assert witness.seen(log.origin) == checkpoint.size
    assert log.sequencer.state == "ok"
    with log.served() as url:
        assert go_verifies(tlog_programs, url, log.vkey) == (306, "")
        assert fsck_verifies(tlog_programs, url, log.vkey, log.folder)
    log.sequencer.stop()


def test_a_gateway_that_starts_anew_asks_the_witness_how_far_it_is(log: Log, witness: LiteWitness) -> None:
    line = f"witness W {witness.vkey} {witness.url}"
    watched_by(log, line, "quorum W")
    log.grow(10)
    log.sequencer.stop()
    policy = watched_by(log, line, "quorum W")
    assert policy.cosigners(log.grow(10)) == {"W"}
    log.sequencer.stop()


def test_a_witness_that_is_away_holds_up_nothing_is_told_and_cosigns_when_it_is_back(log: Log, witness: LiteWitness) -> None:
    policy = watched_by(log, f"witness W {witness.vkey} {witness.url}", "quorum W")
    witness.kill()
    began = time.monotonic()
    checkpoint = log.grow(7)
    assert time.monotonic() - began < 5
    assert (checkpoint.size, policy.cosigners(checkpoint), log.sequencer.state) == (7, set(), "quorum_missing")
    witness.start()
    assert until_cosigned(log, policy).size == 7
    assert log.sequencer.state == "ok"
    log.sequencer.stop()


def test_one_of_two_witnesses_is_enough_where_the_policy_says_so(log: Log, witness: LiteWitness) -> None:
    away = f"witness away {vkey('away.example')} http://127.0.0.1:{free_port()}"
    policy = watched_by(log, away, f"witness W {witness.vkey} {witness.url}", "group either any away W", "quorum either")
    assert policy.cosigners(log.grow(3)) == {"W"}
    assert log.sequencer.state == "ok"
    log.sequencer.stop()


def test_a_witness_does_not_cosign_a_fork(log: Log, witness: LiteWitness, engine_folder: Path, tmp_path: Path) -> None:
    line = f"witness W {witness.vkey} {witness.url}"
    watched_by(log, line, "quorum W")
    log.grow(10)
    log.sequencer.stop()
    # The operator shows another history, of the same size and longer, signed by the log's own key.

    with forked(log, tmp_path / "fork") as fork:
        policy = watched_by(fork, line, "quorum W")
        for count in (10, 5):
            assert policy.cosigners(fork.grow(count)) == set()
            assert fork.sequencer.state == "quorum_missing"
        fork.sequencer.stop()
    assert witness.seen(log.origin) == 10

"""A real OPA that takes its bundle from the gateway: every answer is by the revision that is expected, or it is none."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from joserfc.jwk import ECKey

from gateway.access.bundle import build_bundle
from gateway.access.bundle_server import Served
from gateway.access.decision import PolicyUnavailable
from gateway.access.opa import OpaEngine
from gateway.database import now
from tests.access.admin import TOKEN, admin_address
from tests.engines.opa import Opa
from tests.policies.shipped import KEY, answering, bundle, facts, parts

PUBLIC_KEY = KEY.as_pem(private=False).decode("ascii")


@contextmanager
def running(opa_binary: Path, token: str = TOKEN) -> Iterator[tuple[Opa, OpaEngine]]:
    # The engine and the address that OPA asks need each other: OPA's port is known once it is made.
    waiting = OpaEngine("http://127.0.0.1:1", token)
    with admin_address(waiting.bundles) as admin, Opa(opa_binary, admin_url=admin, token=TOKEN, public_key=PUBLIC_KEY) as opa:
        engine = OpaEngine(opa.url, token)
        engine.bundles = waiting.bundles
        try:
            yield opa, engine
        finally:
            engine.close()


@pytest.fixture(scope="module")
def pair(opa_binary: Path) -> Iterator[tuple[Opa, OpaEngine]]:
    with running(opa_binary) as made:
        yield made


@pytest.fixture
def engine(pair: tuple[Opa, OpaEngine]) -> OpaEngine:
    return pair[1]


@pytest.fixture
def active(engine: OpaEngine) -> OpaEngine:
    engine.activate("pol_1", bundle("pol_1"))
    return engine


def test_an_allowed_question_is_answered_by_the_active_revision(active: OpaEngine) -> None:
    answer = active.evaluate(facts())
    assert answer.revision == "pol_1"
    assert answer.document["allow"] is True
    assert answer.document["until"] == facts()["contract"]["valid_until"]
    active.ping()


def test_a_new_revision_is_taken_at_once(active: OpaEngine) -> None:
    started = time.monotonic()
    active.activate("pol_2", bundle("pol_2", rules={}))
    assert time.monotonic() - started < 3
    answer = active.evaluate(facts())
    assert answer.revision == "pol_2"
    assert [reason["code"] for reason in answer.document["reasons"]] == ["no_rule_sheet"]


def test_no_answer_mixes_two_revisions(active: OpaEngine) -> None:
    modules, data = parts()
    sheet = data["exchange"]["rules"]["port-credit-footfall"]
    for revision, period in (("pol_10", "P10D"), ("pol_11", "P11D"), ("pol_12", "P12D")):
        sheet["rules"][0]["retain"] = period
        modules = {
            path: text.replace("A rule of this dataset", f"By {revision}, a rule of this dataset") for path, text in parts()[0].items()
        }
        content = build_bundle(revision, modules, data, KEY)
        seen: list[tuple[str, str, str]] = []
        stop = threading.Event()

        def ask(seen: list[tuple[str, str, str]] = seen, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                try:
                    answer = active.evaluate(facts())
                except PolicyUnavailable:
                    continue
                retain = next(obligation["period"] for obligation in answer.document["obligations"] if obligation["kind"] == "retain")
                seen.append((answer.revision, retain, answer.document["reasons"][0]["title"]["en"][:9]))

        askers = [threading.Thread(target=ask) for _ in range(3)]
        for asker in askers:
            asker.start()
        active.activate(revision, content)
        time.sleep(0.05)
        stop.set()
        for asker in askers:
            asker.join()
        after = {answer for answer in seen if answer[0] == revision}
        assert after == {(revision, period, f"By {revision}")}
        assert len(set(seen)) == len({answer[0] for answer in seen})


def test_an_engine_that_is_suspended_believes_no_answer(active: OpaEngine) -> None:
    active.suspend()
    with pytest.raises(PolicyUnavailable, match="no policy revision"):
        active.evaluate(facts())


def test_an_answer_by_another_revision_than_expected_is_none(pair: tuple[Opa, OpaEngine], active: OpaEngine) -> None:
    elsewhere = OpaEngine(pair[0].url, TOKEN, activation_s=0.3)
    with pytest.raises(PolicyUnavailable, match="has not taken"):
        elsewhere.activate("pol_9", bundle("pol_9"))
    with pytest.raises(PolicyUnavailable, match="another revision"):
        elsewhere.evaluate(facts())
    elsewhere.close()
    active.ping()


def test_an_undefined_rule_is_no_answer(engine: OpaEngine) -> None:
    with pytest.raises(PolicyUnavailable):
        _activate_quickly(engine, "pol_20", answering('decision := {"allow": true} if input.action == "never"'))
    with pytest.raises(PolicyUnavailable, match="undefined"):
        engine.evaluate(facts())


@pytest.mark.parametrize("value", ["true", '{"allow": "true", "reasons": [], "obligations": [], "until": null}', "[]"])
def test_a_malformed_answer_is_none(engine: OpaEngine, value: str) -> None:
    revision = f"pol_{30 + len(value)}"
    with pytest.raises(PolicyUnavailable):
        _activate_quickly(engine, revision, answering(f"decision := {value}"))
    with pytest.raises(PolicyUnavailable, match=r"document|schema"):
        engine.evaluate(facts())


def test_a_builtin_that_fails_in_a_deny_rule_is_an_error_and_not_silence(engine: OpaEngine) -> None:
    modules, data = parts()
    modules["checks/version/version.rego"] = (
        "package exchange.checks.version\n\n"
        'deny contains {"code": "too_old"} if {\n\tinput.action == "receive"\n\tsemver.compare(input.client.id, "1.0.0") < 0\n}\n'
    )
    engine.activate("pol_40", build_bundle("pol_40", modules, data, KEY))
    with pytest.raises(PolicyUnavailable):
        engine.evaluate(facts())


def test_a_bundle_signed_by_another_key_is_refused_and_the_reason_is_told(active: OpaEngine) -> None:
    modules, data = parts()
    with pytest.raises(PolicyUnavailable, match="OPA refused the revision"):
        active.activate("pol_50", build_bundle("pol_50", modules, data, ECKey.generate_key("P-256")))
    with pytest.raises(PolicyUnavailable, match="another revision"):
        active.evaluate(facts())
    active.activate("pol_51", bundle("pol_51"))
    assert active.evaluate(facts()).revision == "pol_51"


def test_a_bundle_that_does_not_compile_is_refused_and_the_reason_is_told(active: OpaEngine) -> None:
    with pytest.raises(PolicyUnavailable, match="OPA refused the revision"):
        active.activate("pol_60", bundle("pol_60", answering("decision := nothing_known(1)"), {}))


def test_a_bundle_cannot_replace_the_rule_of_who_may_ask(active: OpaEngine, pair: tuple[Opa, OpaEngine]) -> None:
    modules, data = parts()
    modules["system/authz.rego"] = "package system.authz\n\nallow := true\n"
    with pytest.raises(PolicyUnavailable, match="OPA refused the revision"):
        active.activate("pol_61", build_bundle("pol_61", modules, data, KEY))
    assert pair[0].ask(facts(), token="another")[0] in {401, 403}


@pytest.mark.parametrize("token", ["another", ""])
def test_a_wrong_token_or_none_gets_no_answer(pair: tuple[Opa, OpaEngine], active: OpaEngine, token: str) -> None:
    stranger = OpaEngine(pair[0].url, token, activation_s=0.1)
    with pytest.raises(PolicyUnavailable, match="OPA answered 401"):
        stranger.activate("pol_1", bundle("pol_1"))
    stranger.close()
    active.ping()


def test_an_opa_whose_certificate_nobody_vouches_for_is_told_nothing(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(now() - timedelta(1)).not_valid_after(now() + timedelta(1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    kept = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "opa.pem").write_bytes(kept + made.sign(key, SHA256()).public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "opa.pem")
    heard: list[bytes] = []

    def pretend(listening: socket.socket) -> None:
        with suppress(OSError), listening.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as connection:
            heard.append(connection.recv(1000))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=pretend, args=(listening,))
        thread.start()
        engine = OpaEngine(f"https://127.0.0.1:{listening.getsockname()[1]}", TOKEN)
        engine._expected = "pol_1"
        with pytest.raises(PolicyUnavailable, match="SSLError"):
            engine.evaluate(facts())
        thread.join(5)
    assert heard == []


def test_several_threads_may_ask_at_once(active: OpaEngine) -> None:
    answers: list[bool] = []

    def ask() -> None:
        for number in range(20):
            given = facts() if number % 2 else {}
            answers.append(active.evaluate(given).document["allow"] is bool(number % 2))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 80


def test_a_killed_opa_denies_and_answers_again_by_the_same_revision(opa_binary: Path) -> None:
    with running(opa_binary) as (opa, engine):
        engine.activate("pol_70", bundle("pol_70"))
        opa.kill()
        started = time.monotonic()
        with pytest.raises(PolicyUnavailable):
            engine.evaluate(facts())
        assert time.monotonic() - started < 1.5
        opa.start()
        _until_it_answers(engine)
        assert engine.evaluate(facts()).revision == "pol_70"


def test_an_opa_that_comes_late_is_believed_once_it_has_the_revision(opa_binary: Path) -> None:
    with running(opa_binary) as (opa, engine):
        opa.kill()
        engine._activation_s = 0.2
        with pytest.raises(PolicyUnavailable, match="has not taken"):
            engine.activate("pol_80", bundle("pol_80"))
        opa.start()
        _until_it_answers(engine)
        assert engine.evaluate(facts()).revision == "pol_80"


def test_a_port_where_nobody_listens_denies_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    _denies_in_time(f"http://127.0.0.1:{port}")


def test_a_server_that_never_answers_denies_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _denies_in_time(f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_proxies_of_the_environment_do_not_get_the_token(monkeypatch: pytest.MonkeyPatch, active: OpaEngine) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    active._idle.get_nowait().close_connection()
    assert active.evaluate(facts()).document["allow"] is True


def _denies_in_time(url: str) -> None:
    engine = OpaEngine(url, TOKEN, activation_s=0.0)
    started = time.monotonic()
    with pytest.raises(PolicyUnavailable):
        engine.activate("pol_1", bundle("pol_1"))
    with pytest.raises(PolicyUnavailable, match="did not answer"):
        engine.evaluate(facts())
    # Two questions, each with at most a second, and a machine that does other things.
    assert time.monotonic() - started < 3
    engine.close()


def _activate_quickly(engine: OpaEngine, revision: str, modules: dict[str, str]) -> None:
    """Activate what never gives a usable answer, without the whole wait: OPA has it when it says its revision."""
    content = bundle(revision, modules, {})
    engine._expected = revision
    engine.bundles.serve(Served(revision, content))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            engine.ping()
        except PolicyUnavailable as error:
            if "another revision" not in str(error):
                raise
        time.sleep(0.02)


def _until_it_answers(engine: OpaEngine) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            return engine.ping()
        except PolicyUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)

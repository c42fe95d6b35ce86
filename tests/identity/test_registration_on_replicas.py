"""Registration on both databases, by two replicas at once: nothing is counted twice, no token is good twice over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from joserfc.jwk import ECKey
from sqlalchemy import func, select

from gateway.database import Database, now
from gateway.errors import ExchangeError
from gateway.identity import onboarding, organizations, registration_tokens
from gateway.identity.client_metadata import MetadataRefused
from gateway.identity.models import Client, RegistrationToken
from gateway.identity.principal import Principal
from gateway.identity.published_keys import PublishedKeys
from gateway.identity.registration import NotAuthorized, Registered, Registration
from gateway.keys import Keys, write_keys
from gateway.outward import Outward
from tests.databases import database
from tests.identity.registering import SCOPES, by_key

__all__ = ["database"]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return write_keys(tmp_path / "keys.json")


@pytest.fixture
def replicas(database: Database, keys: Keys) -> Iterator[list[Registration]]:
    """Two, each with connections of its own."""
    own = [Database(database.engine.url.render_as_string(hide_password=False)) for _ in range(2)]
    yield [Registration(each, keys, Outward(), PublishedKeys(Outward())) for each in own]
    for each in own:
        each.close()


def token_of(database: Database, keys: Keys, uses: int) -> str:
    with database.transaction() as session:
        organization = organizations.make(session, None, name="Partner", kind="partner", contact=None)
        organization.standing = "approved"
        until = now() + timedelta(hours=1)
        made = registration_tokens.make(
            session, keys.secret("client_secret"), None, organization, scopes=SCOPES, uses=uses, until=until, approved=False
        )
        return made[1]


def at_once(acts: Sequence[Callable[[], Registered]]) -> tuple[list[Registered], list[Exception]]:
    """What each act gave, all begun at the same moment."""
    together, done, failed = threading.Barrier(len(acts)), [], []

    def run(act: Callable[[], Registered]) -> None:
        together.wait()
        try:
            done.append(act())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            failed.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done, failed


def test_one_use_makes_one_client(database: Database, keys: Keys, replicas: list[Registration]) -> None:
    token = token_of(database, keys, 1)
    acts = [partial(each.register, token, by_key(ECKey.generate_key("P-256"))) for each in replicas * 3]
    done, failed = at_once(acts)
    assert len(done) == 1
    assert {type(error) for error in failed} == {NotAuthorized}
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Client)) == 1
        assert session.scalars(select(RegistrationToken.used)).one() == 1


def test_of_two_who_use_one_token_at_once_one_has_the_next(database: Database, keys: Keys, replicas: list[Registration]) -> None:
    client = replicas[0].register(token_of(database, keys, 1), by_key(ECKey.generate_key("P-256")))
    name, token = client.client.id, client.token
    done, failed = at_once([partial(each.read, name, token) for each in replicas])
    # Both were answered, as the same token may be sent again; of the two that they got one is the successor.
    assert (len(done), failed) == (2, [])
    good = []
    for answer in done:
        try:
            good.append(replicas[0].read(name, answer.token))
        except NotAuthorized:
            continue
    assert len(good) == 1
    with pytest.raises(NotAuthorized):
        replicas[1].read(name, token)


def test_client_changes_and_removes_itself(database: Database, keys: Keys, replicas: list[Registration]) -> None:
    first, second = replicas
    made = first.register(token_of(database, keys, 1), by_key(ECKey.generate_key("P-256"), contacts=["Ünicode ☃"]))
    name = made.client.id
    changed = second.change(name, made.token, by_key(ECKey.generate_key("P-256"), client_id=name, scope="catalog:read"))
    assert (changed.client.scopes, changed.client.standing) == (["catalog:read"], "pending")
    with pytest.raises(MetadataRefused):
        first.change(name, changed.token, {"client_id": name, "scope": "events:read"})
    first.remove(name, changed.token)
    with pytest.raises(NotAuthorized):
        second.read(name, changed.token)


def test_claim_that_is_sent_twice_at_once_gets_one_token(database: Database, keys: Keys) -> None:
    key = keys.secret("client_secret")
    with database.transaction() as session:
        operating = organizations.make(session, None, name="City", kind="department", contact=None, operates=True)
        asked, claim = onboarding.ask(session, key, name="Acme", contact="c", intent="i", domain="acme.example")
    operator = Principal("cli_1", operating.id, frozenset(), frozenset({"operator"}), frozenset(), False, now(), "tok_1")
    with database.transaction() as session:
        waiting = onboarding.waiting(session, asked.id)
        assert waiting is not None
        onboarding.approve(session, operator, waiting)
    together, got = threading.Barrier(4), []

    def use() -> None:
        together.wait()
        try:
            with database.transaction() as session:
                onboarding.use_claim(session, key, asked.id, claim)
        except ExchangeError as error:
            got.append(error.code)
        else:
            got.append("token")

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == ["claim_invalid"] * 3 + ["token"]

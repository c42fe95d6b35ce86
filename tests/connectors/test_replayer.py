"""The replayer is a connector like any partner's: a client, a dataset, and the HTTP API."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from connectors.client import Client
from connectors.environment import from_environment
from connectors.replayer import replay
from connectors.sources import transit_feed
from tests.connectors.recorded import Recorded, as_json, token


def test_the_recorded_feed_is_published_in_its_order_and_shortened_time(server: Recorded, open_client: Callable[..., Client]) -> None:
    snapshots = [changed for _, changed in transit_feed.replay()]
    server.give("/oauth/token", token("t"))
    server.give("/v1/datasets/feed/events", *[as_json({"accepted": len(changed), "positions": []}, status=201) for changed in snapshots])
    waited: list[float] = []
    told = list(replay(open_client(secret="hidden"), "feed", speed=60, sleep=waited.append))
    assert [snapshot.changed for snapshot in told] == [len(changed) for changed in snapshots]
    assert [sum(batch.accepted for batch in snapshot.published) for snapshot in told] == [len(changed) for changed in snapshots]
    recorded = [wait * 60 for wait, _ in transit_feed.replay(60)]
    assert [snapshot.after for snapshot in told] == pytest.approx(recorded)
    assert sum(recorded) > 200
    # Nothing waited here, so that each wait is to the moment since the start.
    assert waited[-1] == pytest.approx(sum(recorded) / 60, abs=1)


def test_a_client_from_the_environment_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXCHANGE_URL", raising=False)
    with pytest.raises(ValueError, match="EXCHANGE_URL"):
        from_environment()
    monkeypatch.setenv("EXCHANGE_URL", "https://exchange.example")
    monkeypatch.setenv("EXCHANGE_CLIENT_ID", "cli_1")
    with pytest.raises(ValueError, match="EXCHANGE_CLIENT_KEY_FILE"):
        from_environment()
    monkeypatch.setenv("EXCHANGE_ADDRESS", "http://127.0.0.1:8081")
    with from_environment(anonymous=True) as client:
        assert client.credentials is None
        assert str(client.http.base_url).rstrip("/") == "http://127.0.0.1:8081"

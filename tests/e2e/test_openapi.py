"""The OpenAPI document against what answers: two thousand generated requests, and no server error."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.district import District
from tests.e2e.wire import assert_calm
from tests.engines import Engines
from tests.gateway import READER, Gateway

SEED = 1123
LEAST_CASES = 2000
EXAMPLES = 18
"""Generated requests an operation at most, beside those that its schema's corners ask for."""
COUNTED = re.compile(r'^exchange_requests_total\{method="(\w+)",route="([^"]+)",status="(\d+)"\} ([0-9.e+]+)$', re.MULTILINE)


def answered(gateway: Gateway) -> Counter[tuple[str, str, int]]:
    """How many requests the gateway has answered, by method, route and status: its own account."""
    with urllib.request.urlopen(f"{gateway.admin_url}/metrics/", timeout=5) as answer:
        text = answer.read().decode()
    return Counter({(method, route, int(status)): int(float(count)) for method, route, status, count in COUNTED.findall(text)})


@pytest.fixture
def embedded_gateway(engine_folder: Path, tmp_path: Path) -> Iterator[Gateway]:
    """On the embedded engines whatever set is chosen: what is tried here is what the gateway makes of requests."""
    with Gateway(Engines(engine_folder / "openapi"), tmp_path / "gateway", {"EXCHANGE_ANONYMOUS_REQUESTS_PER_MINUTE": "100000"}) as running:
        yield running


@pytest.mark.timeout(240)
def test_two_thousand_generated_requests_meet_no_server_error(embedded_gateway: Gateway, tmp_path: Path) -> None:
    gateway = embedded_gateway
    district, operator = District(gateway), gateway.operator()
    district.contract(gateway.partner("Start-up", scopes=READER))
    assert operator.credentials is not None
    before = answered(gateway)
    token = operator.credentials.token(operator.http)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json"),
        *("--header", f"Authorization:Bearer {token}", "--seed", str(SEED), "--max-examples", str(EXAMPLES)),
        *("--phases", "examples,coverage,fuzzing", "--checks", "not_a_server_error", "--continue-on-failure", "--workers", "1"),
        *("--request-timeout", "35", "--no-shrink", "--generation-database", "none", "--no-color", "--warnings", "off"),
    ]

    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    sent = answered(gateway) - before
    assert not [(key, count) for key, count in sent.items() if key[2] >= 500]
    assert sum(sent.values()) >= LEAST_CASES, done.stdout[-3000:]
    assert done.returncode == 0, done.stdout[-5000:]
    assert len({(method, route) for method, route, _ in sent}) >= 50
    assert_calm(gateway)


@pytest.mark.timeout(240)
def test_generated_requests_of_a_client_that_proves_itself_meet_no_server_error_at_oauths_endpoints(
    engine_folder: Path, tmp_path: Path
) -> None:
    calm = {"EXCHANGE_FAILED_LOGINS_PER_MINUTE": "1000000", "EXCHANGE_CLIENT_REQUESTS_PER_MINUTE": "1000000"}
    calm["EXCHANGE_ORGANIZATION_REQUESTS_PER_MINUTE"] = "1000000"
    with Gateway(Engines(engine_folder / "oauth"), tmp_path / "gateway", calm) as gateway:
        pair = base64.b64encode(f"{gateway.made.client_id}:{gateway.made.client_secret}".encode()).decode()
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json", "--include-path-regex", "^/oauth/"),
            *("--header", f"Authorization:Basic {pair}", "--seed", str(SEED), "--max-examples", "60"),
            *("--phases", "examples,coverage,fuzzing", "--checks", "not_a_server_error", "--continue-on-failure", "--workers", "1"),
            *("--no-shrink", "--generation-database", "none", "--no-color", "--warnings", "off"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        sent = answered(gateway)
        assert not [(key, count) for key, count in sent.items() if key[2] >= 500], done.stdout[-3000:]
        for path in ("/oauth/token", "/oauth/introspect", "/oauth/revoke"):
            assert sum(count for (_, route, status), count in sent.items() if route == path and status in {200, 400}) > 50, done.stdout[
                -3000:
            ]
        assert_calm(gateway)

"""What a sealed field costs beyond one in clear, when it is stored and when it is opened for a lens."""

from __future__ import annotations

import secrets
import time
from statistics import median
from typing import Any, cast

import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from consent.sealing import OpenedKey, place_of, seal
from gateway.streams.sealing import Opening, SubjectKeys
from tests.benchmarks.measured import Measured
from tests.benchmarks.stage import Stage

SUBJECTS = 1000
EVENTS = 20_000
REPEATS = 5
PATH = "/age_band"


def seal_and_open(_stage: Stage) -> Measured:
    """One field of each event, under keys of many subjects that are in memory, as they are for whoever is seen again."""
    place = place_of("exchange.port-credit-footfall.5eaf00d5", PATH)
    srefs = [secrets.token_urlsafe(16) for _ in range(SUBJECTS)]
    keys = {sref: OpenedKey(secrets.token_urlsafe(12), AESGCM(secrets.token_bytes(32))) for sref in srefs}
    # `open` is given the keys; that which looks them up is not asked.
    opening = Opening("port-credit-footfall", ((("age_band",), place),), cast(SubjectKeys, None))
    sealing, opened = [], []
    for _ in range(REPEATS):
        began = time.perf_counter()
        stored = [seal(keys[srefs[n % SUBJECTS]], place, orjson.dumps("25-34")) for n in range(EVENTS)]
        sealing.append((time.perf_counter() - began) / EVENTS)
        events = [_event(srefs[n % SUBJECTS], value) for n, value in enumerate(stored)]
        began = time.perf_counter()
        shown = [opening.open(event, srefs[n % SUBJECTS], keys) for n, event in enumerate(events)]
        opened.append((time.perf_counter() - began) / EVENTS)
        if any(event["data"]["age_band"] != "25-34" for event in shown):
            raise ValueError("a field did not open")
    spread = ", ".join(f"{min(took) * 1e6:.1f} to {max(took) * 1e6:.1f} µs" for took in (sealing, opened))
    note = f"{spread}; {EVENTS:,} events of {SUBJECTS:,} subjects"
    return Measured({"seal_us": median(sealing) * 1e6, "open_us": median(opened) * 1e6}, note)


def _event(sref: str, value: Any) -> dict[str, Any]:
    return {"id": "1", "source": "/s", "type": "visit", "data": {"visitor": sref, "zone": "harbour", "age_band": value}}

"""Rows of the audit log: how fast entries become durable, what that adds to a read, proofs of ten million, and searching a million."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import psycopg

from gateway.audit.merkle import HASH, inclusion_proof, whole_root
from gateway.audit.note import log_signer
from gateway.audit.record import Entry, Ranges
from gateway.audit.release import AuditWriter
from gateway.audit.sequencer import Sequencer
from gateway.audit.tiles import WIDTH, Tiles, tile_path
from gateway.database import Database
from gateway.key_encryption import KeyEncryptionKeys
from gateway.keys import write_keys
from gateway.migrations import upgrade
from gateway.serve import calm_the_collector, share_the_interpreter
from gateway.settings import Settings
from tests.benchmarks.live import rate_with_and_without
from tests.benchmarks.material import SEED
from tests.benchmarks.measured import Measured, percentile
from tests.benchmarks.stage import Stage
from tests.engines.process import free_port
from tests.gateway import Gateway

CALLERS, IN_FLIGHT = 16, 100
ENTRIES = 96_000
"""Of a round."""
ROUNDS = 3
STREAM_ROUNDS = 24
"""Rounds differ by more than what they are to tell: in one run of six they went from 0.71 to 1.17."""
SMALL, LARGE = 100_000, 1_000_000
RELEASES = 300
"""Of each of the callers, one after another."""
LEAVES = 10_000_000
PROOFS = 2_000
SEARCHES = 600
CONTRACTS = 500


def append(stage: Stage) -> Measured:
    """Durable entries a second, of callers that each have a hundred in flight; with a million there, against a hundred thousand."""
    with _database(stage) as database:
        writer = AuditWriter(database)
        writer.start()
        entries = [_entry(number) for number in range(ENTRIES)]
        share_the_interpreter()  # as a gateway does
        calm_the_collector()
        asyncio.run(_append(writer, entries[: ENTRIES // 4]))
        _load(database, SMALL)
        few = [asyncio.run(_append(writer, entries)) for _ in range(ROUNDS)]
        _load(database, LARGE - SMALL)
        many = [asyncio.run(_append(writer, entries)) for _ in range(ROUNDS)]
        writer.stop()
    note = f"rounds {', '.join(f'{each:,.0f}' for each in few)}; with a million {', '.join(f'{each:,.0f}' for each in many)}"
    return Measured({"audit_append_per_s": median(few), "audit_1m_vs_100k": median(many) / median(few)}, note)


def added(stage: Stage) -> Measured:
    """What a read waits for its entry: `AuditWriter.release` of sixteen readers, each one after another, while the log grows."""
    with _database(stage) as database:
        settings = Settings(environment="development", data_dir=stage.folder / f"log-{free_port()}")
        keys = write_keys(settings.resolved_key_file)
        sequencer = Sequencer(database, Tiles(settings.resolved_audit_dir), log_signer(keys, KeyEncryptionKeys.of(settings), settings))
        writer = AuditWriter(database)
        writer.start()
        sequencer.start()
        share_the_interpreter()
        calm_the_collector()
        times = asyncio.run(_release(writer))
        sequencer.stop()
        writer.stop()
    return Measured({"audit_added_p99_ms": percentile(times, 0.99)}, f"p50 {median(times):.2f} ms")


def streams(stage: Stage) -> Measured:
    """The gateway as it is, against one whose streams write no entries, and which grows no log."""
    return rate_with_and_without(stage, "stream_with_vs_without_audit", ("-m", "tests.benchmarks.unaudited"), STREAM_ROUNDS)


def proofs(stage: Stage) -> Measured:
    """Audit paths of random leaves of ten million, from tiles of which memory keeps few."""
    tiles = Tiles(stage.folder / "ten-million")
    stage.say(f"{LEAVES:,} hashes are made into tiles")
    row = _tiles_of_chance(tiles)
    chance = random.Random(SEED)
    times = []
    for index in [chance.randrange(LEAVES) for _ in range(PROOFS)]:
        began = time.perf_counter()
        inclusion_proof(index, LEAVES, tiles.nodes(LEAVES))
        times.append((time.perf_counter() - began) * 1000)
    return Measured({"audit_proof_ms": percentile(times, 0.99)}, f"p50 {median(times):.2f} ms, the slowest of 100; {row:,} tiles")


def search(stage: Stage) -> Measured:
    """Pages of 50 by what auditors search by, at a gateway of its own with a million entries."""
    gateway = Gateway(stage.engines, stage.folder / f"searched-{free_port()}", {"EXCHANGE_CLIENT_REQUESTS_PER_MINUTE": "10000000"})
    try:
        database = Database(gateway.database_url)
        stage.say(f"{LARGE:,} entries are loaded")
        _load(database, LARGE)
        database.close()
        gateway.start()
        auditor, chance, times = gateway.operator(), random.Random(SEED), []
        for query in itertools.islice(_queries(chance), SEARCHES):
            after = chance.choice(("", f"&after={chance.randrange(LARGE)}"))
            began = time.perf_counter()
            auditor.get(f"/v1/audit/entries?{query}{after}")
            times.append((time.perf_counter() - began) * 1000)
    finally:
        gateway.close()
    return Measured({"audit_search_p99_ms": percentile(times, 0.99)}, f"p50 {median(times):.1f} ms")


def _queries(chance: random.Random) -> Iterator[str]:
    while True:
        number = chance.randrange(CONTRACTS)
        since = f"2026-01-{chance.randrange(1, 12):02}T{chance.randrange(24):02}:00:00Z"
        yield from (
            f"contract=con_{number}",
            f"contract=con_{number}&kind=decision",
            f"organization=org_{number % 50}",
            f"actor=cli_{number}&since={since}",
            f"dataset=dataset-{number % 20}&kind=decision",
            f"kind=policy&since={since}",
            f"decision=dec_{chance.randrange(5000)}",
            f"since={since}",
            f"purpose=transit-planning&since={since}",
        )


def _entry(number: int) -> Entry:
    one = number % CONTRACTS
    return Entry(
        kind="release",
        action="deliver",
        actor=f"cli_01kaqv8f7e9n3p5r7t9w{one:06}",
        organization=f"org_01kaqv8f7e9n3p5r7t9w{one % 50:06}",
        dataset=f"dataset-{one % 20}",
        contract=f"con_01kaqv8f7e9n3p5r7t9w{one:06}",
        purpose="transit-planning",
        decision=f"dec_01kaqv8f7e9n3p5r7t9w{number % 5000:06}",
        revision="pol_01kaqv8f7e9n3p5r7t9w1y3a5c",
        change=4711,
        ranges=Ranges({0: (number, number + 100)}, {0: number}),
        closed=(100, 65_000),
        provider=f"org_01kaqv8f7e9n3p5r7t9w{one % 7:06}",
        consumer=f"org_01kaqv8f7e9n3p5r7t9w{one % 50:06}",
    )


async def _append(writer: AuditWriter, entries: list[Entry]) -> float:
    """Entries a second."""
    each = len(entries) // CALLERS

    async def call(first: int) -> None:
        for at in range(first, first + each, IN_FLIGHT):
            await asyncio.gather(*map(writer.release, entries[at : at + IN_FLIGHT]))

    began = time.perf_counter()
    await asyncio.gather(*(call(caller * each) for caller in range(CALLERS)))
    return each * CALLERS / (time.perf_counter() - began)


async def _release(writer: AuditWriter) -> list[float]:
    """Milliseconds."""
    times: list[float] = []

    async def read(caller: int) -> None:
        for number in range(RELEASES):
            began = time.perf_counter()
            await writer.release(_entry(caller * RELEASES + number))
            times.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*map(read, range(CALLERS)))
    return times


@contextmanager
def _database(stage: Stage) -> Iterator[Database]:
    url = stage.engines.database_url()
    upgrade(url)
    database = Database(url)
    try:
        yield database
    finally:
        database.close()


def _load(database: Database, count: int) -> None:
    """Entries as their columns would have them, without places in the tree: one a second, of which one in a thousand is rare."""
    url = database.engine.url.render_as_string(hide_password=False).replace("+psycopg", "", 1)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_ENTRIES, {"count": count})
        connection.execute("VACUUM ANALYZE audit_entries")


_ENTRIES = f"""
INSERT INTO audit_entries
  (at, kind, actor, organization, provider, consumer, dataset, contract, purpose, decision, entry, salt, leaf, leaf_hash)
SELECT timestamptz '2026-01-01' + n * interval '1 second',
  CASE WHEN n %% 1000 = 0 THEN 'policy' WHEN n %% 20 = 0 THEN 'decision' ELSE 'release' END,
  'cli_' || n %% {CONTRACTS}, 'org_' || n %% 50, 'org_' || n %% 7, 'org_' || n %% 50, 'dataset-' || n %% 20, 'con_' || n %% {CONTRACTS},
  'transit-planning', 'dec_' || n %% 5000,
  convert_to('{{"action":"deliver","n":' || n || ',"padding":"' || repeat('x', 400) || '"}}', 'UTF8'),
  sha256(n::text::bytea), convert_to(repeat('y', 130), 'UTF8'), sha256(('leaf' || n)::bytea)
FROM generate_series(1, %(count)s) AS n
"""


def _tiles_of_chance(tiles: Tiles) -> int:
    """The tiles of a tree of `LEAVES` random hashes, written without waiting for the disk; how many."""
    written, row = 0, [os.urandom(HASH) for _ in range(LEAVES)]
    for level in itertools.count():
        above = []
        for at in range(0, len(row), WIDTH):
            hashes = row[at : at + WIDTH]
            place = tiles.folder / tile_path(level, at // WIDTH, len(hashes))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"".join(hashes))
            written += 1
            if len(hashes) == WIDTH:
                above.append(whole_root(hashes))
        if not above:
            return written
        row = above
    raise AssertionError

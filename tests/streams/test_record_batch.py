"""Our record batches against kafka-python's own reader and writer."""

from __future__ import annotations

import struct

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from gateway.streams.log import Record
from gateway.streams.record_batch import CorruptBatch, UnusualBatch, decode, decode_from, encode

Keyed = list[tuple[bytes | None, bytes]]
LOG_APPEND_TIME = 8
TIME = 1_790_000_000_123

keyed = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=200),
        st.binary(max_size=300) | st.sampled_from([8190, 8191, 8192, 1_048_575, 1_048_576]).map(bytes),
    ),
    min_size=1,
    max_size=200,
)


def as_stored(batch: bytes, *, base: int = 0, attributes: int = LOG_APPEND_TIME) -> bytes:
    """What the broker makes of a batch: it sets the offset, the attribute, the time and the checksum."""
    stored = bytearray(batch)
    struct.pack_into(">q", stored, 0, base)
    struct.pack_into(">h", stored, 21, attributes)
    struct.pack_into(">q", stored, 35, TIME)
    struct.pack_into(">I", stored, 17, crc32c(stored[21:]))
    return bytes(stored)


def of_library(records: Keyed, headers: list[tuple[str, bytes]] | None = None) -> bytes:
    builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=1 << 30)
    for key, value in records:
        builder.append(timestamp=1, key=key, value=value, headers=headers or [])
    builder.close()
    return bytes(builder.buffer())


def refuse(_: bytes) -> list[Record]:
    raise AssertionError("a plain batch was taken for an unusual one")


@given(keyed)
def test_the_library_reads_what_we_write(records: Keyed) -> None:
    batch = next(MemoryRecords(encode(records, producer_id=7, producer_epoch=1, sequence=2**31 - 1)))
    assert batch.validate_crc()
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (7, 1, 2**31 - 1)
    assert [(each.offset, each.key, each.value, each.headers) for each in batch] == [
        (offset, key, value, []) for offset, (key, value) in enumerate(records)
    ]


@given(keyed, st.integers(0, 2**62), st.integers(0, 220))
def test_we_read_what_the_library_writes_from_any_offset(records: Keyed, base: int, skipped: int) -> None:
    buffer = as_stored(of_library(records), base=base)
    found, reached = decode_from(buffer, base + skipped, refuse)
    assert found == [(base + place, TIME, *record) for place, record in enumerate(records)][skipped:]
    assert reached == max(base + len(records), base + skipped)


def test_a_batch_that_the_broker_cut_short_is_left_out() -> None:
    whole = as_stored(of_library([(None, b"first")] * 3))
    cut = as_stored(of_library([(None, b"second")] * 3), base=3)
    for length in range(len(cut)):
        found, reached = decode_from(whole + cut[:length], 0, refuse)
        assert (len(found), reached) == (3, 3)


def test_a_flipped_bit_is_found() -> None:
    good = as_stored(of_library([(b"key", b"value")] * 3))
    for place in range(21, len(good)):
        bad = bytearray(good)
        bad[place] ^= 1
        with pytest.raises((CorruptBatch, UnusualBatch)):
            decode(bytes(bad), 0, len(bad), [])


def test_a_wrong_structure_under_a_right_checksum_is_corrupt() -> None:
    good = of_library([(b"key", b"value")] * 3)
    for count in (2, 4, 1000):
        bad = bytearray(good)
        struct.pack_into(">i", bad, 57, count)
        with pytest.raises(CorruptBatch):
            decode(as_stored(bytes(bad)), 0, len(bad), [])


@pytest.mark.parametrize("attributes", [0, LOG_APPEND_TIME | 1, LOG_APPEND_TIME | 16, LOG_APPEND_TIME | 32])
def test_other_kinds_of_batches_go_to_the_library(attributes: int) -> None:
    stored = as_stored(of_library([(None, b"v")]), attributes=attributes)
    given_over: list[bytes] = []

    def unusual(batch: bytes) -> list[Record]:
        given_over.append(batch)
        return [(0, 5, None, b"theirs")]

    assert decode_from(stored, 0, unusual) == ([(0, 5, None, b"theirs")], 1)
    assert given_over == [stored]


def test_headers_and_missing_values_go_to_the_library_and_leave_nothing_behind() -> None:
    plain = of_library([(None, b"v")] * 2)
    without_value = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=1000)
    without_value.append(timestamp=1, key=b"k", value=None)
    without_value.close()
    for odd in (of_library([(None, b"v")] * 2, headers=[("name", b"x")]), bytes(without_value.buffer())):
        buffer = as_stored(plain) + as_stored(odd, base=2)
        records, reached = decode_from(buffer, 0, lambda _: [(2, 5, None, b"theirs")])
        assert [offset for offset, *_ in records] == [0, 1, 2]
        assert reached > 2

"""Kafka's record batch, version 2, in its plainest form: no compression, no headers, no transaction, the broker's own timestamps.

These are the batches of our own topics. The loops are written out because every event passes here twice: encoding takes a fifth and
decoding a fifth of the time of kafka-python's own. Format: https://kafka.apache.org/documentation/#recordbatch
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from crc32c import crc32c

from gateway.streams.log import Record

_HEADER = struct.Struct(">qiibIhiqqqhii")
# The header in two parts, because the checksum stands in the middle and covers what follows it.
_BEFORE_CHECKSUM = struct.Struct(">qiibI")
_AFTER_CHECKSUM = struct.Struct(">hiqqqhii")
_LENGTH_END = 12
_MAGIC = 2
_LOG_APPEND_TIME = 0x08


class CorruptBatch(Exception):
    """The checksum or the structure of a batch is wrong."""


class UnusualBatch(Exception):
    """The batch is not in the plain form: compressed, with headers, of a transaction, or with the producer's own timestamps."""


def _varint(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SMALL = 4096
_VARINTS = [_varint(number) for number in range(_SMALL)]


def encode(records: Iterable[tuple[bytes | None, bytes]], *, producer_id: int, producer_epoch: int, sequence: int) -> bytes:
    """One batch of (key, value) records, as a produce request carries it. The broker sets offsets and timestamps."""
    varints, small = _VARINTS, _SMALL
    parts: list[bytes] = []
    add = parts.append
    count = 0
    for key, value in records:
        length = len(value)
        head = b"\0\0" + (varints[count] if count < small else _varint(count))  # attributes, timestamp delta, offset delta
        if key is None:
            head += b"\1"
        else:
            key_length = len(key)
            head += (varints[key_length] if key_length < small else _varint(key_length)) + key
        head += varints[length] if length < small else _varint(length)
        size = len(head) + length + 1
        add((varints[size] if size < small else _varint(size)) + head)
        add(value)
        add(b"\0")  # no headers
        count += 1
    body = b"".join(parts)
    after = _AFTER_CHECKSUM.pack(0, count - 1, 0, 0, producer_id, producer_epoch, sequence, count)
    checksum = crc32c(body, crc32c(after))
    length = _HEADER.size - _LENGTH_END + len(body)
    return _BEFORE_CHECKSUM.pack(0, length, 0, _MAGIC, checksum) + after + body


def decode_from(buffer: bytes, offset: int, unusual: Callable[[bytes], Iterable[Record]]) -> tuple[list[Record], int]:
    """The records of a fetch from `offset` on, and the offset after the last batch that was read, which may hold no records.

    `unusual` decodes a batch that is not in the plain form. The broker may cut the last batch short; it is left out. Raises `CorruptBatch`.
    """
    records: list[Record] = []
    reached = offset
    start = 0
    while len(buffer) - start >= _HEADER.size:
        base, length, _, _, _, _, last_delta, *_ = _HEADER.unpack_from(buffer, start)
        end = start + _LENGTH_END + length
        if end > len(buffer):
            break
        if base + last_delta >= offset:
            try:
                decode(buffer, start, end, records)
            except UnusualBatch:
                records.extend(unusual(buffer[start:end]))
            reached = base + last_delta + 1
        start = end
    before = 0
    while before < len(records) and records[before][0] < offset:  # the batch in which `offset` stands begins earlier
        before += 1
    return (records[before:] if before else records), reached


def decode(buffer: bytes, start: int, end: int, records: list[Record]) -> None:
    """Append the records of the batch at `buffer[start:end]` to `records`.

    Raises `UnusualBatch` before anything is appended, and `CorruptBatch`.
    """
    base, _, _, magic, checksum, attributes, _, _, timestamp, _, _, _, count = _HEADER.unpack_from(buffer, start)
    if magic != _MAGIC or attributes != _LOG_APPEND_TIME:
        raise UnusualBatch
    if crc32c(memoryview(buffer)[start + _BEFORE_CHECKSUM.size : end]) != checksum:
        raise CorruptBatch(f"checksum of the batch at offset {base}")
    kept = len(records)
    try:
        at = _decode_plain(buffer, start + _HEADER.size, base, timestamp, count, records)
    except UnusualBatch:
        del records[kept:]
        raise
    except IndexError:
        at = -1
    if at != end:
        raise CorruptBatch(f"structure of the batch at offset {base}")


def _decode_plain(  # noqa: C901 - calls in this loop would double its time
    buffer: bytes, at: int, base: int, timestamp: int, count: int, records: list[Record]
) -> int:
    """The hot loop, with the common varints written out; returns the place after the last record."""
    add = records.append
    for _ in range(count):
        while buffer[at] > 127:  # the record's length: what is in it tells as much
            at += 1
        at += 2  # and its attributes
        while buffer[at] > 127:  # the timestamp delta: the whole batch has the broker's time
            at += 1
        delta = buffer[at + 1]
        at += 2
        if delta > 127:
            delta, at = _continued(buffer, delta, at)
        key_length = buffer[at]
        at += 1
        if key_length == 1:
            key = None
        else:
            if key_length > 127:
                key_length, at = _continued(buffer, key_length, at)
            stop = at + (key_length >> 1)
            key = buffer[at:stop]
            at = stop
        length = buffer[at]
        at += 1
        if length > 127:
            byte = buffer[at]
            at += 1
            if byte < 128:  # 64 to 8,191 bytes: nearly every event
                length = length & 127 | byte << 7
            else:
                length, at = _continued(buffer, length, at - 1)
        elif length & 1:
            raise UnusualBatch  # no value at all
        stop = at + (length >> 1)
        if buffer[stop]:
            raise UnusualBatch  # headers
        add((base + (delta >> 1), timestamp, key, buffer[at:stop]))
        at = stop + 1
    return at


def _continued(buffer: bytes, first: int, at: int) -> tuple[int, int]:
    """The rest of a varint whose first byte was `first`, still zigzagged, and the place after it."""
    number, shift = first & 127, 7
    while True:
        byte = buffer[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7

"""The observer, which judges barriers, finds what came too late: by the byte, in part, and on a later connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.e2e.listener import until
from tests.replicas.observer import Observer, Subscriber

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Gateway:
    """The other side of a stream, by hand."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.observer = Observer()
        self.subscriber = Subscriber("con_1", lambda: "token", [self._listener.getsockname()], 0)
        self.observer.watch(self.subscriber)

    def accept(self) -> socket.socket:
        """The subscriber's next connection, its request read and answered."""
        self._listener.settimeout(10)
        made, _ = self._listener.accept()
        assert made.recv(65536).endswith(b"\r\n\r\n")
        made.sendall(HEAD)
        return made

    def wait_for_bytes(self, count: int) -> None:
        until(lambda: self.observer.shore()[self.subscriber.taps[-1]] == count, f"{count} bytes")

    def close(self) -> None:
        self._listener.close()


def chunk(*identifiers: str) -> bytes:
    text = b"".join(b'data: {"specversion":"1.0","id":"%b"}\n\n' % identifier.encode() for identifier in identifiers)
    return b"%x\r\n%b\r\n" % (len(text), text)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with closing(Gateway()) as made, made.observer:
        yield made


def test_what_was_acknowledged_before_is_not_beyond_the_shore_and_one_byte_after_it_is(gateway: Gateway) -> None:
    with gateway.accept() as stream:
        before = chunk("person-1-0-a", "person-2-0-b")
        late = chunk("person-1-1-c")
        stream.sendall(before + late[:-3])  # all but the end of the last event, and of its chunk
        gateway.wait_for_bytes(len(HEAD + before + late) - 3)
        shore = gateway.observer.shore()
        assert gateway.observer.beyond(shore, "person-") == []
        stream.sendall(late[-3:])
        until(lambda: gateway.subscriber.count == 3, "all events")
        assert gateway.observer.beyond(shore, "person-1-") == ["person-1-1-c"]
        assert gateway.observer.beyond(shore, "person-2-") == []


def test_a_part_of_an_event_that_is_never_whole_counts(gateway: Gateway) -> None:
    with gateway.accept() as stream:
        shore = gateway.observer.shore()
        late = chunk("person-1-0-a")
        stream.sendall(late[:-5])
        gateway.wait_for_bytes(len(HEAD + late) - 5)
    until(lambda: gateway.subscriber.taps[0].over, "the connection is cut")
    assert gateway.observer.beyond(shore, "person-1-") == ["person-1-0-a"]


def test_a_connection_that_is_made_after_the_shore_is_beyond_it(gateway: Gateway) -> None:
    with gateway.accept() as stream:
        stream.sendall(chunk("person-1-0-a"))
        until(lambda: gateway.subscriber.count == 1, "an event")
        shore = gateway.observer.shore()
    with gateway.accept() as stream:
        stream.sendall(chunk("person-1-0-a"))
        until(lambda: gateway.observer.beyond(shore, "person-1-") == ["person-1-0-a"], "it is found")
        assert gateway.observer.beyond(gateway.observer.shore(), "person-1-") == []


def test_a_stalled_connection_is_read_up_to_what_its_kernel_has(gateway: Gateway) -> None:
    stalled = Subscriber("con_1", lambda: "token", gateway.subscriber.addresses, 0)
    with gateway.accept():
        tap = gateway.observer.stall(stalled)
        assert tap is not None
        with gateway.accept() as stream:
            stream.sendall(chunk("person-1-0-a"))
            until(lambda: tap.acknowledged() > len(HEAD), "it is in the kernel")
            shore = gateway.observer.shore()
            assert tap.heard == []
            gateway.observer.read_on(tap)
            until(lambda: len(tap.heard) == 1, "it is read")
            assert gateway.observer.beyond(shore, "person-1-") == []
            stream.sendall(chunk("person-1-1-b"))
            until(lambda: gateway.observer.beyond(shore, "person-1-") == ["person-1-1-b"], "what came later is found")

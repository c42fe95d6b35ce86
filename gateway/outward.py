"""Outward: the only way in which the exchange calls a URL that others gave it.

A partner names where its keys are published, and could name our own database, a cloud's metadata service or a printer instead. So a URL
must be of a plain form, its name is resolved once, *every* address that it has must be a public one, and the connection goes to an
address that was checked: there is no second resolution that could answer otherwise (OWASP ASVS 5.0, 1.3.6). TLS asks for the name, as
ever. No redirect is followed, no proxy of the environment is used, and time and size are bounded. Synchronous: call it in a worker thread.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import httpcore2

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str], Sequence[str]]
"""All addresses of a name, as text. Raises `OSError`."""

PORTS = frozenset({443, 8443})
LONGEST_URL = 2000
TRIED = 3
"""Addresses of one name that are tried one after another."""
AT_ONCE = 8
"""Calls under way; a further one is refused, so that slow strangers hold few threads."""
MOST_LOOKUPS = 4 * AT_ONCE
"""Names that are looked up, those included for which nobody waits any longer: the system's resolver cannot be told to stop."""

# RFC 3986 and nothing else: what parsers disagree about (backslashes, spaces, letters outside ASCII) is refused before any parser sees it.
PLAIN = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+", re.ASCII)
LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
NAME = re.compile(rf"(?:{LABEL}\.)+{LABEL}", re.ASCII)
# `0x7f.1`, `2130706433`, `017700000001`: what inet_aton takes for an address ends in a number, and no name on the Internet does.
ENDS_IN_A_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)

GLOBAL_UNICAST = ip_network("2000::/3")
"""Of IPv6 this alone, so that v4-mapped (::ffff:0:0/96), NAT64 (64:ff9b::/96), unique local (fc00::/7), link-local and loopback are out."""
NOT_PUBLIC: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            # The IANA registries of special-purpose addresses (RFC 6890), multicast and reserved space included.
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24"),
            *("192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
            # Teredo, ORCHID and other protocols' own; documentation; 6to4, which holds an IPv4 address.
            *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
        ),
    )
)


class OutwardRefused(ValueError):
    """This URL is not called. The message says why in words that its giver may read; no address of ours stands in it."""


class OutwardFailed(Exception):
    """The URL was called, or would have been, and nothing that can be used came. The message may be shown."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that was checked: what to ask for, and the addresses that it may be asked at."""

    url: str
    scheme: str
    host: str
    port: int
    path: str
    addresses: tuple[Address, ...]


def system_resolve(host: str) -> Sequence[str]:
    """All addresses of a name as this machine's resolver has them. Raises `OSError`."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


def is_public(address: Address) -> bool:
    """True for an address of the Internet at large."""
    if isinstance(address, IPv6Address) and address not in GLOBAL_UNICAST:
        return False
    return not any(address in network for network in NOT_PUBLIC if network.version == address.version) and not address.is_multicast


class Outward:
    """Calls URLs of others. Thread-safe.

    `networks` are addresses beside the public ones that may be called, at any port, such as the city's own intranet; `plain_http` lets
    those of them that are loopback be called without TLS. `resolve` is asked once for each call. Seconds are of a whole call.
    """

    def __init__(
        self,
        *,
        networks: Iterable[Network] = (),
        plain_http: bool = False,
        resolve: Resolve = system_resolve,
        trust: ssl.SSLContext | None = None,
        seconds: float = 5.0,
        most_bytes: int = 64 * 1024,
    ) -> None:
        self._networks = tuple(networks)
        self._plain_http = plain_http
        self._resolve = resolve
        self._trust = trust
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self._lookups = threading.BoundedSemaphore(MOST_LOOKUPS)

    def check(self, url: str) -> None:
        """Whether the URL may be called, as its name resolves now. Raises `OutwardRefused`, `OutwardFailed`."""
        self._look_up(url, time.monotonic() + self._seconds)

    def fetch(self, url: str, *, media_types: Sequence[str]) -> bytes:
        """The body of a GET that answered 200 with one of these media types. Raises `OutwardRefused`, `OutwardFailed`."""
        deadline = time.monotonic() + self._seconds
        if not self._places.acquire(blocking=False):
            raise OutwardFailed("Too many addresses are being called at the moment.")
        try:
            return self._get(self._look_up(url, deadline), deadline, media_types)
        finally:
            self._places.release()

    def _look_up(self, url: str, deadline: float) -> Target:
        scheme, host, port, path = read_url(url)
        if not host.startswith("[") and not _is_canonical_ipv4(host):
            _check_name(host)
        literal = host.strip("[]") if host.startswith("[") or _is_canonical_ipv4(host) else None
        texts = [literal] if literal else self._resolved(host, deadline)
        try:
            addresses = tuple(dict.fromkeys(ip_address(text) for text in texts))
        except ValueError as error:
            raise OutwardRefused("names an address that is none") from error
        known = [any(address in network for network in self._networks if network.version == address.version) for address in addresses]
        if not addresses or not all(is_known or is_public(address) for is_known, address in zip(known, addresses, strict=True)):
            raise OutwardRefused("is at an address that is not public")
        if scheme == "http" and not (self._plain_http and all(known) and all(address.is_loopback for address in addresses)):
            raise OutwardRefused("must be https")
        if port not in PORTS and not all(known):
            raise OutwardRefused(f"must be at port {' or '.join(map(str, sorted(PORTS)))}")
        return Target(url, scheme, host, port, path, addresses)

    def _resolved(self, host: str, deadline: float) -> Sequence[str]:
        """In a thread of its own: the system's resolver takes as long as it likes."""
        if not self._lookups.acquire(blocking=False):
            raise OutwardFailed("Too many names are being looked up at the moment.")
        answer: Future[Sequence[str]] = Future()

        def look_up() -> None:
            try:
                answer.set_result(self._resolve(host))
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                answer.set_exception(error)
            finally:
                self._lookups.release()

        threading.Thread(target=look_up, name="outward-lookup", daemon=True).start()
        try:
            return answer.result(timeout=max(0.0, deadline - time.monotonic()))
        except (OSError, UnicodeError, TimeoutError) as error:
            raise OutwardFailed("has a name that does not resolve") from error

    def _get(self, target: Target, deadline: float, media_types: Sequence[str]) -> bytes:
        trust = self._trust or ssl.create_default_context()
        headers = {
            "Host": target.host if target.port == {"https": 443, "http": 80}[target.scheme] else f"{target.host}:{target.port}",
            "Accept": ", ".join(media_types),
            "Accept-Encoding": "identity",
            "User-Agent": "civic-exchange",
            "Connection": "close",
        }
        url = httpcore2.URL(scheme=target.scheme, host=target.host.strip("[]"), port=target.port, target=target.path)
        try:
            with (
                httpcore2.ConnectionPool(ssl_context=trust, network_backend=_Pinned(target.addresses, deadline)) as pool,
                pool.stream("GET", url, headers=list(headers.items())) as response,
            ):
                _check_head(response, media_types, self._most_bytes)
                return self._read(response)
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError) as error:
            raise OutwardFailed("does not answer, or not as HTTP asks") from error

    def _read(self, response: httpcore2.Response) -> bytes:
        body = bytearray()
        for chunk in response.iter_stream():
            body += chunk
            if len(body) > self._most_bytes:
                raise OutwardFailed(f"answers with more than {self._most_bytes} bytes")
        return bytes(body)


def read_url(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port, and path with query of a URL in plain form. Raises `OutwardRefused`."""
    if len(url) > LONGEST_URL or not PLAIN.fullmatch(url):
        raise OutwardRefused("is not a URL (RFC 3986)")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise OutwardRefused("is not a URL (RFC 3986)") from error
    if parts.scheme not in {"https", "http"}:
        raise OutwardRefused("must be https")
    if "@" in parts.netloc:
        raise OutwardRefused("must name no user")
    if "#" in url:
        raise OutwardRefused("must have no fragment")
    if not host or parts.netloc.endswith(":") or port == 0:
        raise OutwardRefused("must name a host")
    if "[" in parts.netloc or "]" in parts.netloc:
        host = f"[{_canonical_ipv6(host)}]"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return parts.scheme, host, port or (443 if parts.scheme == "https" else 80), path


def _canonical_ipv6(host: str) -> str:
    try:
        address = IPv6Address(host)
    except ValueError as error:
        raise OutwardRefused("names an address that is none") from error
    if address.scope_id is not None:
        raise OutwardRefused("is at an address that is not public")
    return str(address)


def _is_canonical_ipv4(host: str) -> bool:
    """Four decimal numbers without leading zeros; every other way to write an address is refused."""
    try:
        return str(IPv4Address(host)) == host
    except ValueError:
        return False


def _check_name(host: str) -> None:
    if ENDS_IN_A_NUMBER.fullmatch(host):
        raise OutwardRefused("must write an address as four decimal numbers, or name a host")
    if host != "localhost" and (len(host) > 253 or not NAME.fullmatch(host)):
        raise OutwardRefused("must name a host in full, in ASCII")


def _check_head(response: httpcore2.Response, media_types: Sequence[str], most_bytes: int) -> None:
    headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
    if 300 <= response.status < 400:
        raise OutwardFailed("answers with a redirect, and none is followed")
    if response.status != 200:
        raise OutwardFailed(f"answers with {response.status}")
    if headers.get(b"content-type", "").partition(";")[0].strip().lower() not in media_types:
        raise OutwardFailed(f"answers with another media type than {' or '.join(media_types)}")
    if headers.get(b"content-encoding", "identity").lower() != "identity":
        raise OutwardFailed("answers in an encoding that was not asked for")
    length = headers.get(b"content-length", "0")
    if not length.isdecimal() or int(length[:12]) > most_bytes:
        raise OutwardFailed(f"answers with more than {most_bytes} bytes")


class _Pinned(httpcore2.NetworkBackend):
    """Connects to the addresses that were checked, whatever the name; the time of each operation is what is left of the call's."""

    def __init__(self, addresses: Sequence[Address], deadline: float) -> None:
        self._addresses = addresses[:TRIED]
        self._deadline = deadline
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - this is what is pinned
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline says
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        failed: Exception = httpcore2.ConnectError("There is no address.")
        for address in self._addresses:
            try:
                left = _left(self._deadline)
                return _Timed(self._sockets.connect_tcp(str(address), port, left, local_address, socket_options), self._deadline)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failed = error
        raise failed


class _Timed(httpcore2.NetworkStream):
    """A stream whose every operation ends with the call's deadline: one byte now and then keeps nothing open."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline says
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - the deadline says
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the deadline says
    ) -> httpcore2.NetworkStream:
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline)), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout("The time of the call is over.")
    return left

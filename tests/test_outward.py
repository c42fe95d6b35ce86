"""URLs that others give are called at public addresses only, at the address that was checked, and not for long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outward import Outward, OutwardFailed, OutwardRefused, is_public, read_url
from tests.public_web import Answer, Authority, Names, Site, body

JSON = ("application/json",)
PUBLIC = "93.184.216.34"
LOOPBACK = ip_network("127.0.0.1/32")

HOSTILE = (
    # Addresses that are not public, in their plain form.
    *("https://127.0.0.1/", "https://127.8.9.10/", "https://10.0.0.5/", "https://172.16.0.1/", "https://192.168.1.1/keys"),
    *("https://169.254.169.254/latest/meta-data/", "https://100.64.0.1/", "https://100.100.100.200/", "https://0.0.0.0/"),
    *("https://192.0.0.192/", "https://198.18.0.1/", "https://224.0.0.1/", "https://240.0.0.1/", "https://255.255.255.255/"),
    *("https://192.0.2.1/", "https://192.88.99.1/", "https://203.0.113.9/"),
    # IPv6, and IPv4 within it.
    *(
        "https://[::1]/",
        "https://[::]/",
        "https://[fe80::1]/",
        "https://[fe80::1%25eth0]/",
        "https://[fc00::1]/",
        "https://[fd00:ec2::254]/",
    ),
    *("https://[::ffff:127.0.0.1]/", "https://[::ffff:a9fe:a9fe]/", "https://[::127.0.0.1]/", "https://[64:ff9b::7f00:1]/"),
    *(
        "https://[64:ff9b:1::a00:1]/",
        "https://[2002:7f00:1::]/",
        "https://[2001:0:7f00:1::]/",
        "https://[2001:db8::1]/",
        "https://[ff02::1]/",
    ),
    *("https://[fec0::1]/", "https://[3fff::1]/", "https://[100::1]/"),
    # Other ways to write 127.0.0.1 and 169.254.169.254.
    *(
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://017700000001/",
        "https://0177.0.0.1/",
        "https://127.1/",
    ),
    *("https://127.0.1/", "https://127.0.0.1./", "https://127.000.000.001/", "https://2852039166/", "https://0xa9fea9fe/", "https://0/"),
    *("https://0x/", "https://a.0x7f/", "https://1.2.3.4.5/", "https://%31%32%37.0.0.1/", "https://127。0。0。1/", "https://①②⑦.0.0.1/"),
    # Names that lead inside.
    *("https://localhost/", "https://localhost./", "https://metadata/", "https://inside.example/", "https://mixed.example/"),
    *("https://mixed6.example/", "https://nothing.example/", "https://garbage.example/", "https://keys.example./", "https://-a.example/"),
    # What parsers disagree about.
    *("https://keys.example@127.0.0.1/", "https://user:pass@keys.example/", "https://keys.example\\@127.0.0.1/", "https://@keys.example/"),
    *("https://keys.example#@127.0.0.1/", "https://keys.example/#x", "https://keys.example /", " https://keys.example/"),
    *("https://keys.example\t/", "https://keys.example\r\nHost: x/", "https://keys.example\x00/", "https://[::1/", "https://::1/"),
    *(
        "https:///keys",
        "https:keys.example",
        "//keys.example/",
        "keys.example",
        "",
        "https://",
        "https://keys.example:/",
        "https://[v1.x]/",
    ),
    # Other schemes and ports.
    *("http://keys.example/", "http://127.0.0.1/", "file:///etc/passwd", "ftp://keys.example/", "gopher://keys.example/", "data:,x"),
    *("javascript:alert(1)", "unix:/run/x", "https://keys.example:22/", "https://keys.example:5432/", "https://keys.example:80/"),
    *("https://keys.example:0/", "https://keys.example:99999/", "https://keys.example:-1/", "https://keys.example:\uff14\uff14\uff13/"),
    "https://keys.example/" + "a" * 2000,
)


def names() -> Names:
    return Names(
        keys_example=[[PUBLIC]],
        inside_example=[["10.1.2.3"]],
        mixed_example=[[PUBLIC, "127.0.0.1"]],
        mixed6_example=[[PUBLIC, "::ffff:10.0.0.1"]],
        nothing_example=[[]],
        garbage_example=[["elsewhere"]],
        localhost=[["127.0.0.1", "::1"]],
    )


@pytest.mark.parametrize("url", HOSTILE, ids=lambda url: ascii(url)[:60])
def test_hostile_url_is_refused_before_anything_is_called(url: str) -> None:
    with pytest.raises(OutwardRefused):
        Outward(resolve=names()).fetch(url, media_types=JSON)


@pytest.mark.parametrize("url", HOSTILE, ids=lambda url: ascii(url)[:60])
def test_refusal_says_nothing_of_the_inside(url: str) -> None:
    with pytest.raises(OutwardRefused) as refused:
        Outward(resolve=names()).check(url)
    assert not any(inner in str(refused.value) for inner in ("10.1.2.3", "127.0.0.1", "::1", PUBLIC))


@pytest.mark.parametrize(
    "url",
    [
        "https://keys.example/",
        "https://keys.example/jwks?v=1",
        "https://KEYS.example:443",
        "https://keys.example:8443/",
        f"https://{PUBLIC}/",
        "https://[2606:4700::1111]/",
        "HTTPS://keys.example/%2e%2e/a",
    ],
)
def test_public_url_is_taken(url: str) -> None:
    Outward(resolve=names()).check(url)


@given(st.text(max_size=60) | st.from_regex(r"https?://[\[\]0-9a-fx.:%@\\]{1,30}/?", fullmatch=True))
def test_nothing_but_the_two_errors_comes_of_any_text(url: str) -> None:
    try:
        Outward(resolve=names()).check(url)
    except (OutwardRefused, OutwardFailed):
        return
    assert read_url(url)[0] == "https"


@given(st.ip_addresses())
def test_what_is_taken_for_public_is_global_unicast(address: object) -> None:
    taken = ip_address(str(address))
    if is_public(taken):
        assert taken.is_global
        assert not any((taken.is_private, taken.is_loopback, taken.is_link_local, taken.is_multicast, taken.is_unspecified))


def test_name_that_does_not_resolve_fails_and_waits_for_no_slow_resolver() -> None:
    with pytest.raises(OutwardFailed, match="does not resolve"):
        Outward(resolve=names()).check("https://unknown.example/")

    def slow(_host: str) -> list[str]:
        time.sleep(2)
        return [PUBLIC]

    begun = time.monotonic()
    with pytest.raises(OutwardFailed, match="does not resolve"):
        Outward(resolve=slow, seconds=0.1).check("https://keys.example/")
    assert time.monotonic() - begun < 1


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def new_site(authority: Authority) -> Iterator[Callable[..., Site]]:
    with ExitStack() as open_sites:

        def new(answer: Answer, *, name: str | None = "keys.example", address: str = "127.0.0.1") -> Site:
            return open_sites.enter_context(Site(answer, address, authority.server_context(name) if name else None).running())

        yield new


def calling(authority: Authority, resolve: Names, **more: object) -> Outward:
    """One that may call 127.0.0.1, where the test's servers are, and nothing else of this machine."""
    return Outward(networks=[LOOPBACK], resolve=resolve, trust=authority.trust(), **more)  # type: ignore[arg-type]


def test_body_is_fetched_over_tls_with_the_name_that_was_asked_for(authority: Authority, new_site: Callable[..., Site]) -> None:
    site = new_site(body(b'{"keys": []}'))
    got = calling(authority, Names(keys_example=[["127.0.0.1"]])).fetch(f"https://keys.example:{site.port}/jwks?v=1", media_types=JSON)
    assert got == b'{"keys": []}'
    assert site.asked == [("/jwks?v=1", f"keys.example:{site.port}")]


def test_certificate_must_be_of_the_name_and_of_a_trusted_authority(
    authority: Authority, new_site: Callable[..., Site], tmp_path: Path
) -> None:
    resolve = Names(keys_example=[["127.0.0.1"]])
    other_name = new_site(body(b"{}"), name="other.example")
    with pytest.raises(OutwardFailed):
        calling(authority, resolve).fetch(f"https://keys.example:{other_name.port}/", media_types=JSON)
    site = new_site(body(b"{}"))
    stranger = Outward(networks=[LOOPBACK], resolve=resolve, trust=Authority(tmp_path).trust())
    with pytest.raises(OutwardFailed):
        stranger.fetch(f"https://keys.example:{site.port}/", media_types=JSON)
    assert other_name.asked == site.asked == []


def test_name_that_answers_differently_the_second_time_is_asked_once(authority: Authority, new_site: Callable[..., Site]) -> None:
    outer, inner = new_site(body(b'"outer"')), new_site(body(b'"inner"'), address="127.0.0.2")
    resolve = Names(keys_example=[["127.0.0.1"], ["127.0.0.2"]])
    outward = calling(authority, resolve)
    url = f"https://keys.example:{outer.port}/"
    assert outward.fetch(url, media_types=JSON) == b'"outer"'
    assert resolve.asked == ["keys.example"]
    with pytest.raises(OutwardRefused, match="not public"):
        outward.fetch(f"https://keys.example:{inner.port}/", media_types=JSON)
    assert inner.connections == 0


def test_address_that_does_not_answer_gives_way_to_the_next_that_was_checked(authority: Authority, new_site: Callable[..., Site]) -> None:
    site = new_site(body(b"{}"))
    networks = [LOOPBACK, ip_network("127.0.0.3/32")]
    outward = Outward(networks=networks, resolve=Names(keys_example=[["127.0.0.3", "127.0.0.1"]]), trust=authority.trust())
    assert outward.fetch(f"https://keys.example:{site.port}/", media_types=JSON) == b"{}"


def test_no_redirect_is_followed(authority: Authority, new_site: Callable[..., Site]) -> None:
    inner = new_site(body(b"{}"), name=None)
    site = new_site(body(b"{}", status=302, Location=f"http://127.0.0.1:{inner.port}/"))
    with pytest.raises(OutwardFailed, match="redirect"):
        calling(authority, Names(keys_example=[["127.0.0.1"]])).fetch(f"https://keys.example:{site.port}/", media_types=JSON)
    assert inner.connections == 0


def no_end(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.end_headers()
    for _ in range(10_000):
        handler.wfile.write(b" " * 1024)


def drop_by_drop(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        time.sleep(0.05)


def no_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")


WRONG: dict[str, tuple[Answer, str]] = {
    "another status": (body(b"{}", status=404), "404"),
    "another media type": (body(b"<html>", "text/html"), "media type"),
    "compressed": (body(b"\x1f\x8b", Content_Encoding="gzip"), "encoding"),
    "declared too long": (body(b" " * 70_000), "more than"),
    "too long, undeclared": (no_end, "more than"),
    "drop by drop": (drop_by_drop, "does not answer"),
    "not HTTP": (no_http, "does not answer"),
}


@pytest.mark.parametrize(("answer", "told"), WRONG.values(), ids=WRONG.keys())
def test_answer_that_is_of_no_use_fails_in_bounded_time_and_size(
    authority: Authority, new_site: Callable[..., Site], answer: Answer, told: str
) -> None:
    site = new_site(answer)
    begun = time.monotonic()
    with pytest.raises(OutwardFailed, match=told):
        calling(authority, Names(keys_example=[["127.0.0.1"]]), seconds=1.0).fetch(f"https://keys.example:{site.port}/", media_types=JSON)
    assert time.monotonic() - begun < 2


def test_proxy_of_the_environment_is_not_used(authority: Authority, new_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = new_site(body(b"{}"), name=None)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    site = new_site(body(b"{}"))
    calling(authority, Names(keys_example=[["127.0.0.1"]])).fetch(f"https://keys.example:{site.port}/", media_types=JSON)
    assert proxy.connections == 0


def test_plain_http_is_for_loopback_and_only_where_both_are_allowed(new_site: Callable[..., Site]) -> None:
    site = new_site(body(b"{}"), name=None)
    url = f"http://127.0.0.1:{site.port}/"
    assert Outward(networks=[LOOPBACK], plain_http=True).fetch(url, media_types=JSON) == b"{}"
    for outward in (Outward(networks=[LOOPBACK]), Outward(plain_http=True), Outward()):
        with pytest.raises(OutwardRefused):
            outward.fetch(url, media_types=JSON)
    intranet = Outward(networks=[ip_network("10.0.0.0/8")], plain_http=True, resolve=Names(inside_example=[["10.1.2.3"]]))
    intranet.check("https://inside.example:9000/")
    with pytest.raises(OutwardRefused, match="https"):
        intranet.check("http://inside.example/")

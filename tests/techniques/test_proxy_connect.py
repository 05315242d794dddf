"""`proxy_connect` against a proxy on loopback: granted, refused, silent, broken; and the secret stays where it belongs."""

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from probe import receipts
from probe.agent import run_orders
from probe.codec import to_line
from probe.contradictions import contradicts
from probe.documents import Attempt, Order, Orders, Record, Settings
from probe.model import Channel, Destination, Transport, Via
from probe.techniques import load
from probe.techniques.base import NotRun
from probe.techniques.proxy_connect import (
    VARIABLES,
    Proxy,
    build_connect,
    configured,
    parse_proxy,
    split_grant,
    without_secret,
)
from probe.tokens import token
from tests.make import check

KEY = b"k" * 32
TOKEN = token("01J00000000000000000000000", 1, KEY)
HOST = f"{TOKEN}.at.x.example"
NAMED = "203.0.113.200"  # on this namespace's loopback: tests/without-uplink
RECEIPT = receipts.write(KEY, TOKEN, "http", "198.51.100.9", 40312)
GRANT = b"HTTP/1.1 200 Connection established\r\nVia: p\r\n\r\n"
FAR = f"HTTP/1.1 200 OK\r\nContent-Length: {len(RECEIPT) + 1}\r\n\r\n{RECEIPT}\n".encode()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


async def record(port: int = 443) -> Record:
    """What the agent says; and it is no contradiction."""
    destination = Destination(HOST, None, port, Via.PROXY)
    order = Order(1, "proxy_connect", destination, TOKEN)
    orders = Orders("egress-probe.orders/1", "R", Settings(deadline=0.3, rate=0, walk=False), 1000, (order,))
    lines: list[Any] = []
    await run_orders(orders, lines.append)
    (found,) = [line for line in lines if isinstance(line, Record)]
    planned = check(None, port, host=HOST, technique="proxy_connect", channel=Channel.PROXY, destination=destination)
    assert contradicts(planned, found) is None
    return found


async def attempts(port: int = 443) -> list[Attempt]:
    return list((await record(port)).attempts)


Handler = Callable[[trio.SocketStream, list[bytes]], Any]


@asynccontextmanager
async def proxy(handler: Handler, host: str = "127.0.0.1") -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server; and what each connection that said something said, head by head."""
    heard: list[bytes] = []
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host=host)

        async def safely(stream: trio.SocketStream) -> None:
            async with stream:
                try:
                    await handler(stream, heard)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return

        nursery.start_soon(trio.serve_listeners, safely, [listener])
        yield listener.socket.getsockname()[1], heard
        nursery.cancel_scope.cancel()


async def head(stream: trio.SocketStream, heard: list[bytes]) -> bool:
    seen = b""
    while b"\r\n\r\n" not in seen:
        part = await stream.receive_some(65536)
        if not part:
            return False
        seen += part
    heard.append(seen)
    return True


def saying(*words: bytes | None) -> Handler:
    """Each of `words` after a request; None: hang up."""

    async def serve(stream: trio.SocketStream, heard: list[bytes]) -> None:
        for said in words:
            if not await head(stream, heard) or said is None:
                return
            await stream.send_all(said)
        await stream.receive_some(1)

    return serve


# --- granted ----------------------------------------------------------------------------------------------------------


async def test_a_tunnel_and_the_far_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy(saying(GRANT, FAR)) as (port, heard):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        connect, near, far = await attempts()
    assert [one.step for one in (connect, near, far)] == ["connect", "talk", "talk"]
    assert {(one.address, one.port) for one in (connect, near, far)} == {("127.0.0.1", port)}
    assert near.data is not None
    assert (near.data.http_status, near.data.http_headers, near.data.bytes) == (200, ("via",), len(GRANT))
    assert far.data is not None
    assert far.data.receipt is not None
    assert receipts.is_valid(far.data.receipt, KEY, TOKEN)
    assert far.t >= near.t + near.elapsed - 1e-5  # what is told is rounded
    asked, said = heard
    assert asked.startswith(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nUser-Agent: egress-probe".encode())
    assert b"Authorization" not in asked
    assert said.startswith(f"GET /egress-probe/{TOKEN} HTTP/1.1\r\nHost: {HOST}:443\r\n".encode())


async def test_a_far_end_that_comes_with_the_grant(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy(saying(GRANT + b"220 hello\r\n")) as (port, _):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        _, near, far = await attempts()
    assert near.data is not None
    assert near.data.bytes == len(GRANT)
    assert far.data is not None
    assert far.data.excerpt == "220 hello.."


@pytest.mark.parametrize("then", [b"", None])
async def test_a_tunnel_to_nobody(then: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy(saying(GRANT, then)) as (port, heard):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        _, near = await attempts()
    assert near.data is not None
    assert (near.result, near.data.http_status, near.error, len(heard)) == ("answered", 200, None, 2)


# --- not granted ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nX-Squid-Error: ERR\r\nContent-Length: 4\r\n\r\nnope", 403),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", 407),
        (b"HTTP/1.0 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502),
        (b"SOCKS? no\r\n\r\n", None),
    ],
)
async def test_a_refusal(answer: bytes, status: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy(saying(answer)) as (port, heard):
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        _, near = await attempts()
    assert near.data is not None
    assert (near.result, near.data.http_status, near.data.bytes, len(heard)) == ("answered", status, len(answer), 1)


async def test_a_proxy_that_hangs_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy(saying(None)) as (port, _):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        _, near = await attempts()
    assert (near.step, near.data) == ("talk", None)
    assert near.result in ("silent", "error")


async def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://[::1]:9")
    (seen,) = await attempts()
    assert (seen.step, seen.address, seen.error) == ("connect", "::1", "ECONNREFUSED")


# --- which proxy ------------------------------------------------------------------------------------------------------


async def test_localhost_is_nobodys_to_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy(saying(b"HTTP/1.1 403 Forbidden\r\n\r\n")) as (port, _):
        monkeypatch.setenv("HTTPS_PROXY", f"http://localhost:{port}")
        assert [(one.step, one.address) for one in await attempts()] == [
            ("connect", "127.0.0.1"),
            ("talk", "127.0.0.1"),
        ]


async def test_another_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.techniques.names._read", lambda path: f"{NAMED} proxy.test\n203.0.113.9 proxy.test\n")
    async with proxy(saying(b"HTTP/1.1 403 Forbidden\r\n\r\n"), NAMED) as (port, _):
        monkeypatch.setenv("HTTPS_PROXY", f"http://proxy.test:{port}")
        assert [(one.step, one.address) for one in await attempts()] == [("connect", NAMED), ("talk", NAMED)]


async def test_a_name_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.techniques.names._read", lambda path: "nameserver 198.51.100.53\n")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    seen = await attempts()
    assert {(one.step, one.transport, one.error) for one in seen} == {("resolve", Transport.UDP, "ENETUNREACH")}


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({}, "no proxy is configured here (HTTPS_PROXY …)"),
        ({"HTTPS_PROXY": " ", "NO_PROXY": "x"}, "no proxy is configured here (HTTPS_PROXY …)"),
        (
            {"HTTPS_PROXY": "https://me:secret@p.test:3128/"},
            "HTTPS_PROXY is https://…@p.test:3128, no plain HTTP proxy",
        ),
        ({"ALL_PROXY": "socks5h://localhost:1080"}, "ALL_PROXY is socks5h://localhost:1080, no plain HTTP proxy"),
        ({"http_proxy": "http://me:se/cret@p.test"}, "http_proxy is http://…, no plain HTTP proxy"),
    ],
)
async def test_what_is_no_proxy_is_said(environ: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert configured(environ) == NotRun(reason)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    found = await record()
    assert (found.not_run, found.attempts) == (reason, ())


def test_the_first_plain_proxy_is_taken() -> None:
    environ = {"HTTPS_PROXY": "socks5://s:1", "HTTP_PROXY": "http://a:1", "ALL_PROXY": "http://b:2"}
    assert configured(environ) == Proxy("a", 1)
    assert configured({**environ, "https_proxy": "http://c:3"}) == Proxy("c", 3)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://localhost:3128", Proxy("localhost", 3128)),
        ("proxy.test:3128", Proxy("proxy.test", 3128)),
        ("HTTP://proxy.test", Proxy("proxy.test", 80)),
        ("http://[::1]:3128/?x#y", Proxy("::1", 3128)),
        ("http://me:p%40ss@10.0.0.1:8080/", Proxy("10.0.0.1", 8080, "me:p@ss")),
        ("http://me:p@ss@p.test:1", Proxy("p.test", 1, "me:p@ss")),
        ("http://me@p.test:1", Proxy("p.test", 1, "me")),
        ("http://p.test:1/x@y", None),  # a path, or a password with a slash in it?
        ("http://p.test:0", None),
        ("http://p.test:99999", None),
        ("http://[zz]:1", None),
        ("http://", None),
        ("http://a b:1", None),
        ("http://p.test\r\nX: y", None),
        ("https://p.test:1", None),
        ("socks5h://p.test:1", None),
        ("", None),
    ],
)
def test_urls(url: str, found: Proxy | None) -> None:
    assert parse_proxy(url) == found


# --- the secret -------------------------------------------------------------------------------------------------------


async def test_the_secret_goes_to_the_proxy_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    basic = base64.b64encode(b"me:s3cret!").decode()
    page = f"HTTP/1.1 407 No\r\n\r\nme:s3cret! s3cret! {basic} for {HOST}\n".encode()
    async with proxy(saying(page)) as (port, heard):
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:s3cret%21@127.0.0.1:{port}")
        found = await record()
    assert f"\r\nProxy-Authorization: Basic {basic}\r\n".encode() in heard[0]
    told = to_line(found)
    assert "407" in told
    assert "s3cret" not in told
    assert basic not in told
    assert "s3cret" not in repr(parse_proxy("http://me:s3cret@h"))


def test_a_password_of_one_letter_does_not_spoil_the_page() -> None:
    assert without_secret(b"HTTP/1.1 403", "u:1") == b"HTTP/1.1 403"


# --- any bytes --------------------------------------------------------------------------------------------------------


@given(st.text(max_size=60), st.sampled_from(("", "http://", "http://me:pw@", "socks5://")))
def test_any_text_is_a_proxy_or_none(text: str, before: str) -> None:
    found = parse_proxy(before + text)
    if found is not None:
        request = build_connect(f"{found.host}:{found.port}", found.secret)
        assert request.count(b"\r\n") == request.count(b"\n") == (5 if found.secret else 4)
    configured({"HTTPS_PROXY": before + text})


@given(st.binary(max_size=200), st.sampled_from((b"", b"HTTP/1.1 200 x\r\n", b"HTTP/1.1 299\r\n\r\n")))
def test_any_bytes_are_a_grant_or_none(data: bytes, before: bytes) -> None:
    found = split_grant(before + data)
    if found is not None:
        assert b"".join(found) == before + data
        assert found[0].endswith(b"\r\n\r\n")


def test_what_is_sent_is_said() -> None:
    traits = load("proxy_connect").TRAITS
    row = check(None, destination=Destination("{token}.at.x.example", None, 443, Via.PROXY))
    assert traits.sends(row) == (
        "to the proxy of the environment: SYN and CONNECT {token}.at.x.example:443; if granted, HTTP GET with the nonce"
    )
    assert (traits.channel, traits.resolves) == (Channel.PROXY, False)

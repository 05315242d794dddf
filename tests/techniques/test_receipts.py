"""Receipts on their way back: found in whatever a far end says, whenever it says it, on every way that talks."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trustme
from hypothesis import given
from hypothesis import strategies as st

from probe import receipts
from probe.agent import run_orders
from probe.contradictions import contradicts
from probe.documents import Attempt, Order, Orders, Record, Settings
from probe.model import Destination, HttpRequest
from probe.talk import is_enough, parse_answer
from probe.tokens import token
from tests.make import check

KEY = b"k" * 32
TOKEN = token("01J00000000000000000000000", 1, KEY)
NAMED = "203.0.113.200"  # on this namespace's loopback: tests/without-uplink
RECEIPT = receipts.write(KEY, TOKEN, "tcp", NAMED, 40312).encode()


async def attempts(order: Order) -> list[Attempt]:
    """What the agent says of one order; and it is no contradiction."""
    orders = Orders("egress-probe.orders/1", "R", Settings(deadline=0.3, rate=0, walk=False), 1000, (order,))
    lines: list[Any] = []
    await run_orders(orders, lines.append)
    (found,) = [line for line in lines if isinstance(line, Record)]
    where = order.destination
    assert contradicts(check(where.address, where.port, host=where.host, technique=order.technique), found) is None
    return list(found.attempts)


def order(technique: str, port: int, host: str | None = None, **more: Any) -> Order:
    return Order(1, technique, Destination(host, NAMED, port), TOKEN, **more)


@asynccontextmanager
async def server(handler: Callable[[trio.SocketStream], Any], port: int = 0) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(port, host=NAMED)

        async def safely(stream: trio.SocketStream) -> None:
            async with stream:
                try:
                    await handler(stream)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return

        nursery.start_soon(trio.serve_listeners, safely, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def valid(attempt: Attempt) -> bool:
    receipt = attempt.data.receipt if attempt.data else None
    return receipt is not None and receipts.is_valid(receipt, KEY, TOKEN)


def talks(made: list[Attempt]) -> list[Attempt]:
    return [attempt for attempt in made if attempt.step == "talk"]


@pytest.mark.parametrize("technique", ["tcp_connect", "http_get", "tcp_fastopen", "mptcp_connect"])
@pytest.mark.parametrize("headers", ["Content-Length: 1000", "Transfer-Encoding: chunked", "X: y"])
async def test_in_a_body_that_comes_after_its_head(technique: str, headers: str) -> None:
    body = b"x" * 800 + RECEIPT + b"\n"
    chunked = "chunked" in headers

    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(f"HTTP/1.1 200 OK\r\n{headers}\r\n\r\n".encode())
        await stream.send_all(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body.ljust(1000))
        await stream.receive_some(1)

    async with server(answer) as port:
        made = await attempts(order(technique, port, http=HttpRequest() if technique == "http_get" else None))
    (talk,) = talks(made)
    assert valid(talk)
    assert talk.data is not None
    assert talk.data.http_status == 200


async def test_in_raw_bytes_the_reading_ends_with_it() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(RECEIPT + b"\n")
        await stream.receive_some(1)

    async with server(answer) as port:
        (talk,) = talks(await attempts(order("tcp_connect", port)))
    assert valid(talk)
    assert is_enough(RECEIPT + b"\n")
    assert not is_enough(RECEIPT[:-1])
    assert not is_enough(b"HTTP/1.1 200 OK\r\nX: " + RECEIPT + b"\n")


@pytest.mark.parametrize("technique", ["udp_datagram", "udp_unconnected"])
async def test_in_a_datagram(technique: str) -> None:
    sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await sock.bind((NAMED, 0))

    async def reply() -> None:
        while True:
            _, peer = await sock.recvfrom(1000)
            await sock.sendto(b"x" * 300 + RECEIPT, peer)

    with sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reply)
            made = await attempts(order(technique, sock.getsockname()[1]))
            nursery.cancel_scope.cancel()
    assert all(map(valid, made))


# --- a TLS hello that names the nonce ---------------------------------------------------------------------------------


def greeting(*said: bytes) -> Callable[[trio.SocketStream], Any]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("collector.test").configure_cert(context)

    async def serve(stream: trio.SocketStream) -> None:
        inside = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        await inside.do_handshake()
        for one in said:
            await inside.send_all(one)
        await inside.receive_some(1)

    return serve


async def test_after_the_handshake() -> None:
    async with server(greeting(RECEIPT[:30], RECEIPT[30:] + b"\n")) as port:
        _, unverified, talk, _ = await attempts(order("tls_hello", port, f"{TOKEN}.at.x.example"))
    assert unverified.tls is not None
    assert unverified.tls.verified is False
    assert talk.tls is not None
    assert talk.tls.handshake
    assert valid(talk)


async def test_only_where_the_hello_named_the_nonce() -> None:
    async with server(greeting(RECEIPT)) as port:
        for host in (None, "collector.test"):
            talk = talks(await attempts(order("tls_hello", port, host)))[-1]
            assert talk.tls is not None
            assert talk.tls.handshake
            assert talk.data is None


async def test_a_far_end_that_says_nothing() -> None:
    async with server(greeting()) as port:
        talk = talks(await attempts(order("tls_hello", port, f"{TOKEN}.at.x.example")))[-1]
    assert (talk.result, talk.data) == ("answered", None)  # the handshake


# --- any bytes --------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=400), st.binary(max_size=40))
def test_a_receipt_is_found_anywhere(before: bytes, after: bytes) -> None:
    found = parse_answer(before + RECEIPT + b"\n" + after, TOKEN, "reply").receipt
    assert found is not None
    forged = parse_answer(before + after, TOKEN, "reply").receipt
    assert forged is None or not receipts.is_valid(forged, KEY, TOKEN)


@given(st.binary(max_size=400))
def test_reading_ends_for_good(data: bytes) -> None:
    """What was enough stays enough for what is no HTTP: more bytes do not make it wait again."""
    if is_enough(data) and not data.startswith(b"HTTP/"):
        assert is_enough(data + b"\n")

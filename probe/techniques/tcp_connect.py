"""`tcp_connect`: a non-blocking connect, closed at once; after an accept, a second connection that asks who is there.

The second connection listens 300 ms for a banner, then says the nonce (TLS, HTTP). Its bytes count in the same row.
"""

import socket
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from probe.documents import Attempt, Check, Order, Traits
from probe.engine import Connect, connect_many
from probe.model import Channel, SelfTest
from probe.sockets import FAMILY, open_socket, os_error, version
from probe.talk import Saying, converse, nonce_step
from probe.techniques.base import Probe

if TYPE_CHECKING:
    from collections.abc import Iterator


def _sends(check: Check) -> str:
    if check.self_test is not None:
        return "SYN and, if accepted, a nonce; on loopback"
    return "SYN; if accepted, once more with a nonce (TLS hello and HTTP GET), and a SYN to the next hop"


# Two SYNs at most for the connect; then two conversations (SYN, hello, request) in the worst case, and two SYNs to the
# next hop.
TRAITS = Traits(channel=Channel.TCP, packets=2 + 2 * 4 + 2, connects=2, sends=_sends)


async def run(orders: Sequence[Order], probe: Probe) -> None:
    """Every order, finished in the order of their ends."""
    async with trio.open_nursery() as nursery:
        listed: list[Connect] = []
        for order in orders:
            if order.self_test is not None:
                nursery.start_soon(_self_test, order, probe)
            elif order.destination.address is None:
                nursery.start_soon(_named, order, probe)
            else:
                listed.append(Connect(order.destination.address, order.destination.port or 0, order))
        await _connect(listed, probe, nursery, defaultdict(lambda: 1), {})


async def _named(order: Order, probe: Probe) -> None:
    host = order.destination.host or ""
    addresses, attempts = await probe.names.lookup(host, probe.pace, probe.started)
    if not addresses:
        probe.finish(order, list(attempts))
        return
    targets = [Connect(address, order.destination.port or 0, order) for address in addresses]
    async with trio.open_nursery() as nursery:
        await _connect(targets, probe, nursery, {order.n: len(targets)}, {order.n: list(attempts)})


async def _connect(
    targets: list[Connect],
    probe: Probe,
    nursery: trio.Nursery,
    left: dict[int, int],
    before: dict[int, list[Attempt]],
) -> None:
    """Connect to all `targets`; an order is finished when `left` of its addresses reaches 0."""

    def settle(order: Order, attempts: list[Attempt]) -> None:
        gathered = before.setdefault(order.n, [])
        gathered += attempts
        left[order.n] -= 1
        if left[order.n] == 0:
            probe.finish(order, gathered)

    async def follow(order: Order, first: Attempt) -> None:
        assert first.address is not None
        saying = nonce_step(order.token, order.destination.host, first.port or 0)
        async with probe.together:
            later = await after_accept(first.address, first.port or 0, saying, probe)
        settle(order, [first, *later])

    def done(target: Connect) -> None:
        order = target.tag
        assert isinstance(order, Order)
        attempt = as_attempt(target, probe)
        if attempt.result == "connected":
            nursery.start_soon(follow, order, attempt)
        else:
            settle(order, [attempt])

    await connect_many(targets, probe.deadlines, probe.pace, done, probe.concurrency)


async def after_accept(address: str, port: int, saying: Saying, probe: Probe) -> list[Attempt]:
    """Who was that? A conversation, and a connect that only the next hop can answer."""
    talks = await converse(address, port, saying, probe.pace.leave, probe.started, probe.again)
    near = await connect_one(address, port, probe, hops=1)
    return [*talks, replace(near, step="walk")]


def as_attempt(target: Connect, probe: Probe) -> Attempt:
    """The engine's result as evidence."""
    return Attempt(
        t=probe.now() if target.started is None else target.started - probe.started,
        elapsed=target.elapsed,
        step="connect",
        result=target.result or "error",
        address=target.address,
        port=target.port,
        source=target.source,
        stage=target.stage,
        error=target.error,
        routed=target.routed,
        icmp=target.icmp,
        events=target.events,
        tcp=target.tcp,
        hops=target.hops,
        least=target.least,
        tries=target.tries,
        again=probe.again,
    )


async def connect_one(
    address: str,
    port: int,
    probe: Probe,
    factory: Callable[[int, int], socket.socket] = open_socket,
    hops: int | None = None,
) -> Attempt:
    """One address through the same engine, for the techniques that talk after it."""
    target = Connect(address, port, hops=hops)
    await connect_many([target], probe.deadlines, probe.pace, lambda _: None, 1, factory)
    return as_attempt(target, probe)


# --- self-tests -------------------------------------------------------------------------------------------------------


async def _self_test(order: Order, probe: Probe) -> None:
    """The same path, to a port of our own on loopback: listening and speaking, or bound and not listening."""
    address = order.destination.address or "127.0.0.1"
    attempts: list[Attempt] = []
    with _bound(address, probe, attempts) as sock:
        port = int(sock.getsockname()[1]) if sock else 9
        async with trio.open_nursery() as nursery:
            if sock and order.self_test is SelfTest.OPEN:
                sock.listen(8)
                nursery.start_soon(_speak, trio.socket.from_stdlib_socket(sock), order.token)
            first = await connect_one(address, port, probe)
            attempts.append(first)
            if first.result == "connected":
                attempts += await after_accept(address, port, nonce_step(order.token, None, 0), probe)
            nursery.cancel_scope.cancel()
    probe.finish(order, attempts)


@contextmanager
def _bound(address: str, probe: Probe, attempts: list[Attempt]) -> "Iterator[socket.socket | None]":
    """A socket bound to a free loopback port; None where loopback itself is refused (then the attempt says why)."""
    try:
        sock = bound_to_loopback(address, socket.SOCK_STREAM)
    except OSError as error:
        attempts.append(Attempt(probe.now(), 0.0, "listen", "error", address=address, error=os_error(error)))
        yield None
        return
    with sock:
        yield sock


def bound_to_loopback(address: str, kind: int) -> socket.socket:
    """A socket on a free port of `address`. Raises OSError."""
    sock = socket.socket(FAMILY[version(address)], kind | socket.SOCK_NONBLOCK)
    try:
        sock.bind((address, 0))
    except OSError:
        sock.close()
        raise
    return sock


async def _speak(listener: trio.socket.SocketType, token: str) -> None:
    while True:
        try:
            client, _ = await listener.accept()
        except OSError:
            return
        with client:
            try:
                await client.send(token.encode() + b"\r\n")
            except OSError:
                continue

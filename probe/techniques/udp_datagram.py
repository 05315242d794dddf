"""`udp_datagram`: the nonce in one datagram on a connected socket; an answer, an ICMP error, or silence."""

import socket
from collections.abc import Sequence
from dataclasses import replace

import trio

from probe.datagram import exchange
from probe.documents import Attempt, Order, Traits
from probe.model import Channel, SelfTest
from probe.sockets import os_error
from probe.talk import parse_answer
from probe.techniques.base import Probe
from probe.techniques.tcp_connect import bound_to_loopback

TRAITS = Traits(
    channel=Channel.UDP,
    packets=2,
    sends=lambda check: "the nonce, in one datagram sent twice" + ("; on loopback" if check.self_test else ""),
)


async def run(orders: Sequence[Order], probe: Probe) -> None:
    """Every order, a bounded number together."""
    await probe.each(orders, attempt)


async def attempt(order: Order, probe: Probe) -> list[Attempt]:
    """All addresses of one order."""
    if order.self_test is not None:
        return await _self_test(order, probe)
    if order.destination.address is not None:
        return [await _one(order, order.destination.address, order.destination.port or 0, probe)]
    addresses, attempts = await probe.names.lookup(order.destination.host or "", probe.pace, probe.started)
    return [*attempts, *[await _one(order, address, order.destination.port or 0, probe) for address in addresses]]


async def _one(order: Order, address: str, port: int, probe: Probe) -> Attempt:
    spacing, total = probe.deadlines.spacing, probe.deadlines.total
    made, answer = await exchange(
        address,
        port,
        order.token.encode(),
        lambda _: True,
        probe.pace.leave,
        probe.started,
        "send",
        total,
        (0.0, spacing),
    )
    if answer is not None:
        made = replace(made, data=parse_answer(answer, order.token, "reply"))
    return replace(made, again=probe.again)


async def _self_test(order: Order, probe: Probe) -> list[Attempt]:
    """The same path, to a port of our own on loopback: one that echoes, or one that was just closed."""
    address = order.destination.address or "127.0.0.1"
    attempts: list[Attempt] = []
    listening = None
    try:
        listening = bound_to_loopback(address, socket.SOCK_DGRAM)
    except OSError as error:
        attempts.append(Attempt(probe.now(), 0.0, "listen", "error", address=address, error=os_error(error)))
    port = int(listening.getsockname()[1]) if listening else 9
    async with trio.open_nursery() as nursery:
        if listening is not None and order.self_test is SelfTest.OPEN:
            nursery.start_soon(_echo, trio.socket.from_stdlib_socket(listening))
        elif listening is not None:
            listening.close()
        attempts.append(await _one(order, address, port, probe))
        nursery.cancel_scope.cancel()
    return attempts


async def _echo(sock: trio.socket.SocketType) -> None:
    with sock:
        while True:
            try:
                data, peer = await sock.recvfrom(2048)
                await sock.sendto(data, peer)
            except OSError:
                return

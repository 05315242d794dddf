"""`udp_datagram`: the nonce in one datagram on a connected socket; an answer, an ICMP error, or silence."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import trio

from probe.datagram import exchange
from probe.documents import Attempt, Order, Traits
from probe.model import Channel, SelfTest
from probe.sockets import one_hop_socket, open_socket, os_error
from probe.talk import parse_answer
from probe.techniques.base import Probe
from probe.techniques.tcp_connect import bound_to_loopback

TRAITS = Traits(
    channel=Channel.UDP,
    packets=4,
    sends=lambda check: (
        "the nonce, in one datagram sent twice; if answered, again to the next hop"
        + ("; on loopback" if check.self_test else "")
    ),
)


async def run(orders: Sequence[Order], probe: Probe) -> None:
    """Every order, a bounded number together."""
    await probe.each(orders, attempt)


async def attempt(order: Order, probe: Probe) -> list[Attempt]:
    """All addresses of one order."""
    if order.self_test is not None:
        return await _self_test(order, probe)
    if order.destination.address is not None:
        return await _one(order, order.destination.address, order.destination.port or 0, probe)
    addresses, looked_up = await probe.names.lookup(order.destination.host or "", probe.pace, probe.started)
    attempts = list(looked_up)
    for address in addresses:
        attempts += await _one(order, address, order.destination.port or 0, probe)
    return attempts


async def _one(order: Order, address: str, port: int, probe: Probe) -> list[Attempt]:
    """The datagram; if it is answered, one more that only the next hop can answer."""
    first = await _exchange(order, address, port, probe, "send", open_socket)
    if first.result != "answered":
        return [first]
    return [first, await _exchange(order, address, port, probe, "walk", one_hop_socket)]


async def _exchange(
    order: Order,
    address: str,
    port: int,
    probe: Probe,
    step: Literal["send", "walk"],
    factory: Callable[[int, int], socket.socket],
) -> Attempt:
    made, answer = await exchange(
        address,
        port,
        order.token.encode(),
        lambda _: True,
        probe.pace.leave,
        probe.started,
        step,
        probe.deadlines.total,
        (0.0, probe.deadlines.spacing),
        factory,
    )
    if answer is not None:
        made = replace(made, data=parse_answer(answer, order.token, "reply"))
    return replace(made, again=probe.again, hops=1 if step == "walk" else None)


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
        attempts += await _one(order, address, port, probe)
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

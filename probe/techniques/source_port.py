"""`source_port`: a connection from local port 53, an old hole in filters that let "DNS answers" pass by source port."""

import errno
import socket
from collections.abc import Sequence
from dataclasses import replace

import trio

from probe.dialogue import PLAIN
from probe.documents import Attempt, Order, Traits
from probe.model import Channel
from probe.sockets import error_name
from probe.techniques.base import NotRun, Probe
from probe.techniques.tcp_fastopen import around
from probe.words import PACKETS

PORT = 53

TRAITS = Traits(
    channel=Channel.TCP,
    packets=1 + PACKETS + 1,
    connects=2,
    sends=lambda check: f"SYN from port {PORT}; if accepted, a nonce over it, and a SYN to the next hop",  # noqa: ARG005
)
# Below ip_unprivileged_port_start without CAP_NET_BIND_SERVICE; or somebody listens there.
_REFUSED = (errno.EACCES, errno.EPERM, errno.EADDRINUSE)


def _create(family: int) -> socket.socket:
    """A socket bound to the port, which others of ours may share; a listener's it never takes. Raises OSError."""
    sock = PLAIN.create(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(("::" if family == 6 else "0.0.0.0", PORT))  # noqa: S104 - it never listens
    except OSError:
        sock.close()
        raise
    return sock


WAY = replace(PLAIN, create=_create)


async def run(orders: Sequence[Order], probe: Probe) -> None:
    """One order after the other, per IP version: a NAT that turns two of them to one server has one port for both."""
    lanes: dict[bool, list[Order]] = {}
    for order in orders:
        lanes.setdefault(":" in (order.destination.address or ""), []).append(order)

    async def in_turn(some: list[Order]) -> None:
        for order in some:
            await probe.each([order], attempt)

    async with trio.open_nursery() as nursery:
        for some in lanes.values():
            nursery.start_soon(in_turn, some)


async def attempt(order: Order, probe: Probe) -> list[Attempt] | NotRun:
    """All addresses of one order."""
    try:
        _create(4).close()
    except OSError as error:
        if error.errno in _REFUSED:
            return NotRun(f"port {PORT} cannot be bound here ({error_name(error.errno)})")
    return await around(order, probe, WAY, WAY)

"""`tcp_fastopen`: a connection opened by sendto(MSG_FASTOPEN), which passes filters on connect() and Landlock.

RFC 7413: without a cookie from an earlier connection the SYN asks for one, and the nonce follows the handshake; with a
cookie the nonce travels in the SYN. Either way no connect() was called.
"""

import errno
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from probe.dialogue import PLAIN, Way, open_and_talk, open_near
from probe.documents import Attempt, Order, Traits
from probe.model import Channel
from probe.sockets import sockaddr
from probe.techniques.base import NotRun, Probe
from probe.words import PACKETS

TRAITS = Traits(
    channel=Channel.TCP,
    packets=1 + PACKETS + 1,
    connects=2,
    sends=lambda check: "SYN by sendto(MSG_FASTOPEN) and a nonce; if accepted, a SYN to the next hop",  # noqa: ARG005
)
_CLIENT = 1  # bit of the sysctl net.ipv4.tcp_fastopen


def _start(sock: socket.socket, address: str, port: int, ahead: bytes) -> tuple[int, int]:
    """The errno and how many bytes went with the SYN. EINPROGRESS, with or without bytes, is the usual answer."""
    try:
        taken = sock.sendto(ahead, socket.MSG_FASTOPEN, sockaddr(address, port))
    except OSError as error:
        return error.errno or 0, 0
    return errno.EINPROGRESS, taken


WAY = replace(PLAIN, start=_start)


async def run(orders: Sequence[Order], probe: Probe) -> None:
    """Every order, a bounded number together."""
    await probe.each(orders, attempt)


async def attempt(order: Order, probe: Probe) -> list[Attempt] | NotRun:
    """All addresses of one order."""
    if not _is_on():
        return NotRun("TCP Fast Open is switched off here (net.ipv4.tcp_fastopen)")
    return await around(order, probe, WAY, WAY)


async def around(order: Order, probe: Probe, way: Way, near: Way) -> list[Attempt]:
    """Open each address of the order in its `way` and talk over that socket; then, once more, only to the next hop."""
    addresses, attempts = await probe.addresses(order)
    total, port, host = probe.deadlines.total, order.destination.port or 0, order.destination.host
    made = list(attempts)
    for address in addresses:
        made += await open_and_talk(address, port, host, order.token, way, total, probe.pace.leave, probe.started)
        if made[-1].step == "talk":
            made.append(await open_near(address, port, near, total, probe.pace.leave, probe.started))
    return [replace(one, again=probe.again and one.step != "resolve") for one in made]


def _is_on() -> bool:
    """Whether this namespace may open connections so. Where /proc does not tell, the attempt will."""
    with suppress(OSError, ValueError), open("/proc/sys/net/ipv4/tcp_fastopen") as file:
        return bool(int(file.read()) & _CLIENT)
    return True

"""`udp_unconnected`: the nonce by sendto() on a UDP socket that is never connected.

Filters on connect() (seccomp, cgroup/connect4), and Landlock, never see it.
"""

import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from probe.documents import Attempt, Order, Traits
from probe.model import Channel, Transport
from probe.sockets import limited_socket, os_error, version
from probe.talk import parse_answer
from probe.techniques.base import Probe
from probe.unconnected import exchange

TRAITS = Traits(
    channel=Channel.UDP,
    packets=4,
    sends=lambda check: "the nonce, by sendto() without connect(), sent twice; if answered, again to the next hop",  # noqa: ARG005
)


async def run(orders: Sequence[Order], probe: Probe) -> None:
    """Every order, a bounded number together."""
    await probe.each(orders, attempt)


async def attempt(order: Order, probe: Probe) -> list[Attempt]:
    """All addresses of one order; where the datagram is answered, one more that only the next hop can answer."""
    addresses, attempts = await probe.addresses(order)
    made = list(attempts)
    for address in addresses:
        made.append(await _one(order, address, probe, "send", None))
        if made[-1].result == "answered":
            made.append(await _one(order, address, probe, "walk", 1))
    return made


async def _one(order: Order, address: str, probe: Probe, step: Literal["send", "walk"], hops: int | None) -> Attempt:
    made = Attempt(probe.now(), 0.0, step, "silent", Transport.UDP, address, order.destination.port or 0, hops=hops)
    made = replace(made, again=probe.again, tries=0)
    try:
        plain = limited_socket(version(address), socket.SOCK_DGRAM, hops, None)
    except OSError as error:
        return replace(made, result="error", stage="socket", error=os_error(error))
    schedule = (0.0, probe.deadlines.spacing)
    made, answer = await exchange(
        plain, made, order.token.encode(), _anything, probe.pace.leave, probe.started, probe.deadlines.total, schedule
    )
    return made if answer is None else replace(made, data=parse_answer(answer, order.token, "reply"))


def _anything(data: bytes) -> bytes | None:
    """A UDP answer may be anything but nothing: without a byte it shows no service."""
    return data or None

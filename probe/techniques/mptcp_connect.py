"""`mptcp_connect`: a connection by Multipath TCP (protocol 262, RFC 8684), which passes Landlock's rules on TCP.

To a server that does not speak it, it is TCP: the SYN carries one more option. Such a socket takes neither a hop limit
nor error reporting (EOPNOTSUPP, Linux 6.18), so the SYN to the next hop is plain TCP, and no ICMP error is seen.
"""

import errno
import socket
from collections.abc import Sequence

from probe.dialogue import PLAIN, Way
from probe.documents import Attempt, Order, Traits
from probe.model import Channel
from probe.sockets import FAMILY, error_name
from probe.techniques.base import NotRun, Probe
from probe.techniques.tcp_fastopen import around
from probe.words import PACKETS

TRAITS = Traits(
    channel=Channel.TCP,
    packets=1 + PACKETS + 1,
    connects=2,
    sends=lambda check: "SYN by Multipath TCP; if accepted, a nonce over it, and a SYN to the next hop",  # noqa: ARG005
)
_IPPROTO_MPTCP = 262
# No such protocol (EINVAL before Linux 5.6), or switched off (net.mptcp.enabled=0: ENOPROTOOPT).
_MISSING = (errno.EPROTONOSUPPORT, errno.ENOPROTOOPT, errno.EINVAL)


def _create(family: int) -> socket.socket:
    kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    return socket.socket(FAMILY[family], kind, _IPPROTO_MPTCP)


WAY = Way(_create)


async def run(orders: Sequence[Order], probe: Probe) -> None:
    """Every order, a bounded number together."""
    await probe.each(orders, attempt)


async def attempt(order: Order, probe: Probe) -> list[Attempt] | NotRun:
    """All addresses of one order."""
    try:
        _create(4).close()
    except OSError as error:
        if error.errno in _MISSING:
            return NotRun(f"this kernel has no Multipath TCP ({error_name(error.errno)})")
    return await around(order, probe, WAY, PLAIN)

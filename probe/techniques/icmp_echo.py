"""`icmp_echo`: one echo request (ping) with the nonce as its data; many filters never thought of ICMP.

By a ping socket where net.ipv4.ping_group_range lets this group have one (Linux 3.0; icmp(7)), else by a raw socket.
"""

import errno
import random
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from probe.documents import Attempt, Order, Traits
from probe.model import Channel, Transport
from probe.sockets import FAMILY, IP_RECVERR, IPV6_RECVERR, error_name, limit, version
from probe.talk import parse_answer
from probe.techniques.base import NotRun, Probe
from probe.unconnected import exchange

TRAITS = Traits(
    channel=Channel.ICMP,
    packets=4,
    sends=lambda check: "an ICMP echo request with the nonce, sent twice; if answered, again to the next hop",  # noqa: ARG005
    carries=False,
)

_PROTOCOL = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
_REQUEST = {4: 8, 6: 128}  # RFC 792, RFC 4443 4.1
_REPLY = {4: 0, 6: 129}
_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence
# So that errors come with their own TTL, as probe.sockets does for TCP and UDP: RECVERR, and RECVTTL or RECVHOPLIMIT.
_REPORTING = {
    4: ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IP, 12)),
    6: ((socket.IPPROTO_IPV6, IPV6_RECVERR), (socket.IPPROTO_IPV6, 51)),
}
# ping_group_range, and a missing CAP_NET_RAW.
_NOT_ALLOWED = (errno.EACCES, errno.EPERM)


@dataclass(frozen=True, slots=True)
class _Opened:
    sock: socket.socket
    raw: bool
    identifier: int


async def run(orders: Sequence[Order], probe: Probe) -> None:
    """Every order, a bounded number together."""
    await probe.each(orders, attempt)


async def attempt(order: Order, probe: Probe) -> list[Attempt] | NotRun:
    """All addresses of one order; where the request is answered, one more that only the next hop can answer."""
    addresses, attempts = await probe.addresses(order)
    made = list(attempts)
    for address in addresses:
        first = await _one(order, address, probe, "send", None)
        if isinstance(first, NotRun):
            return first
        made.append(first)
        if first.result == "answered":
            near = await _one(order, address, probe, "walk", 1)
            made += [] if isinstance(near, NotRun) else [near]
    return made


async def _one(
    order: Order, address: str, probe: Probe, step: Literal["send", "walk"], hops: int | None
) -> Attempt | NotRun:
    family = version(address)
    made = Attempt(probe.now(), 0.0, step, "silent", Transport.ICMP, address, hops=hops, again=probe.again, tries=0)
    opened = _open(family, order.token, hops)
    if isinstance(opened, NotRun):
        return opened
    if isinstance(opened, str):
        return replace(made, result="error", stage="socket", error=opened)
    request = build_request(family, opened.identifier, order.token.encode())
    made, answer = await exchange(
        opened.sock,
        made,
        request,
        lambda data: parse_reply(family, data, opened.raw, opened.identifier, order.token.encode()),
        probe.pace.leave,
        probe.started,
        probe.deadlines.total,
        (0.0, probe.deadlines.spacing),
    )
    return made if answer is None else replace(made, data=parse_answer(answer, order.token, "reply"))


def _open(family: int, token: str, hops: int | None) -> _Opened | NotRun | str:
    """A ping socket, else a raw one; why there is neither; or another errno's name, as for a family that is off."""
    refused: list[str] = []
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            sock = socket.socket(FAMILY[family], kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, _PROTOCOL[family])
        except OSError as error:
            if error.errno not in _NOT_ALLOWED:
                return error_name(error.errno or 0)
            refused.append(error_name(error.errno))
            continue
        try:
            limit(sock, family, hops, None)
            return _Opened(sock, kind == socket.SOCK_RAW, _identifier(sock, family, kind, token))
        except OSError as error:
            sock.close()
            return error_name(error.errno or 0)
    return NotRun(f"no ping socket (ping_group_range: {refused[0]}) and no raw socket (CAP_NET_RAW: {refused[1]})")


def _identifier(sock: socket.socket, family: int, kind: int, token: str) -> int:
    """Error reporting on; and the identifier: a ping socket's is its port, a raw socket's is ours to choose."""
    with suppress(OSError):  # without it the errno alone speaks
        for level, option in _REPORTING[family]:
            sock.setsockopt(level, option, 1)
    if kind == socket.SOCK_RAW:
        return random.Random(token).randrange(1, 1 << 16)
    sock.bind(("::" if family == 6 else "0.0.0.0", 0))  # noqa: S104 - a ping socket hears its own replies only
    return int(sock.getsockname()[1])


def build_request(family: int, identifier: int, payload: bytes) -> bytes:
    """The ICMP message. In version 6 the kernel fills in the checksum, which covers addresses (RFC 3542 3.1)."""
    bare = _HEADER.pack(_REQUEST[family], 0, 0, identifier, 1) + payload
    checksum = internet_checksum(bare) if family == 4 else 0
    return _HEADER.pack(_REQUEST[family], 0, checksum, identifier, 1) + payload


def parse_reply(family: int, data: bytes, raw: bool, identifier: int, token: bytes) -> bytes | None:
    """The reply's data; None for what is no reply to us. Total over any bytes. `raw`: IPv4 comes with its header."""
    if raw and family == 4:
        data = data[(data[0] & 15) * 4 :] if data else b""
    if len(data) < _HEADER.size:
        return None
    kind, code, _, found, _ = _HEADER.unpack_from(data)
    payload = data[_HEADER.size :]
    return payload if (kind, code, found) == (_REPLY[family], 0, identifier) and token in payload else None


def internet_checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(word for (word,) in struct.iter_unpack("!H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total

"""One datagram exchange on a socket that is never connected: sendto() passes filters on connect(), and Landlock.

Such a socket hears from everybody, so answers are matched by their sender, and errors by the destination that the error
queue names (ip(7), IP_RECVERR: "the original destination address of the packet that caused the error is in msg_name").
"""

import errno
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Literal, NamedTuple

import trio

from probe.documents import Attempt, Icmp
from probe.sockets import (
    FAMILY,
    IP_RECVERR,
    IPV6_RECVERR,
    error_name,
    has_route,
    own_address,
    parse_extended_error,
    pending_error,
    sockaddr,
    version,
)

_QUEUED = {(socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)}
_TTL = {(socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)}
_MOST = 65535
# Errors of others that one call is let to stumble over.
_MOST_FOREIGN = 16

# The answer's own part of what was received, or None for what is no answer.
Read = Callable[[bytes], bytes | None]


class _Failed(NamedTuple):
    """An error, and where it came from: the call itself, or the network."""

    stage: Literal["send", "receive"]
    number: int
    icmp: Icmp | None = None


async def exchange(
    plain: socket.socket,
    made: Attempt,
    payload: bytes,
    read: Read,
    leave: Callable[[], Awaitable[bool]],
    started: float,
    total: float,
    schedule: Sequence[float],
) -> tuple[Attempt, bytes | None]:
    """The attempt `made`, filled in, and the answer. It closes `plain`, a socket with error reporting on.

    The payload is sent at each time of `schedule` until there is an answer or an error; silence lasts `total` seconds.
    """
    address, port = made.address or "", made.port or 0
    begin = trio.current_time()
    made = replace(made, t=begin - started, tries=0, source=source_for(address))
    answer: bytes | None = None
    failed: _Failed | None = None
    with trio.socket.from_stdlib_socket(plain) as sock:
        for index, offset in enumerate(schedule):
            await trio.sleep_until(begin + offset)
            if not await leave():
                return replace(made, result="error", stage="socket", error="budget"), None
            if index == 0:  # the clock starts with the first datagram, never in a queue
                begin = trio.current_time()
                made = replace(made, t=begin - started)
            made = replace(made, tries=index + 1)
            failed = _send(plain, payload, address, port)
            if failed is None:
                until = schedule[index + 1] if index + 1 < len(schedule) else total
                with trio.move_on_at(begin + until):
                    answer, failed = await _receive(sock, plain, address, read)
            if answer is not None or failed is not None:
                break
        else:
            failed = _pending(plain, address)  # an error that came after the last look
    made = replace(made, elapsed=trio.current_time() - begin)
    if answer is not None:
        return replace(made, result="answered"), answer
    if failed is None:
        return replace(made, result="silent"), None
    routed = has_route(address) if failed.number == errno.EADDRNOTAVAIL else None
    return replace(
        made, result="error", stage=failed.stage, error=error_name(failed.number), icmp=failed.icmp, routed=routed
    ), None


def source_for(address: str) -> str | None:
    """The kernel's choice of our own address for `address`; None where it does not say. A UDP connect sends nothing."""
    try:
        with socket.socket(FAMILY[version(address)], socket.SOCK_DGRAM) as sock:
            sock.connect(sockaddr(address, 9))
            return own_address(sock)
    except OSError:
        return None


def same_address(one: str, other: str) -> bool:
    """Whether two texts are one address; zones do not count."""
    return ip_address(one.partition("%")[0]) == ip_address(other.partition("%")[0])


def _send(plain: socket.socket, payload: bytes, address: str, port: int) -> _Failed | None:
    """Send once. An earlier datagram's error comes up in this call: it is the network's word, or another's business."""
    for _ in range(_MOST_FOREIGN):
        try:
            plain.sendto(payload, sockaddr(address, port))
        except OSError as error:
            found, foreign = _queued(plain, address)
            if found is not None or not foreign:
                return found or _Failed("send", error.errno or 0)
        else:
            return None
    return _Failed("send", errno.EAGAIN)


async def _receive(
    sock: trio.socket.SocketType, plain: socket.socket, address: str, read: Read
) -> tuple[bytes | None, _Failed | None]:
    while True:
        try:
            data, peer = await sock.recvfrom(_MOST)
        except OSError as error:
            found, foreign = _queued(plain, address)
            if found is not None or not foreign:
                return None, found or _Failed("receive", error.errno or 0)
        else:
            if same_address(str(peer[0]), address) and (answer := read(data)) is not None:
                return answer, None


def _pending(plain: socket.socket, address: str) -> _Failed | None:
    number = pending_error(plain)
    found, foreign = _queued(plain, address)
    return found or (_Failed("receive", number) if number and not foreign else None)


def _queued(plain: socket.socket, address: str) -> tuple[_Failed | None, bool]:
    """The first error in the queue that a datagram to `address` caused, and whether there were others.

    A raw socket hears the errors of everybody's packets of its protocol.
    """
    foreign = False
    while True:
        try:
            _, ancillary, _, name = plain.recvmsg(512, 512, socket.MSG_ERRQUEUE)
        except OSError:
            return None, foreign
        if not name or not same_address(str(name[0]), address):
            foreign = True
            continue
        found: _Failed | None = None
        ttl: int | None = None
        for level, kind, data in ancillary:
            if (level, kind) in _QUEUED and len(data) >= 4:
                found = _Failed("receive", struct.unpack_from("=I", data)[0], parse_extended_error(bytes(data)))
            elif (level, kind) in _TTL and len(data) >= 4:
                ttl = struct.unpack_from("=i", data)[0]
        if found is not None:
            return found._replace(icmp=found.icmp and replace(found.icmp, ttl=ttl)), foreign

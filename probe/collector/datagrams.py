"""UDP: one task per socket drains it in bursts, stores a burst in one go, then answers it.

A packet at a time would cost a pass through trio's scheduler and a commit each. On a port with DNS a datagram is first
taken for a DNS message; what else carries a token is an arrival of channel `udp`, answered with its receipt in words.
The port asked for is the socket's own: of a redirected datagram the kernel does not tell an unconnected socket more.
"""

import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, NamedTuple

import trio

from probe import receipts
from probe.collector import dnswire, names
from probe.collector.desk import WINDOW, Desk, Known
from probe.collector.listening import BUFFER, normal
from probe.collector.names import Question, Zone
from probe.documents import Arrival
from probe.model import Transport

_DNS = 53
_BURST = 256
_MOST = WINDOW  # bytes of a datagram: more is not searched, and no DNS query over UDP is that long

# SO_MEMINFO of linux/sock_diag.h: what the kernel counts of a socket. SO_RXQ_OVFL would tell of drops only with the
# next datagram, which may never come.
_MEMINFO, _DROPS = 55, struct.Struct("=32xI")
_LOOK_EVERY = 1.0  # seconds
_IP_PKTINFO = 8  # linux/in.h; the socket module names it from Python 3.12 on
_INFO4 = struct.Struct("=I4s4s")  # interface, local address, destination: in_pktinfo of ip(7)
_INFO6 = struct.Struct("=16sI")  # local address, interface: in6_pktinfo of ipv6(7)
_ANCILLARY = socket.CMSG_SPACE(_INFO6.size)  # of the two infos, the longer
_LINK_LOCAL = b"\xfe\x80"

_Ancillary = list[tuple[int, int, bytes]]


class Datagram(NamedTuple):
    """What came, from whom (as the socket module writes it), and what tells which address was asked."""

    data: bytes
    peer: Any
    asked: _Ancillary


class Answer(NamedTuple):
    """What to do about a datagram: store `known` with `arrival` if there is one, then send what `text` makes."""

    datagram: Datagram
    known: Known | None
    arrival: Arrival | None
    text: Callable[[], bytes] | None  # None: stored, never answered


async def serve(
    sock: socket.socket,
    desk: Desk,
    zone: Zone | None,
    clock: Callable[[], float] = time.time,
    at: int | None = None,
) -> None:
    """Answer on a bound UDP socket until cancelled. `zone`: what DNS is answered for; None where none is spoken.

    `at`: the port that was asked for. Unless told: 53 where DNS is spoken (a socket on another port stands in for it,
    behind a redirection), else the socket's own, as nobody tells us what was asked for before a redirection.
    """
    _prepare(sock)
    if at is None:
        at = _DNS if zone is not None else sock.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_drops, sock, desk)
        await _answer(sock, desk, zone, clock, at)


async def watch_drops(sock: socket.socket, desk: Desk) -> None:
    """Tells the desk when the kernel dropped datagrams: some of them may have held a token."""
    told = drops(sock)
    while True:
        await trio.sleep(_LOOK_EVERY)
        if (now := drops(sock)) != told:
            told = now
            desk.missed()


def drops(sock: socket.socket) -> int:
    """How many datagrams the kernel has dropped on this socket; 0 where it does not tell (gVisor)."""
    try:
        told: int = _DROPS.unpack(sock.getsockopt(socket.SOL_SOCKET, _MEMINFO, _DROPS.size))[0]
    except (OSError, struct.error):
        return 0
    return told


async def _answer(sock: socket.socket, desk: Desk, zone: Zone | None, clock: Callable[[], float], at: int) -> None:
    while True:
        await trio.lowlevel.wait_readable(sock)
        now = clock()
        burst = _receive(sock)
        taken = [found for one in burst if (found := take(one, at, desk, zone, now)) is not None]
        stored = [(answer.known, answer.arrival) for answer in taken if answer.known and answer.arrival]
        kept = iter(await desk.keep_each(stored))
        for answer in taken:
            if (answer.arrival is None or next(kept)) and answer.text is not None:
                _send(sock, answer.text(), answer.datagram)


def take(datagram: Datagram, at: int, desk: Desk, zone: Zone | None, now: float) -> Answer | None:
    """What to do about a datagram to port `at`; None for nothing. A stranger's is counted here."""
    source, port = normal(datagram.peer[0]), datagram.peer[1]
    # Searched once: a token in a question's name is one label, and stands in the message's bytes as it is.
    known = desk.recognise(datagram.data)

    def in_name(name: bytes) -> Known | None:
        return known if known is not None and known.token.encode() in name else None

    question = None if zone is None else names.read(datagram.data, zone, in_name, source, port, at, "udp", now)
    if question is not None and question.known is not None:
        return Answer(datagram, question.known, question.arrival, lambda: names.reply(question))
    # No DNS message, or one whose token stands elsewhere.
    if known is None:
        return _stranger(datagram, question, desk, source)
    arrival = Arrival(known.check, now, "udp", "udp", source, port, at)
    # What may be an answer (a reflected one of ours) is stored, as it did arrive; answering it could make a loop.
    if zone is not None and dnswire.is_answer(datagram.data):
        return Answer(datagram, known, arrival, None)
    return Answer(
        datagram, known, arrival, lambda: receipts.write(known.key, known.token, "udp", source, port).encode()
    )


def _stranger(datagram: Datagram, question: Question | None, desk: Desk, source: str) -> Answer | None:
    if question is None:
        desk.unknown(Transport.UDP, source)
        return None
    return Answer(datagram, None, None, lambda: names.reply(question)) if desk.admit_stranger(question) else None


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    if not ip_address(sock.getsockname()[0].partition("%")[0]).is_unspecified:
        return  # bound to one address: answers leave from there
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def _receive(sock: socket.socket) -> list[Datagram]:
    # An OSError besides "nothing more" is about an earlier datagram of ours (an ICMP error): nothing to do for it.
    burst: list[Datagram] = []
    with suppress(OSError):
        while len(burst) < _BURST:
            data, asked, _, peer = sock.recvmsg(_MOST, _ANCILLARY)
            burst.append(Datagram(data, peer, asked))
    return burst


def _send(sock: socket.socket, data: bytes, datagram: Datagram) -> None:
    # An answer that cannot leave is lost like any datagram: who asked asks again.
    with suppress(OSError):
        if datagram.asked:
            sock.sendmsg([data], _from_there(datagram.asked), 0, datagram.peer)
        else:
            sock.sendto(data, datagram.peer)


def _from_there(asked: Sequence[tuple[int, int, bytes]]) -> _Ancillary:
    # The interface is left to the routing, but where an address means nothing without one.
    made: _Ancillary = []
    for level, kind, data in asked:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO) and len(data) == _INFO4.size:
            made.append((level, kind, _INFO4.pack(0, _INFO4.unpack(data)[1], bytes(4))))
        elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(data) == _INFO6.size:
            address, interface = _INFO6.unpack(data)
            made.append((level, kind, _INFO6.pack(address, interface if address[:2] == _LINK_LOCAL else 0)))
    return made

"""SYNs that arrived and whose answer nobody acknowledged: the kernel's own list, asked for by netlink.

sock_diag(7) lists only the sockets of the state that is asked for; /proc/net/tcp would list every one, each second.
"""

import socket
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass
from ipaddress import ip_address

from probe.collector.listening import normal
from probe.documents import HalfOpen

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DONE, _ERROR = 3, 2
_SYN_RECV = 3
_HEADER = struct.Struct("=IHHII")
# struct inet_diag_req_v2: family, protocol, ext, pad, states, and an inet_diag_sockid that is all zero.
_REQUEST = struct.Struct("=BBBxI48x")
# struct inet_diag_msg: family, state, timer, retrans, then sport, dport (network order), source, destination.
_FOUND = struct.Struct("=BBBB")
_PORTS = struct.Struct(">HH16s16s")
MOST = 4096  # kept of one look: a flood of SYNs fills no memory


@dataclass(frozen=True, slots=True)
class Waiting:
    """A half-open connection. `resent`: how often its SYN-ACK was sent again."""

    source: str
    port: int
    at: int
    resent: int


def request(family: int) -> bytes:
    """A netlink message that asks for every half-open TCP connection of a family."""
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << _SYN_RECV)
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + body


def parse(data: bytes) -> tuple[list[Waiting], bool]:
    """What one part of the answer lists, and whether it was the last. Total over any bytes."""
    found: list[Waiting] = []
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        if kind in (_DONE, _ERROR) or length < _HEADER.size or at + length > len(data):
            return found, True
        waiting = _waiting(data[at + _HEADER.size : at + length])
        found += [waiting] if waiting else []
        at += (length + 3) & ~3
    return found, at == 0


def _waiting(body: bytes) -> Waiting | None:
    if len(body) < _FOUND.size + _PORTS.size:
        return None
    family, state, _, resent = _FOUND.unpack_from(body)
    at, port, _, there = _PORTS.unpack_from(body, _FOUND.size)
    if state != _SYN_RECV or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    source = ip_address(there[:4] if family == socket.AF_INET else there)
    return Waiting(normal(str(source)), port, at, resent)


def are_kept(path: str = "/proc/sys/net/ipv4/tcp_synack_retries") -> bool:
    """Whether the kernel sends a SYN-ACK again. Where it does not, a half-open entry is gone before it is told."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip() != "0"
    except OSError:
        return True


def ask() -> list[Waiting]:
    """All half-open connections of this namespace, at most MOST. Raises OSError where the kernel does not tell."""
    found: list[Waiting] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as sock:
            sock.settimeout(1)
            sock.send(request(family))
            last = False
            while not last and len(found) < MOST:
                part, last = parse(sock.recv(64 * 1024))
                found += part
    return found[:MOST]


# SYNs that leave no entry: dropped because a listener's queue was full, or answered with a cookie.
_FULL = ("ListenOverflows", "ListenDrops", "SyncookiesSent")


class Watch:
    """Looks again and again, and tells each half-open connection once."""

    def __init__(self, ports: Collection[int], clock: Callable[[], float]) -> None:
        self._ports = frozenset(ports)
        self._clock = clock
        self._told: set[tuple[str, int, int]] = set()
        self._full = overflows()
        self.missed = False

    def new(self, seen: Collection[Waiting]) -> list[HalfOpen]:
        """Those on our ports whose SYN-ACK was sent again, and that were not told at the last look.

        Only those: each connection is half open for a moment. `at` is the socket's own port: what was asked for
        before a redirection is known only of connections that were accepted.
        """
        now = {(each.source, each.port, each.at) for each in seen if each.resent and each.at in self._ports}
        fresh, self._told = now - self._told, now
        return [HalfOpen(self._clock(), source, port, at) for source, port, at in sorted(fresh)]

    def look(self) -> list[HalfOpen]:
        """As `new`, of what the kernel lists now. `missed` tells whether some may have come that it does not list:

        it did not answer, its list was cut, or a listener's queue was full (then SYNs are dropped, or answered with
        cookies that leave no entry).
        """
        full = overflows()
        try:
            found = ask()
        except OSError:
            found = []
            self.missed = True
        else:
            self.missed = len(found) >= MOST or full != self._full
        self._full = full
        return self.new(found)


def overflows(path: str = "/proc/self/net/netstat") -> tuple[int, ...]:
    """What the kernel counted of SYNs that no listener took (TcpExt); empty where it does not tell."""
    try:
        with open(path, encoding="ascii") as file:
            lines = [line.split() for line in file if line.startswith("TcpExt:")]
    except OSError:
        return ()
    counted = dict(zip(*lines, strict=False)) if len(lines) == 2 else {}
    return tuple(int(counted[name]) for name in _FULL if name in counted)

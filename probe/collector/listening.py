"""The collector's sockets: opened here, or handed over by systemd; and what the kernel knows of an accepted one.

Nothing is read or written here. IPv4 and IPv6 are listened on apart, so that an address always is what it looks like.
"""

import errno
import socket
import struct
from collections.abc import Iterable, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

from probe.errors import UserError

Kind = Literal["tcp", "udp", "api"]

API_NAME = "api"  # FileDescriptorName= of the API's socket
_FIRST_FD = 3  # SD_LISTEN_FDS_START
_TCP_SAVE_SYN = 27  # linux/tcp.h
_TCP_SAVED_SYN = 28
_ORIGINAL_DST = 80  # SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST (linux/netfilter_ipv4.h, netfilter_ipv6/ip6_tables.h)
_MOST_SYN = 120
_BACKLOG = 4096
BUFFER = 4 * 1024 * 1024  # bytes wanted for what waits while a burst is stored; the kernel gives what it allows
_TYPES = {"tcp": socket.SOCK_STREAM, "api": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


@dataclass(frozen=True, slots=True)
class Bound:
    """A socket that is bound and, of a stream's kind, listens."""

    kind: Kind
    sock: socket.socket

    @property
    def port(self) -> int:
        return int(self.sock.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen."""

    kind: Kind
    address: str
    port: int

    @property
    def authority(self) -> str:
        """`192.0.2.1:443`, `[2001:db8::1]:443`."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def __str__(self) -> str:
        return f"{'udp' if self.kind == 'udp' else 'tcp'} {self.authority}"


def places(kind: Kind, addresses: Iterable[str], ports: Iterable[int]) -> list[Place]:
    """Every port on every address."""
    wanted = list(ports)
    return [Place(kind, address, port) for address in addresses for port in wanted]


def open_all(wanted: Sequence[Place]) -> list[Bound]:
    """All of them, or UserError for the first that cannot be had."""
    found: list[Bound] = []
    try:
        for place in wanted:
            found.append(Bound(place.kind, _open(place)))
    except OSError as error:
        close_all(found)
        raise UserError(f"cannot listen on {place}: {_told(place, error)}") from None
    return found


def close_all(sockets: Iterable[Bound]) -> None:
    """Close them."""
    for bound in sockets:
        bound.sock.close()


def has_ipv6() -> bool:
    """Whether this host can listen on IPv6 at all."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::", 0))
    except OSError:
        return False
    return True


def _open(place: Place) -> socket.socket:
    family = socket.AF_INET6 if ":" in place.address else socket.AF_INET
    sock = socket.socket(family, _TYPES[place.kind] | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if place.kind != "udp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((place.address, place.port))
        _prepare(sock, place.kind)
    except OSError:
        sock.close()
        raise
    return sock


def _prepare(sock: socket.socket, kind: Kind) -> None:
    sock.setblocking(False)
    if kind == "udp":  # datagrams.py prepares it
        return
    if kind == "tcp":
        # Before the first SYN; a kernel that does not know it (gVisor) leaves arrivals without the SYN's header.
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_SAVE_SYN, 1)
    sock.listen(_BACKLOG)


def _told(place: Place, error: OSError) -> str:
    if error.errno == errno.EACCES and place.port < 1024:
        return (
            f"permission denied (ports below 1024 need CAP_NET_BIND_SERVICE: sockets from systemd, setcap on a python"
            f" of its own, or sysctl net.ipv4.ip_unprivileged_port_start={place.port})"
        )
    if error.errno == errno.EADDRINUSE:
        return "another process listens there already"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this host has no such address (--listen)"
    return error.strerror or str(error)


# --- systemd ----------------------------------------------------------------------------------------------------------


def inherited(environment: MutableMapping[str, str], pid: int) -> list[Bound]:
    """The sockets that systemd handed over (sd_listen_fds(3)); takes them out of `environment`. Raises UserError.

    Streams are the arrivals', datagrams too; the API's is the one named `api`.
    """
    meant = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if meant != str(pid) or not count:
        return []
    if not count.isascii() or not count.isdigit() or not 0 < int(count) <= 1024:
        raise UserError(f"LISTEN_FDS: expected a number of sockets, got {count!r}")
    names += [""] * (int(count) - len(names))
    return [_adopt(_FIRST_FD + index, names[index]) for index in range(int(count))]


def _adopt(number: int, name: str) -> Bound:
    try:
        sock = socket.socket(fileno=number)
    except OSError as error:
        raise UserError(f"LISTEN_FDS: descriptor {number} is no socket: {error.strerror}") from None
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        sock.detach()
        raise UserError(f"LISTEN_FDS: descriptor {number} is not of the Internet: {sock.family!r}")
    sock.set_inheritable(False)
    kind: Kind = "udp" if sock.type == socket.SOCK_DGRAM else "api" if name == API_NAME else "tcp"
    _prepare(sock, kind)
    return Bound(kind, sock)


# --- accepted ---------------------------------------------------------------------------------------------------------


def normal(address: str) -> str:
    """An address as `ipaddress` writes it, without a zone; a v4-mapped one as IPv4."""
    if ":" not in address:
        return address  # the kernel's own form
    found = ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if found.version == 6 else None
    return str(mapped or found)


def asked_port(sock: socket.socket) -> int:
    """The port that the client asked for: before a redirection by netfilter, else the socket's own. Raises OSError."""
    own = sock.getsockname()
    level, size = (socket.IPPROTO_IPV6, 28) if sock.family == socket.AF_INET6 else (socket.IPPROTO_IP, 16)
    with suppress(OSError):  # nothing was redirected, or netfilter does not track connections here
        found = sock.getsockopt(level, _ORIGINAL_DST, size)
        return int(struct.unpack_from(">H", found, 2)[0])
    return int(own[1])


def saved_syn(sock: socket.socket) -> str | None:
    """IP and TCP headers of the SYN that arrived, as hex; None where the kernel kept none. It tells only once."""
    with suppress(OSError):
        found = sock.getsockopt(socket.IPPROTO_TCP, _TCP_SAVED_SYN, 256)
        return found[:_MOST_SYN].hex() or None
    return None

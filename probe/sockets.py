"""Sockets as instruments: open one that reports ICMP errors, and read what the kernel knows after a failure.

`IP_RECVERR` and `IPV6_RECVERR` on a plain TCP or UDP socket give ICMP type, code and offender without any privilege
(ip(7), "IP_RECVERR"; struct sock_extended_err in linux/errqueue.h).
"""

import errno
import ipaddress
import select
import socket
import struct
from contextlib import suppress
from dataclasses import replace

from probe.documents import Icmp, TcpInfo

IP_RECVERR = 11
IPV6_RECVERR = 25
_IP_RECVTTL = 12
_IPV6_RECVHOPLIMIT = 51
_IP_MINTTL = 21
_IPV6_MINHOPCOUNT = 73
# An error's own time to live: (level, type) of the ancillary message, and how it is packed.
_TTL = {(socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, 52)}  # IPV6_HOPLIMIT
_ORIGIN_ICMP = 2
_ORIGIN_ICMP6 = 3
_EXTENDED_ERR = struct.Struct("=IBBBBII")

FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


def version(address: str) -> int:
    """4 or 6, quickly."""
    return 6 if ":" in address else 4


def sockaddr(address: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """What connect() takes. A link-local address keeps its zone: `fe80::1%eth0`. Raises OSError for an unknown zone."""
    bare, _, zone = address.partition("%")
    return (bare, port, 0, socket.if_nametoindex(zone)) if zone else (address, port)


def limit(sock: socket.socket, family: int, hops: int | None, least: int | None) -> None:
    """`hops`: where its packets die (IP_TTL, IPV6_UNICAST_HOPS); `least`: the lowest TTL that it hears (RFC 5082).

    Raises OSError.
    """
    for table, value in ((_HOPS, hops), (_LEAST, least)):
        for level, option in table[family] if value is not None else ():
            if level == socket.IPPROTO_IPV6 or sock.proto != socket.IPPROTO_ICMPV6:
                sock.setsockopt(level, option, value or 0)


# An IPv6 socket may carry IPv4 (a v4-mapped address): both are set; one of ICMPv6 may not, and knows no IPv4 options.
_HOPS = {
    4: ((socket.IPPROTO_IP, socket.IP_TTL),),
    6: ((socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS), (socket.IPPROTO_IP, socket.IP_TTL)),
}
_LEAST = {
    4: ((socket.IPPROTO_IP, _IP_MINTTL),),
    6: ((socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT), (socket.IPPROTO_IP, _IP_MINTTL)),
}


def one_hop_socket(family: int, kind: int) -> socket.socket:
    """As open_socket; its packets die at the next hop. Raises OSError."""
    return limited_socket(family, kind, 1, None)


def limited_socket(family: int, kind: int, hops: int | None, least: int | None) -> socket.socket:
    """As open_socket, with limits. Raises OSError."""
    sock = open_socket(family, kind)
    try:
        limit(sock, family, hops, least)
    except OSError:
        sock.close()
        raise
    return sock


def open_socket(family: int, kind: int) -> socket.socket:
    """A non-blocking socket with error reporting on. Raises OSError where the kernel refuses the socket."""
    sock = socket.socket(FAMILY[family], kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    # A filter that forbids setsockopt leaves the socket usable; then there is no error queue, and errno alone speaks.
    with suppress(OSError):
        if family == 4:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVHOPLIMIT, 1)
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)  # for the errors of a v4-mapped address
    return sock


def error_name(number: int) -> str:
    """The errno's own name, `E42` for one that Python does not know."""
    return errno.errorcode.get(number, f"E{number}")


def pending_error(sock: socket.socket) -> int:
    """SO_ERROR, and clears it."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def icmp_error(sock: socket.socket) -> Icmp | None:
    """The ICMP error in the socket's error queue, or None."""
    try:
        _, ancillary, _, _ = sock.recvmsg(512, 512, socket.MSG_ERRQUEUE)
    except OSError:
        return None
    found: Icmp | None = None
    ttl: int | None = None
    for level, kind, data in ancillary:
        if (level, kind) in ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)):
            found = parse_extended_error(bytes(data))
        elif (level, kind) in _TTL and len(data) >= 4:
            ttl = struct.unpack_from("=i", data)[0]
    return found and replace(found, ttl=ttl)


def tcp_info(sock: socket.socket) -> TcpInfo | None:
    """TCP_INFO of `sock`, or None where the kernel does not tell (no such option, or a syscall filter)."""
    try:
        data = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:
        return None
    if len(data) < _TCP_INFO.size:
        return None
    state, timeouts, options, scales, mss, left, rtt, resent = _TCP_INFO.unpack_from(data)
    scale = scales & 15 if options & _TCPI_OPT_WSCALE else None
    return TcpInfo(state, timeouts, resent, left, rtt / 1e6 if rtt else None, mss or None, scale)


# struct tcp_info: state, (ca_state), retransmits, (probes, backoff), options, wscale, …, snd_mss, …, retrans, …, rtt,
# …, total_retrans. `x` are the fields between.
_TCP_INFO = struct.Struct("=BxBxxBBx 8x I 16x I 28x I 28x I")
_TCPI_OPT_WSCALE = 4


def event_words(mask: int) -> str:
    """A poll mask as words: `in out err hup`."""
    return " ".join(word for bit, word in _EVENTS if mask & bit)


_EVENTS = ((select.EPOLLIN, "in"), (select.EPOLLOUT, "out"), (select.EPOLLERR, "err"), (select.EPOLLHUP, "hup"))


def parse_extended_error(data: bytes) -> Icmp | None:
    """A sock_extended_err and the offender's sockaddr. None for one that is not ICMP, or is cut short."""
    if len(data) < _EXTENDED_ERR.size:
        return None
    _, origin, kind, code, _, _, _ = _EXTENDED_ERR.unpack_from(data)
    if origin not in (_ORIGIN_ICMP, _ORIGIN_ICMP6):
        return None
    return Icmp(kind, code, _sockaddr(data[_EXTENDED_ERR.size :]))


def _sockaddr(data: bytes) -> str | None:
    if len(data) < 8:
        return None
    family = struct.unpack_from("=H", data)[0]
    if family == socket.AF_INET:
        return str(ipaddress.IPv4Address(data[4:8]))
    if family == socket.AF_INET6 and len(data) >= 24:
        return unmapped(str(ipaddress.IPv6Address(data[8:24])))
    return None


def unmapped(address: str) -> str:
    """`::ffff:10.0.0.1` is the IPv4 address that its packets carry."""
    mapped = ipaddress.IPv6Address(address).ipv4_mapped if address.startswith("::ffff:") else None
    return address if mapped is None else str(mapped)


def own_address(sock: socket.socket) -> str | None:
    """Our own address on `sock`, or None."""
    try:
        name = sock.getsockname()
    except OSError:
        return None
    address = str(name[0])
    return None if address in ("0.0.0.0", "::") else unmapped(address.split("%")[0])  # noqa: S104 - compared, not bound


def has_route(address: str) -> bool:
    """Whether the kernel has a route and a source address for `address`. A UDP connect sends nothing."""
    try:
        with socket.socket(FAMILY[version(address)], socket.SOCK_DGRAM) as sock:
            sock.connect(sockaddr(address, 9))
    except OSError:
        return False
    return True


def rst_on_close(sock: socket.socket) -> None:
    """Closing sends RST instead of FIN: nothing is left in TIME_WAIT, here or in a filter's table."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one; the limit that then holds."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return soft


def os_error(error: OSError) -> str:
    """The errno's name of a raised OSError."""
    return error_name(error.errno or 0)

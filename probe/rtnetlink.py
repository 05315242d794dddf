"""Bytes of rtnetlink, built and parsed: no socket, no clock, total over any bytes.

Sources: RFC 3549, netlink(7), rtnetlink(7), linux/netlink.h, rtnetlink.h, if_addr.h, neighbour.h. All in host byte
order, addresses in network byte order.
"""

import ipaddress
import socket
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass

NEWLINK, GETLINK = 16, 18
NEWADDR, GETADDR = 20, 22
NEWROUTE, GETROUTE = 24, 26
NEWNEIGH, GETNEIGH = 28, 30
ERROR, DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE
REQUEST, DUMP = 0x1, 0x300  # NLM_F_REQUEST, NLM_F_DUMP
MULTI = 0x2  # NLM_F_MULTI: more messages follow, up to DONE
INTERRUPTED = 0x10  # NLM_F_DUMP_INTR: the table changed while it was listed

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
_HOP = struct.Struct("=HBBi")  # rtnexthop: length, flags, hops, interface
_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg: family, bits, source bits, tos, table, protocol, scope, type, flags
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, device type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # ifaddrmsg: family, bits, flags, scope, index
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # ndmsg: family, interface, state, flags, type
_ERRNO = struct.Struct("=i")

_TYPE_BITS = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_DST, _OIF, _GATEWAY, _MULTIPATH, _TABLE, _VIA = 1, 4, 5, 9, 15, 18  # RTA_…
_IFNAME = 3  # IFLA_IFNAME
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_NDA_DST = 1

# RTN_…: what a route does.
_TYPES = "unspec unicast local broadcast anycast multicast blackhole unreachable prohibit throw nat xresolve".split()
# NUD_…: state of a neighbour entry.
_STATES = {
    0x00: "none",
    0x01: "incomplete",
    0x02: "reachable",
    0x04: "stale",
    0x08: "delay",
    0x10: "probe",
    0x20: "failed",
    0x40: "noarp",
    0x80: "permanent",
}

MAIN, LOCAL = 254, 255  # RT_TABLE_…


@dataclass(frozen=True, slots=True)
class Link:
    """An interface. `flags` are IFF_… of netdevice(7)."""

    index: int
    name: str
    flags: int


@dataclass(frozen=True, slots=True)
class Address:
    """One of our own addresses. `flags` are IFA_F_…"""

    interface: int
    address: str
    bits: int
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Hop:
    """A next hop. `gateway` is None where the network is on the link itself; `interface` 0: none is named."""

    interface: int
    gateway: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A row of a routing table, or a routing decision. `destination` is CIDR; several hops share the load."""

    type: str
    destination: str
    table: int
    hops: tuple[Hop, ...] = ()


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A row of the neighbour table (ARP, neighbour discovery)."""

    address: str
    interface: int
    state: str


@dataclass(frozen=True, slots=True)
class Message:
    """One netlink message without its header."""

    type: int
    flags: int
    sequence: int
    body: bytes


# --- build ------------------------------------------------------------------------------------------------------------


def dump_request(kind: int) -> bytes:
    """Everything of one kind (GETLINK, GETADDR, GETROUTE, GETNEIGH), both families."""
    sizes = {GETLINK: _LINK.size, GETADDR: _ADDRESS.size, GETROUTE: _ROUTE.size, GETNEIGH: _NEIGHBOUR.size}
    return _message(kind, REQUEST | DUMP, bytes(sizes[kind]))


def route_request(address: str, interface: int = 0) -> bytes:
    """The routing decision for `address`; `interface` is its zone, 0 for none. Nothing is sent to it."""
    family, packed = _packed(address)
    body = _ROUTE.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0) + _attribute(_DST, packed)
    if interface:
        body += _attribute(_OIF, struct.pack("=I", interface))
    return _message(GETROUTE, REQUEST, body)


def neighbour_request(address: str, interface: int) -> bytes:
    """The neighbour entry of `address` on `interface` (Linux 5.0; older ones answer EOPNOTSUPP)."""
    family, packed = _packed(address)
    return _message(GETNEIGH, REQUEST, _NEIGHBOUR.pack(family, interface, 0, 0, 0) + _attribute(_NDA_DST, packed))


def with_sequence(request: bytes, sequence: int) -> bytes:
    """`request` with its sequence number set."""
    length, kind, flags, _, port = _HEADER.unpack_from(request)
    return _HEADER.pack(length, kind, flags, sequence, port) + request[_HEADER.size :]


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _packed(address: str) -> tuple[int, bytes]:
    parsed = ipaddress.ip_address(address)
    return (socket.AF_INET if parsed.version == 4 else socket.AF_INET6), parsed.packed


# --- parse ------------------------------------------------------------------------------------------------------------


def messages(data: bytes) -> list[Message]:
    """The messages in a datagram, up to the first that is cut short."""
    found = []
    while len(data) >= _HEADER.size:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data)
        if not _HEADER.size <= length <= len(data):
            break
        found.append(Message(kind, flags, sequence, data[_HEADER.size : length]))
        data = data[(length + 3) & ~3 :]
    return found


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by type, up to the first that is cut short; of two with the same type the last."""
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            break
        found[kind & _TYPE_BITS] = data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]
    return found


def error_of(message: Message) -> int | None:
    """The errno (positive; 0 is an acknowledgement) of an NLMSG_ERROR, or of a dump that ended badly; else None."""
    if message.type not in (ERROR, DONE) or len(message.body) < _ERRNO.size:
        return None
    number: int = _ERRNO.unpack_from(message.body)[0]
    return abs(number) if message.type == ERROR or number < 0 else None


def links(found: Iterable[Message]) -> tuple[Link, ...]:
    """The interfaces among `found`."""
    parsed = []
    for body in _bodies(found, NEWLINK, _LINK.size):
        _, _, index, flags, _ = _LINK.unpack_from(body)
        name = attributes(body[_LINK.size :]).get(_IFNAME, b"").split(b"\0")[0]
        parsed.append(Link(index, name.decode("ascii", "replace"), flags))
    return tuple(parsed)


def addresses(found: Iterable[Message]) -> tuple[Address, ...]:
    """Our own addresses among `found`."""
    parsed = []
    for body in _bodies(found, NEWADDR, _ADDRESS.size):
        family, bits, flags, _, index = _ADDRESS.unpack_from(body)
        more = attributes(body[_ADDRESS.size :])
        # On a point-to-point link IFA_ADDRESS is the other end's, and IFA_LOCAL ours.
        address = _address(family, more.get(_IFA_LOCAL) or more.get(_IFA_ADDRESS))
        if address is not None:
            parsed.append(Address(index, address, bits, _number(more.get(_IFA_FLAGS)) or flags))
    return tuple(parsed)


def routes(found: Iterable[Message]) -> tuple[Route, ...]:
    """The routes among `found`, of IPv4 and IPv6."""
    parsed = (_route(body) for body in _bodies(found, NEWROUTE, _ROUTE.size))
    return tuple(route for route in parsed if route is not None)


def neighbours(found: Iterable[Message]) -> tuple[Neighbour, ...]:
    """The neighbour entries among `found`."""
    parsed = []
    for body in _bodies(found, NEWNEIGH, _NEIGHBOUR.size):
        family, index, state, _, _ = _NEIGHBOUR.unpack_from(body)
        address = _address(family, attributes(body[_NEIGHBOUR.size :]).get(_NDA_DST))
        if address is not None and state in _STATES:
            parsed.append(Neighbour(address, index, _STATES[state]))
    return tuple(parsed)


def _bodies(found: Iterable[Message], kind: int, least: int) -> list[bytes]:
    return [message.body for message in found if message.type == kind and len(message.body) >= least]


def _route(body: bytes) -> Route | None:
    family, bits, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
    more = attributes(body[_ROUTE.size :])
    any_address = {socket.AF_INET: bytes(4), socket.AF_INET6: bytes(16)}.get(family)
    destination = _address(family, more.get(_DST, any_address))
    if destination is None or bits > 8 * len(any_address or b""):
        return None
    name = _TYPES[kind] if kind < len(_TYPES) else f"type-{kind}"
    return Route(name, f"{destination}/{bits}", _number(more.get(_TABLE)) or table, _hops(family, more))


def _hops(family: int, more: dict[int, bytes]) -> tuple[Hop, ...]:
    if _MULTIPATH not in more:
        # A route that names only a next-hop object (RTA_NH_ID) has none: what it leads to is not known here.
        return (_hop(family, _number(more.get(_OIF), signed=True), more),) if _OIF in more else ()
    data, found = more[_MULTIPATH], []
    while len(data) >= _HOP.size:
        length, _, _, index = _HOP.unpack_from(data)
        if not _HOP.size <= length <= len(data):
            break
        found.append(_hop(family, index, attributes(data[_HOP.size : length])))
        data = data[(length + 3) & ~3 :]
    return tuple(found)


def _hop(family: int, index: int, more: dict[int, bytes]) -> Hop:
    gateway = _address(family, more.get(_GATEWAY))
    via = more.get(_VIA, b"")  # struct rtvia: an IPv4 route whose next hop has an IPv6 address
    if gateway is None and len(via) > 2:
        gateway = _address(int.from_bytes(via[:2], sys.byteorder), via[2:])
    return Hop(index, gateway)


def _address(family: int, data: bytes | None) -> str | None:
    if data is not None and (family, len(data)) in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
        return str(ipaddress.ip_address(data))
    return None


def _number(data: bytes | None, signed: bool = False) -> int:
    return int.from_bytes(data[:4], sys.byteorder, signed=signed) if data else 0

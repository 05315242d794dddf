"""The network around this process: interfaces, own addresses, routes, and what is reached without a router.

From netlink; where that is refused from /proc, which may be missing too. Never from /sys: bubblewrap and others leave
the host's there. All texts are bounded printable ASCII.
"""

import ipaddress
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from probe import netlink
from probe.rtnetlink import LOCAL, MAIN

MOST = 64  # rows that are told of each kind
_MOST_NEAR = 1024  # on a host with more local networks than this, which ones they are is left unknown
_LONGEST = 128

# A route to a device that is wider than this (a default route, a tunnel's 0.0.0.0/1) says nothing of who is near.
_NEAR = {4: 8, 6: 32}
# linux/route.h, linux/ipv6_route.h
_RTF_REJECT, _RTF_ANYCAST, _RTF_LOCAL = 0x0200, 0x00100000, 0x80000000
_NOT_TOLD = frozenset({"local", "broadcast", "anycast", "multicast"})

Read = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Way:
    """One hop of one route. `destination` is CIDR; `device` is empty where a route leads nowhere."""

    type: str
    destination: str
    device: str
    gateway: str | None = None
    table: int = MAIN


def printable(text: str, most: int = _LONGEST) -> str:
    """At most `most` characters of printable ASCII; everything else is a dot."""
    return "".join(char if " " <= char <= "~" else "." for char in text[:most])


def interfaces(read: Read, ask: netlink.Ask = netlink.ask) -> tuple[str, ...]:
    """Names of the interfaces; empty where neither netlink nor /proc tells."""
    found = netlink.links(ask)
    if found is not None:
        names = [link.name for link in found]
    else:
        names = [line.partition(":")[0].strip() for line in (read("/proc/net/dev") or "").splitlines() if ":" in line]
    return _told(names)


def addresses(read: Read, ask: netlink.Ask = netlink.ask) -> tuple[str, ...]:
    """As `eth0 10.0.0.2/24`. /proc tells the IPv4 ones without their interface: `10.0.0.2/32`."""
    found = netlink.addresses(ask)
    if found is not None:
        names = {link.index: link.name for link in netlink.links(ask) or ()}
        return _told(f"{names.get(one.interface, one.interface)} {one.address}/{one.bits}" for one in found)
    six = [f"{row.device} {row.address}/{row.bits}" for row in parse_if_inet6(read("/proc/net/if_inet6"))]
    return _told([*parse_fib_trie(read("/proc/net/fib_trie")), *six])


def ways(read: Read, ask: netlink.Ask = netlink.ask) -> tuple[Way, ...] | None:
    """All routes, one row per hop. None where neither netlink nor /proc tells."""
    found = netlink.routes(ask)
    if found is None:
        return parse_routes(read("/proc/net/route"), read("/proc/net/ipv6_route"))
    names = {link.index: link.name for link in netlink.links(ask) or ()}
    rows = []
    for one in found:
        for hop in one.hops:
            device = names.get(hop.interface, str(hop.interface))
            rows.append(Way(one.type, one.destination, device, hop.gateway, one.table))
        if not one.hops:
            rows.append(Way(one.type, one.destination, "", None, one.table))
    return tuple(rows)


def routes(found: Iterable[Way]) -> tuple[str, ...]:
    """As `default via 10.0.0.1 dev eth0`, as ip-route(8) writes them; defaults first, without own addresses."""
    shown = [way for way in found if way.type not in _NOT_TOLD and way.table != LOCAL and way.destination != "ff00::/8"]
    return _told(_text(way) for way in sorted(shown, key=lambda way: not way.destination.endswith("/0")))


def _text(way: Way) -> str:
    wide = way.destination == "0.0.0.0/0" or (way.gateway is not None and way.destination == "::/0")
    words = [] if way.type == "unicast" else [way.type]
    words.append("default" if wide else way.destination)
    words += ["via", way.gateway] if way.gateway else []
    words += ["dev", way.device] if way.device and way.type == "unicast" else []
    return " ".join(words + ([] if way.table == MAIN else ["table", str(way.table)]))


def near(found: Iterable[Way]) -> tuple[str, ...] | None:
    """Networks reached without a router, as CIDR. None where there are too many to tell."""
    networks = dict.fromkeys(net for way in found if (net := _near(way)))
    return tuple(networks) if len(networks) <= _MOST_NEAR else None


def _near(way: Way) -> str | None:
    net = ipaddress.ip_network(way.destination, strict=False)
    if way.gateway is not None or not way.device or net.prefixlen < _NEAR[net.version]:
        return None
    if net.version == 4:
        return str(net) if way.type == "unicast" and way.table == MAIN else None
    usual = way.type in ("unicast", "local", "anycast")  # our own addresses need no router either
    return str(net) if usual and way.device != "lo" and not net.is_multicast else None


def _told(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(printable(text) for text in texts))[:MOST]


# --- /proc ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SixAddress:
    """A row of /proc/net/if_inet6. `flags` are IFA_F_…"""

    address: str
    bits: int
    flags: int
    device: str


def parse_if_inet6(text: str | None) -> tuple[SixAddress, ...]:
    """/proc/net/if_inet6; rows that are none are left out."""
    found = []
    for words in map(str.split, (text or "").splitlines()):
        with suppress(ValueError, IndexError):
            address = str(ipaddress.IPv6Address(bytes.fromhex(words[0])))
            found.append(SixAddress(address, int(words[2], 16), int(words[4], 16), words[5]))
    return tuple(found)


def parse_fib_trie(text: str | None) -> tuple[str, ...]:
    """Our own IPv4 addresses: `/32 host LOCAL` under `|-- 10.0.0.2` in /proc/net/fib_trie."""
    found, last = [], ""
    for line in (text or "").splitlines():
        words = line.split()
        if words[:1] == ["|--"] and len(words) == 2:
            last = words[1]
        elif words == ["/32", "host", "LOCAL"]:
            with suppress(ValueError):
                found.append(f"{ipaddress.IPv4Address(last)}/32")
    return tuple(dict.fromkeys(found))


def parse_routes(route: str | None, ipv6_route: str | None) -> tuple[Way, ...] | None:
    """/proc/net/route and ipv6_route (a kernel without IPv6 has none); rows that are none are left out."""
    if route is None:
        return None
    found = []
    for parse, lines in ((_v4, route.splitlines()[1:]), (_v6, (ipv6_route or "").splitlines())):
        for line in lines:
            with suppress(ValueError, IndexError, struct.error):
                found.append(parse(line.split()))
    return tuple(found)


def _v4(words: list[str]) -> Way:
    address, gateway, mask = (struct.pack("=I", int(words[place], 16)) for place in (1, 2, 7))
    net = ipaddress.IPv4Network((address, int.from_bytes(mask, "big").bit_count()), strict=False)
    # A blackhole has no flag of its own; like a reject it has no device, which is written `*`.
    nowhere = bool(int(words[3], 16) & _RTF_REJECT) or words[0] == "*"
    hop = str(ipaddress.IPv4Address(gateway)) if any(gateway) else None
    return Way("unreachable" if nowhere else "unicast", str(net), "" if nowhere else words[0], hop)


def _v6(words: list[str]) -> Way:
    net = ipaddress.IPv6Network((bytes.fromhex(words[0]), int(words[1], 16)), strict=False)
    gateway, flags = ipaddress.IPv6Address(bytes.fromhex(words[4])), int(words[8], 16)
    kind = next((word for flag, word in _KINDS.items() if flags & flag), "unicast")
    # The kernel's own last entry, `unreachable default`, is in every table.
    table = LOCAL if kind == "unreachable" and words[5] == "ffffffff" else MAIN
    return Way(kind, str(net), words[9], str(gateway) if int(gateway) else None, table)


_KINDS = {_RTF_REJECT: "unreachable", _RTF_LOCAL: "local", _RTF_ANYCAST: "anycast"}

"""Address blocks that matter to probing, from the IANA special-purpose registries. Pure tables.

Sources: RFC 5737, 3849, 9637 (documentation), RFC 7526 (192.88.99.0/24), RFC 6890 and the IANA IPv4/IPv6
Special-Purpose Address Registries (2025).
"""

import random
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# One address per block: the same everywhere, so that a security team can write one filter for all our probes.
DOCUMENTATION: tuple[tuple[str, str], ...] = (
    ("192.0.2.0/24", "192.0.2.1"),
    ("198.51.100.0/24", "198.51.100.1"),
    ("203.0.113.0/24", "203.0.113.1"),
    ("192.88.99.0/24", "192.88.99.1"),  # deprecated 6to4 relay anycast, RFC 7526
    ("2001:db8::/32", "2001:db8::1"),
    ("3fff::/20", "3fff::1"),
)

# Registered as not globally reachable, less what is somebody's LAN (private use, shared, link-local, loopback,
# multicast, broadcast), less 0.0.0.0/8 (the kernel takes 0.0.0.0 for this host) and less 64:ff9b:1::/48 (a local
# translator's own choice).
RESERVED: tuple[tuple[str, str], ...] = (
    ("192.0.0.0/24", "192.0.0.127"),  # IETF protocol assignments, an unassigned one
    ("198.18.0.0/15", "198.18.0.1"),  # benchmarking, RFC 2544
    ("240.0.0.0/4", "240.0.0.1"),  # reserved for future use, RFC 1112
    ("100::/64", "100::1"),  # discard-only, RFC 6666
    ("2001:2::/48", "2001:2::1"),  # benchmarking, RFC 5180
    ("5f00::/16", "5f00::1"),  # SRv6 SIDs, RFC 9602
)

_NOBODY: tuple[Network, ...] = tuple(ip_network(block) for block, _ in (*DOCUMENTATION, *RESERVED))

# Addresses that a resolver hands out to say no.
SINKHOLES: tuple[Network, ...] = tuple(ip_network(n) for n in ("0.0.0.0/8", "127.0.0.0/8", "::/128", "::1/128"))

# `ipaddress` calls deprecated or odd blocks global; a random public probe keeps out of them.
_NOT_RANDOM: tuple[Network, ...] = tuple(
    ip_network(n) for n in ("192.88.99.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.175.48.0/24", "2001::/23",
                            "2002::/16", "2620:4f:8000::/48", "64:ff9b::/96")
)  # fmt: skip


# Of a name: so many addresses are tried, and so many servers of resolv.conf(5) are asked (MAXNS).
MOST_ADDRESSES = 4
MOST_SERVERS = 3


def is_reserved(address: str) -> bool:
    """Whether a registry entry says that nobody lives at `address`."""
    parsed = ip_address(address)
    return any(parsed in block for block in _NOBODY)


# Metadata services of the large clouds: a probe keeps out unless it is asked for (a resolver may point there).
_METADATA = frozenset(ip_address(a) for a in ("100.100.100.200", "168.63.129.16", "fd00:ec2::254"))


def is_connectable(address: str) -> bool:
    """Whether a plain socket can try it: not multicast, broadcast, unspecified, nor link-local without a zone."""
    parsed = ip_address(address)
    special = parsed.is_multicast or parsed.is_unspecified or str(parsed) == "255.255.255.255"
    return not special and not (parsed.is_link_local and "%" not in address)


def is_own_business(address: str) -> bool:
    """Whether a name that leads to `address` is not followed: this host, its links, a metadata service."""
    parsed = ip_address(address)
    return is_sinkhole(address) or parsed.is_link_local or parsed.is_multicast or parsed in _METADATA


def is_sinkhole(address: str) -> bool:
    """Whether `address` is one that a resolver gives for a name that it blocks."""
    parsed = ip_address(address)
    return any(parsed in block for block in SINKHOLES)


def block_of(address: str) -> str:
    """The registry block of a reserved address, or the address's own /24 or /48."""
    parsed = ip_address(address)
    for block in _NOBODY:
        if parsed in block:
            return str(block)
    return str(ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False))


def known_block(address: str | None) -> str | None:
    """The same; None for what is no address, which a stored report may hold."""
    try:
        ip_address(address or "")
    except ValueError:
        return None
    return block_of(address or "")


def random_public(count: int, seed: str) -> tuple[str, ...]:
    """`count` different global unicast IPv4 addresses, the same for the same `seed`."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        address = IPv4Address(draw.randrange(1 << 24, 224 << 24))
        # .0 and .255 are network and broadcast addresses often enough to be left alone.
        if address.is_global and int(address) & 255 not in (0, 255) and not any(address in n for n in _NOT_RANDOM):
            found[str(address)] = None
    return tuple(found)


def family(address: str) -> int:
    """4 or 6."""
    return ip_address(address).version

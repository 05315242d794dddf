"""Domain patterns, networks and ports as policies write them: validation and matching. Pure."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from probe.errors import UserError

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")


def domain_pattern(text: str, where: str) -> str:
    """A checked, lower-case pattern: a name, or `*.` and a name. Raises UserError that starts with `where`."""
    name = text.lower().removesuffix(".")
    bare = name.removeprefix("*.")
    if "*" in bare:
        raise UserError(f'{where}: wildcard in the wrong place in {text!r} (expected a name or "*." and a name)')
    try:
        bare = bare.encode("idna").decode("ascii") if not bare.isascii() else bare
    except UnicodeError:
        raise UserError(f"{where}: {text!r} is not a domain name") from None
    if len(bare) > 253 or not all(_LABEL.match(label) for label in bare.split(".")):
        raise UserError(f'{where}: {text!r} is not a domain name (expected a name or "*." and a name)')
    if _is_address(bare):
        raise UserError(f"{where}: {text!r} is an address (expected a name; an address goes under cidr)")
    return f"*.{bare}" if name.startswith("*.") else bare


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def network(text: str, where: str) -> str:
    """A checked CIDR; a bare address is a network of one. Raises UserError that starts with `where`."""
    try:
        return str(ip_network(text))
    except ValueError as error:
        reason = "has host bits set" if "host bits" in str(error) else "is not a network"
        raise UserError(f"{where}: {text!r} {reason} (expected one like 198.51.100.0/24 or 2001:db8::/32)") from None


def port(number: int, where: str) -> int:
    """A checked port. Raises UserError that starts with `where`."""
    if not 1 <= number <= 65535:
        raise UserError(f"{where}: {number} is not a port (expected 1 to 65535)")
    return number


def domain_matches(pattern: str, name: str) -> bool:
    """`x` is exact, `*.x` is any depth below x and not x itself. Case and a trailing dot do not matter."""
    name = name.lower().removesuffix(".")
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and len(name) > len(pattern) - 1
    return name == pattern


def network_contains(cidr: str, address: str) -> bool:
    """Whether `address` lies in `cidr`. A v4-mapped v6 address lies where its v4 address does."""
    net: IPv4Network | IPv6Network = ip_network(cidr)
    parsed = ip_address(address)
    mapped = parsed.ipv4_mapped if parsed.version == 6 else None
    return parsed in net or (mapped is not None and mapped in net)


def single_host(cidr: str) -> str | None:
    """The address of a network of one, else None."""
    net = ip_network(cidr)
    return str(net.network_address) if net.num_addresses == 1 else None

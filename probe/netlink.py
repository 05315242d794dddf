"""What the kernel's own tables say: routing decision, next hop, neighbour state, interfaces, addresses, routes.

Read-only and unprivileged. Nothing is sent on any network: a question to the routing table is answered by the kernel.
One function, `ask`, touches a socket; the others take another one in its place.
"""

import errno
import ipaddress
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from probe import rtnetlink
from probe.rtnetlink import Address, Link, Message, Route

_SECONDS = 0.5  # a kernel answers within microseconds
_DUMP_SECONDS = 2.0
_LARGEST = 4 * 1024 * 1024  # a full Internet routing table is not listed
_RECEIVE = 64 * 1024
_SEQUENCE = 1  # each question has a socket of its own

# Not the routing table's word, but a kernel (gVisor, or one before 5.0) that does not know the question.
_NO_SUCH_QUESTION = tuple(errno.errorcode[number] for number in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EPROTONOSUPPORT))

Ask = Callable[[bytes], tuple[Message, ...] | None]
OpenSocket = Callable[[], socket.socket]


def _open() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)


# What once did not answer is not asked again: every attempt would wait for it.
_mute: set[OpenSocket] = set()


def ask(request: bytes, open_socket: OpenSocket = _open) -> tuple[Message, ...] | None:
    """The kernel's whole answer to one request. None where netlink is refused, silent, or says too much."""
    if open_socket in _mute:
        return None
    try:
        with open_socket() as sock:
            # Not SO_RCVTIMEO: some filters forbid setsockopt.
            sock.settimeout(_SECONDS)
            sock.send(rtnetlink.with_sequence(request, _SEQUENCE))
            return _answer(sock)
    except TimeoutError:
        _mute.add(open_socket)
        return None
    except OSError:
        return None


def _answer(sock: socket.socket) -> tuple[Message, ...] | None:
    found: list[Message] = []
    size, end = 0, time.monotonic() + _DUMP_SECONDS
    while size < _LARGEST and time.monotonic() < end:
        data = sock.recv(_RECEIVE)
        size += max(len(data), 1)
        for message in rtnetlink.messages(data):
            if message.sequence != _SEQUENCE:
                continue
            found.append(message)
            if not message.flags & rtnetlink.MULTI or message.type in (rtnetlink.DONE, rtnetlink.ERROR):
                return tuple(found)
        if not data:
            return None
    return None


# --- one address ------------------------------------------------------------------------------------------------------


def route(address: str, ask: Ask = ask) -> str | None:
    """The kernel's routing decision for `address`, for this process's own uid.

    The type of the route (`unicast`, `local`, `multicast`, …), or the errno's name where the kernel refuses: EACCES
    (prohibit), EINVAL (blackhole), EHOSTUNREACH (unreachable), ENETUNREACH (no route). None where netlink cannot be
    used, and for what is no address.
    """
    answer = _decision(address, ask)
    return answer.type if isinstance(answer, Route) else answer


def next_hop(address: str, ask: Ask = ask) -> tuple[str, int] | None:
    """Address and interface index of the next hop on the way to `address`: a gateway, or `address` itself on the link.

    None where there is none: no route, an address of our own, multicast, or netlink cannot be used.
    """
    answer = _decision(address, ask)
    if not isinstance(answer, Route) or answer.type != "unicast" or len(answer.hops) != 1:
        return None
    hop = answer.hops[0]
    return (hop.gateway or answer.destination.partition("/")[0], hop.interface) if hop.interface > 0 else None


def neighbour(address: str, ask: Ask = ask) -> str | None:
    """State of the next hop's neighbour entry (NUD_…, in lower case), `none` where it has no entry.

    `incomplete` and `failed`: nobody answered for its link address. Links without link addresses (tunnels) have no
    entries. None where it cannot be known: no next hop, or netlink cannot be used.
    """
    hop = next_hop(address, ask)
    if hop is None:
        return None
    found = ask(rtnetlink.neighbour_request(*hop))
    if found is None:
        return None
    error = _error(found)
    if error in ("ENOENT", None):
        entries = rtnetlink.neighbours(found)
    elif error in (*_NO_SUCH_QUESTION, "EINVAL"):
        listed = _dump(rtnetlink.GETNEIGH, ask)
        if listed is None:
            return None
        entries = rtnetlink.neighbours(listed)
    else:
        return None
    return next((entry.state for entry in entries if (entry.address, entry.interface) == hop), "none")


def _decision(address: str, ask: Ask) -> Route | str | None:
    """The decision, or the errno's name."""
    target = _target(address)
    found = ask(rtnetlink.route_request(*target)) if target else None
    if found is None:
        return None
    error = _error(found)
    if error is not None:
        return None if error in _NO_SUCH_QUESTION else error
    return next(iter(rtnetlink.routes(found)), None)


def _target(address: str) -> tuple[str, int] | None:
    """The bare address (IPv4 where it is mapped into IPv6) and the index of its zone."""
    bare, _, zone = address.partition("%")
    index = 0
    with suppress(ValueError, OSError):
        parsed = ipaddress.ip_address(bare)
        mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
        if zone:
            index = int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)
        return (str(mapped or parsed), index) if 0 <= index < 1 << 31 else None
    return None


def _error(found: tuple[Message, ...]) -> str | None:
    number = next((n for message in found if (n := rtnetlink.error_of(message))), None)
    return None if number is None else errno.errorcode.get(number, f"E{number}")


# --- tables -----------------------------------------------------------------------------------------------------------


def links(ask: Ask = ask) -> tuple[Link, ...] | None:
    """All interfaces; None where netlink cannot be used."""
    found = _dump(rtnetlink.GETLINK, ask)
    return None if found is None else rtnetlink.links(found)


def addresses(ask: Ask = ask) -> tuple[Address, ...] | None:
    """All of our own addresses; None where netlink cannot be used."""
    found = _dump(rtnetlink.GETADDR, ask)
    return None if found is None else rtnetlink.addresses(found)


def routes(ask: Ask = ask) -> tuple[Route, ...] | None:
    """All routes of all tables; None where netlink cannot be used."""
    found = _dump(rtnetlink.GETROUTE, ask)
    return None if found is None else rtnetlink.routes(found)


def _dump(kind: int, ask: Ask) -> tuple[Message, ...] | None:
    for _ in range(2):  # a table that changes while it is listed is listed once more
        found = ask(rtnetlink.dump_request(kind))
        if found is None or _error(found) is not None or found[-1:] == () or found[-1].type != rtnetlink.DONE:
            return None
        if not any(message.flags & rtnetlink.INTERRUPTED for message in found):
            return found
    return None

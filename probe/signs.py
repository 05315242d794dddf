"""What one failed call or ICMP error means: errno and ICMP words → outcome and enforcer. Literal tables.

Source: measurements on Linux 6.18 in network namespaces; tcp(7), ip(7), RFC 792, RFC 4443. An errno that no table has
is `broken`, never "blocked".
"""

from ipaddress import ip_address, ip_network

from probe.addresses import is_connectable
from probe.documents import Attempt, Vantage
from probe.model import EnforcerKind, Outcome
from probe.report import Enforcer, Observed

O, K = Outcome, EnforcerKind  # noqa: E741 - the tables below are read by column

_Table = dict[str, tuple[Outcome, EnforcerKind | None]]

# socket() itself failed.
_SOCKET: _Table = {
    "EPERM": (O.DENIED, K.SYSCALL_FILTER),
    "EACCES": (O.DENIED, K.SYSCALL_FILTER),
    "ENOSYS": (O.DENIED, K.SYSCALL_FILTER),
    "EOPNOTSUPP": (O.DENIED, K.SYSCALL_FILTER),  # firejail --protocol
    "EAFNOSUPPORT": (O.NO_ROUTE, K.ROUTE),  # no IPv6 in this kernel; systemd's RestrictAddressFamilies looks the same
}

# The call returned it at once, and no ICMP error is queued: the kernel of this host said so.
_AT_ONCE: _Table = {
    "ENETUNREACH": (O.NO_ROUTE, K.ROUTE),
    "EHOSTUNREACH": (O.NO_ROUTE, K.ROUTE),  # unreachable route; gVisor without a network
    "EADDRNOTAVAIL": (O.NO_ROUTE, K.ROUTE),  # no source address (see `routed`)
    "ENETDOWN": (O.NO_ROUTE, K.ROUTE),
    "EINVAL": (O.NO_ROUTE, K.ROUTE),  # blackhole route
    "EACCES": (O.DENIED, K.UNKNOWN),  # Landlock, or a prohibit route, or seccomp
    "EPERM": (O.DENIED, K.UNKNOWN),  # cgroup BPF, seccomp, or a local firewall on send
    "ENOSYS": (O.DENIED, K.SYSCALL_FILTER),
    "ECONNREFUSED": (O.REFUSED, K.UNKNOWN),
}

# It came back later, and no ICMP error is queued.
_LATER: _Table = {
    "ECONNREFUSED": (O.REFUSED, K.UNKNOWN),  # an RST: the target's own, or a filter's
    "ECONNRESET": (O.REFUSED, K.UNKNOWN),
    "ENETUNREACH": (O.REJECTED, K.UNKNOWN),
    "EHOSTUNREACH": (O.REJECTED, K.UNKNOWN),
    "EACCES": (O.REJECTED, K.UNKNOWN),
    "ETIMEDOUT": (O.SILENT, None),
}

# ICMP (v4 type, code) and (v6 type, code) that are a port unreachable; every other unreachable is a rejection.
_PORT_UNREACHABLE = {(4, 3, 3), (6, 1, 4)}
_UNREACHABLE_TYPE = {4: 3, 6: 1}
_TIME_EXCEEDED_TYPE = {4: 11, 6: 3}
# The packet was too big, or its parameters bad: that says nothing about a policy.
_NO_POLICY = {(4, 3, 4)}
# Sent by our own host about its own neighbour: nobody answers there.
_NO_NEIGHBOUR = {(4, 3, 1), (6, 1, 3)}

# errno → OONI df-007.
_FAILURE = {
    "ECONNREFUSED": "connection_refused",
    "ECONNRESET": "connection_reset",
    "EHOSTUNREACH": "host_unreachable",
    "ENETUNREACH": "network_unreachable",
    "ENETDOWN": "network_down",
    "EADDRNOTAVAIL": "address_not_available",
    "EAFNOSUPPORT": "address_family_not_supported",
    "EACCES": "permission_denied",
    "EPERM": "operation_not_permitted",
    "EINVAL": "invalid_argument",
    "ENOPROTOOPT": "no_protocol_option",
    "EMSGSIZE": "message_size",
    "ENOBUFS": "no_buffer_space",
    "ETIMEDOUT": "timed_out",
}


def who(enforcer: Enforcer | None) -> str:
    """Whose word it was: `peer`; `filter`, known to stand between us and the world; `beyond`, a router farther out;
    `neighbour`, the next hop that does not answer; or `unknown`."""
    if enforcer is None or enforcer.kind in (K.UNKNOWN, K.MIDDLEBOX):
        return "unknown"
    if enforcer.kind is K.PEER:
        return "peer"
    if enforcer.kind is K.ROUTE and enforcer.hop == 0:
        return "neighbour"
    # The next hop is on this side of whatever "outside" is; a router farther out may be the Internet's own.
    return "beyond" if enforcer.kind is K.ROUTER and enforcer.hop != 1 else "filter"


def of_error(attempt: Attempt, vantage: Vantage | None) -> Observed:
    error = attempt.error or ""
    failure = failure_of(error)
    if attempt.icmp is not None:
        outcome, enforcer = _of_icmp(attempt, vantage)
        return Observed(outcome, failure, enforcer)
    if attempt.address is not None and error == "ECONNREFUSED" and ip_address(attempt.address).is_loopback:
        return Observed(O.REFUSED, failure, Enforcer(K.PEER))
    if error == "EADDRNOTAVAIL" and attempt.routed:
        return Observed(O.BROKEN, failure, None)  # a route is there: we ran out of ports
    if error in ("EINVAL", "EACCES", "ENETUNREACH") and _is_special(attempt.address, vantage):
        return Observed(O.BROKEN, failure, None)  # a plain socket may not go there: no policy said so
    table = {"socket": _SOCKET, "receive": _LATER}.get(attempt.stage or "", _AT_ONCE)
    outcome, kind = table.get(error, (O.BROKEN, None))
    return Observed(outcome, failure, Enforcer(kind) if kind else None)


def _is_special(address: str | None, vantage: Vantage | None) -> bool:
    """Multicast, broadcast (also of a local network), or link-local without a zone."""
    if address is None:
        return False
    local = (ip_network(net) for net in (vantage.on_link if vantage and vantage.on_link else ()))
    return not is_connectable(address) or any(
        net.version == 4 and net.prefixlen < 31 and str(net.broadcast_address) == address for net in local
    )


def _of_icmp(attempt: Attempt, vantage: Vantage | None) -> tuple[Outcome, Enforcer | None]:
    icmp, address = attempt.icmp, attempt.address or ""
    assert icmp is not None
    version = 6 if ":" in address else 4
    sign = (version, icmp.type, icmp.code)
    enforcer = _offender(attempt, vantage)
    if sign in _NO_POLICY or icmp.type not in (_UNREACHABLE_TYPE[version], _TIME_EXCEEDED_TYPE[version]):
        return O.BROKEN, enforcer
    if icmp.type == _TIME_EXCEEDED_TYPE[version]:
        return O.REJECTED, Enforcer(K.UNKNOWN, icmp.offender)  # a routing loop, not a policy
    if sign in _NO_NEIGHBOUR and enforcer.kind is K.LOCAL_FIREWALL:
        enforcer = Enforcer(K.ROUTE, icmp.offender, 0)
    return (O.REFUSED if sign in _PORT_UNREACHABLE else O.REJECTED), enforcer


def _offender(attempt: Attempt, vantage: Vantage | None) -> Enforcer:
    """Who sent the ICMP error, as far as its address tells."""
    assert attempt.icmp is not None
    offender = attempt.icmp.offender
    if attempt.address is not None and ip_address(attempt.address).is_loopback:
        return Enforcer(K.PEER, offender)
    if offender is None:
        return Enforcer(K.UNKNOWN)
    if offender == attempt.source:
        return Enforcer(K.LOCAL_FIREWALL, offender, 0)
    if offender == attempt.address:
        return Enforcer(K.UNKNOWN, offender)  # the target's own, or a bridge that rejects in its name
    return Enforcer(K.ROUTER, offender, 1 if is_on_link(offender, vantage) else None)


def is_on_link(address: str, vantage: Vantage | None) -> bool | None:
    """Whether `address` is reached without a router. None: the vantage does not tell."""
    if vantage is None or vantage.on_link is None:
        return None
    parsed = ip_address(address)
    # Linux forwards IPv4 link-local addresses; only IPv6 ones never cross a router.
    return (parsed.version == 6 and parsed.is_link_local) or any(parsed in ip_network(net) for net in vantage.on_link)


def failure_of(error: str) -> str:
    """OONI's word for an errno's name."""
    return _FAILURE.get(error, "unknown_failure")

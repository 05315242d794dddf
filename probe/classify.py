"""Facts → outcome: what the network did to one row. Literal tables over errno, ICMP and DNS words; no policy here.

Source of the tables: measurements on Linux 6.18 in network namespaces; tcp(7), ip(7), RFC 792, RFC 4443. An errno that
no table has is `broken`, never "blocked".
"""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from probe.addresses import is_connectable, is_sinkhole
from probe.documents import Attempt, Check, DnsAnswer, Record, Vantage
from probe.model import DnsResolver, EnforcerKind, Outcome, Transport
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
_SILENCE = "generic_timeout_error"

_RCODE: dict[str, tuple[Outcome, EnforcerKind | None, str]] = {
    "NOERROR": (O.NAME_UNRESOLVED, None, "dns_no_answer"),
    "NXDOMAIN": (O.NAME_UNRESOLVED, None, "dns_nxdomain_error"),
    "SERVFAIL": (O.NAME_UNRESOLVED, None, "dns_servfail_error"),
    "REFUSED": (O.NAME_DENIED, K.RESOLVER, "dns_refused_error"),
}

# HTTP statuses that state a policy decision (RFC 9110 15.5.4, 15.5.8; RFC 7725; RFC 6585 6). Whose decision, only the
# distance of the acceptor tells: a far end may send each of them, headers included.
_DECISIONS = {403, 407, 451, 511}

# Several addresses or servers of one row: the one that speaks most against "blocked" stands for the row.
_WORST_FIRST: tuple[tuple[Outcome, str], ...] = (
    (O.REACHED, "*"),
    (O.REFUSED, "peer"),
    (O.INTERCEPTED, "*"),
    (O.ACCEPTED, "*"),
    (O.BROKEN, "*"),
    (O.NOT_RUN, "*"),
    (O.REFUSED, "unknown"),
    (O.REJECTED, "unknown"),
    (O.REJECTED, "neighbour"),
    (O.PROXY_DENIED, "unknown"),
    (O.SILENT, "*"),
    (O.NAME_UNRESOLVED, "*"),
    (O.NAME_DENIED, "*"),
    (O.REFUSED, "beyond"),
    (O.REJECTED, "beyond"),
    (O.REFUSED, "filter"),
    (O.REJECTED, "filter"),
    (O.PROXY_DENIED, "filter"),
    (O.DENIED, "*"),
    (O.NO_ROUTE, "*"),
)


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


def observe(
    check: Check, record: Record | None, vantage: Vantage | None, made_up: frozenset[str] = frozenset()
) -> Observed:
    """One row's outcome, from the attempt that speaks most against "blocked". `made_up`: see made_up_addresses()."""
    if record is None:
        return Observed(O.BROKEN, None, None)
    if record.not_run is not None:
        return Observed(O.NOT_RUN, None, None, record.attempts)
    found = [_strip(one) for _, one in outcomes(check, record, vantage, made_up)]
    if not found:
        return Observed(O.BROKEN, None, None, record.attempts)
    worst = min(found, key=_rank)
    return Observed(worst.outcome, worst.failure, worst.enforcer, record.attempts)


def outcomes(
    check: Check, record: Record, vantage: Vantage | None, made_up: frozenset[str] = frozenset()
) -> list[tuple[Attempt, Observed]]:
    """One (attempt, outcome) per address or server of a row, and per look-up that was never answered."""
    tried = [attempt for attempt in record.attempts if attempt.step in ("connect", "send", "query")]
    if check.query is not None:
        return [(attempt, _of_query(check, attempt, vantage)) for attempt in tried]
    if tried:
        found = [_of_address(check, group, record, vantage, made_up) for group in _by_address(tried).values()]
        return found + [(attempt, _of_lookup(attempt, vantage)) for attempt in _unanswered(record)]
    named = [(a, _of_lookup(a, vantage)) for a in record.attempts if a.step in ("resolve", "listen")]
    # A sinkhole for one type and nothing for the other is a denied name.
    denied = [pair for pair in named if pair[1].outcome is O.NAME_DENIED]
    return denied or named


def _unanswered(record: Record) -> list[Attempt]:
    """Look-ups of a type that no server answered: that half of the name's addresses was never tried."""
    lookups = [attempt for attempt in record.attempts if attempt.step == "resolve"]
    said = {a.dns.type for a in lookups if a.dns is not None and a.dns.rcode in ("NOERROR", "NXDOMAIN")}
    # A server is asked for A and AAAA together, and both are in the record.
    return [a for place, a in enumerate(lookups) if ("A", "AAAA")[place % 2] not in said]


def made_up_addresses(rows: Iterable[tuple[Check, Record | None]]) -> frozenset[str]:
    """Addresses that a resolver gave for names which do not exist: those of its block page or captive portal."""
    found: set[str] = set()
    for check, record in rows:
        unreal = check.reserved and check.destination.host is not None
        unreal = unreal or (check.query is not None and check.query.name.endswith(".invalid"))
        if unreal and record is not None:
            found |= {text for a in record.attempts if a.dns is not None for text in a.dns.records}
    return frozenset(found)


def _strip(observed: Observed) -> Observed:
    return Observed(observed.outcome, observed.failure, observed.enforcer)


def _rank(observed: Observed) -> int:
    mine = who(observed.enforcer)
    return next(
        i for i, (outcome, whose) in enumerate(_WORST_FIRST) if outcome is observed.outcome and whose in ("*", mine)
    )


def _by_address(attempts: Iterable[Attempt]) -> dict[str | None, list[Attempt]]:
    groups: dict[str | None, list[Attempt]] = {}
    for attempt in attempts:
        groups.setdefault(attempt.address, []).append(attempt)
    return groups


def _of_address(
    check: Check, group: list[Attempt], record: Record, vantage: Vantage | None, made_up: frozenset[str]
) -> tuple[Attempt, Observed]:
    """Any answer to any try counts; silence is what is left."""
    address = group[0].address or ""
    if check.destination.host is not None and (_sunk(address) or address in made_up):
        # This very host, or the address that the resolver gives for names which do not exist.
        return group[0], Observed(O.NAME_DENIED, "dns_bogon_error", Enforcer(K.RESOLVER))
    for attempt in group:
        if attempt.result in ("connected", "answered"):
            later = [a for a in record.attempts if a.step in ("talk", "hop1") and a.address == attempt.address]
            if attempt.result == "answered":  # a datagram is its own conversation
                later.append(attempt)
            return attempt, _of_accept(check, later, vantage)
    failed = [(attempt, _of_error(attempt, vantage)) for attempt in group if attempt.result == "error"]
    if failed:
        return min(failed, key=lambda pair: _rank(pair[1]))
    return group[0], Observed(O.SILENT, _SILENCE, None)


# --- accepts ----------------------------------------------------------------------------------------------------------


def _of_accept(check: Check, later: list[Attempt], vantage: Vantage | None) -> Observed:
    talks = [attempt for attempt in later if attempt.step != "hop1"]
    spoke = next((talk.data for talk in talks if talk.data is not None), None)
    shook = any(talk.tls is not None and talk.tls.handshake for talk in talks)
    near = any(_ends_at_next_hop(attempt, vantage) for attempt in later if attempt.step == "hop1")
    if spoke is not None and spoke.http_status in _DECISIONS:
        return Observed(O.PROXY_DENIED, None, Enforcer(K.PROXY, hop=1) if near else Enforcer(K.UNKNOWN))
    if near:
        return Observed(O.INTERCEPTED, None, Enforcer(K.MIDDLEBOX, hop=1))
    if any(talk.tls is not None and talk.tls.verified for talk in talks):
        return Observed(O.REACHED, None, Enforcer(K.PEER))
    if any(talk.tls is not None and talk.tls.verified is False for talk in talks):
        return Observed(O.INTERCEPTED, "ssl_invalid_certificate", Enforcer(K.MIDDLEBOX))
    if (spoke is not None or shook) and not (check.reserved and check.destination.host is not None):
        return Observed(O.REACHED, None, Enforcer(K.PEER))
    if check.reserved:  # nobody lives there, or the name does not exist
        return Observed(O.INTERCEPTED, None, Enforcer(K.MIDDLEBOX))
    return Observed(O.ACCEPTED, None, None)


def _ends_at_next_hop(attempt: Attempt, vantage: Vantage | None) -> bool:
    """A connect that died at the next hop was answered all the same, for an address that lies beyond it."""
    if attempt.result not in ("connected", "answered") or attempt.address is None:
        return False
    return not ip_address(attempt.address).is_loopback and is_on_link(attempt.address, vantage) is False


# --- errors -----------------------------------------------------------------------------------------------------------


def _of_error(attempt: Attempt, vantage: Vantage | None) -> Observed:
    error = attempt.error or ""
    failure = _FAILURE.get(error, "unknown_failure")
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
    return parsed.is_link_local or any(parsed in ip_network(net) for net in vantage.on_link)


# --- names ------------------------------------------------------------------------------------------------------------


def _of_lookup(attempt: Attempt, vantage: Vantage | None) -> Observed:
    """A row that never got an address (or whose own listener was refused)."""
    if attempt.step == "listen":
        return _of_error(attempt, vantage)
    if attempt.dns is None:
        failure = _FAILURE.get(attempt.error or "", "unknown_failure") if attempt.error else _SILENCE
        return Observed(O.NAME_UNRESOLVED, failure, None)
    return _of_answer(attempt.dns, None, reserved=False)


def _of_query(check: Check, attempt: Attempt, vantage: Vantage | None) -> Observed:
    assert check.query is not None
    explicit = check.query.resolver is DnsResolver.EXPLICIT
    if attempt.dns is not None:
        # Nobody runs a resolver at a reserved address: whoever answers there stands in between.
        return _of_answer(attempt.dns, check.query.expect, reserved=explicit and check.reserved, name=check.query.name)
    if attempt.result == "error":
        observed = _of_error(attempt, vantage)
        # "Nobody listens on the resolver's port" is no filter's word on what may leave.
        if observed.outcome is O.REFUSED and who(observed.enforcer) != "filter":
            return Observed(O.NAME_UNRESOLVED, observed.failure, None)
        return observed
    if explicit and attempt.transport is Transport.TCP and attempt.result == "connected":
        outcome = O.INTERCEPTED if check.reserved else O.ACCEPTED
        return Observed(outcome, _SILENCE, Enforcer(K.MIDDLEBOX) if check.reserved else None)
    return Observed(O.SILENT if explicit else O.NAME_UNRESOLVED, _SILENCE, None)


def _of_answer(answer: DnsAnswer, expect: str | None, reserved: bool, name: str = "") -> Observed:
    records = answer.records if answer.rcode == "NOERROR" else ()
    if expect is not None and any(expect == record.strip('"') for record in records):
        return Observed(O.REACHED, None, Enforcer(K.PEER))
    if reserved:
        return Observed(O.INTERCEPTED, None, Enforcer(K.MIDDLEBOX))
    if not records:
        outcome, kind, failure = _RCODE.get(answer.rcode, (O.NAME_UNRESOLVED, None, "dns_server_misbehaving"))
        return Observed(outcome, failure, Enforcer(kind) if kind else None)
    if answer.type in ("A", "AAAA") and all(_sunk(record) for record in records):
        return Observed(O.NAME_DENIED, "dns_bogon_error", Enforcer(K.RESOLVER))
    if name.endswith(".invalid"):
        return Observed(O.INTERCEPTED, None, Enforcer(K.RESOLVER))  # RFC 6761 6.4: this name exists nowhere
    return Observed(O.ACCEPTED, None, None)


def _sunk(record: str) -> bool:
    try:
        return is_sinkhole(record)
    except ValueError:
        return False

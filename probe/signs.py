"""Who said no: an attempt's raw words (errno, ICMP, TCP_INFO, TTLs, netlink) as facts for the table of kinds."""

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from probe.addresses import is_connectable
from probe.documents import Attempt, Vantage
from probe.kinds import BY_DISTANCE, NO_NEIGHBOUR, QUEUE, Facts, Sign, look_up
from probe.model import EnforcerKind, Outcome
from probe.paths import TIME_EXCEEDED, Path, Surroundings, family, hops_lost, is_on_link
from probe.report import Enforcer, Observed

O, K = Outcome, EnforcerKind  # noqa: E741 - as short as in the table


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
SILENCE = "generic_timeout_error"

# ICMP (IP version, type, code) → word; every other unreachable is "other".
_ICMP = {
    (4, 3, 3): "port",
    (6, 1, 4): "port",
    (4, 3, 1): "host",
    (6, 1, 3): "host",
    # Too big: that says nothing about a policy.
    (4, 3, 4): "none_of_ours",
}
_UNREACHABLE_TYPE = {4: 3, 6: 1}
# What connect() says, and the routing table: the same errno, but where there is no source address either.
_ROUTE_ERRORS = {(name, name) for name in ("EACCES", "EINVAL", "EHOSTUNREACH", "ENETUNREACH", "ENETDOWN")}
_ROUTE_ERRORS |= {("EADDRNOTAVAIL", "ENETUNREACH"), ("EADDRNOTAVAIL", "EADDRNOTAVAIL"), ("ENETUNREACH", "EHOSTUNREACH")}
# Seconds. A router that rejects does so at once; one that looks for a neighbour gives up after three.
_LATE = 0.9
# A neighbour entry in one of these states has a link address (linux/neighbour.h NUD_VALID).
_RESOLVED = frozenset(("reachable", "stale", "delay", "probe", "permanent", "noarp"))
_UNRESOLVED = frozenset(("incomplete", "failed"))
# Seconds. A packet that a full queue dropped is sent again after half a second, one that a firewall dropped after one:
# by then a single one more shows that it was no queue.
_QUEUE_TELLS = 1.55


def who(enforcer: Enforcer | None) -> str:
    """Whose word it was: `peer`; `filter`, known to stand between us and the world; `beyond`, a router farther out;
    `neighbour`, the next hop that does not answer; or `unknown`."""
    if enforcer is None or enforcer.kind in (K.UNKNOWN, K.MIDDLEBOX):
        return "unknown"
    if enforcer.kind is K.PEER:
        return "peer"
    if enforcer.sign == NO_NEIGHBOUR:
        return "neighbour"
    if enforcer.sign == QUEUE:
        return "unknown"  # a queue that nobody empties looks like a hook that drops
    # The next hop is on this side of whatever "outside" is; a router farther out may be the Internet's own.
    near = enforcer.hop == 1 and enforcer.sign not in BY_DISTANCE
    return "beyond" if enforcer.kind is K.ROUTER and not near else "filter"


def of_error(
    attempt: Attempt,
    vantage: Vantage | None,
    path: Path = Path(),  # noqa: B008 - frozen
    around: Surroundings = Surroundings(),  # noqa: B008 - frozen
    repeated: bool = False,
    twin: Attempt | None = None,
) -> Observed:
    """What a failed attempt means. `repeated`: it failed in the same way when it was tried again, alone. `twin`: a
    datagram to the same address and port."""
    error = attempt.error or ""
    failure = failure_of(error)
    if error == "EADDRNOTAVAIL" and attempt.routed:
        return Observed(O.BROKEN, failure, None)  # a route is there: we ran out of ports
    if attempt.icmp is None and error in ("EINVAL", "EACCES", "ENETUNREACH") and _is_special(attempt.address, vantage):
        return Observed(O.BROKEN, failure, None)  # a plain socket may not go there: no policy said so
    sign = look_up(facts_of(attempt, vantage, path, around, repeated, twin))
    if sign is None:
        return Observed(O.BROKEN, failure, None)
    return Observed(sign.outcome, failure, _enforcer(sign, attempt, path, around))


def of_silence(attempts: Sequence[Attempt], path: Path, around: Surroundings = Surroundings()) -> Observed:  # noqa: B008 - frozen
    """What a silence means, from all tries of one address: what this host did itself, and how far the packets came."""
    first = attempts[0]
    # What a router has seen did leave, whatever became of a crowd's packets (a limit of this host's own, say).
    sign = look_up(Facts("silence", None, local=_local(attempts, around) if path.last is None else None))
    assert sign is not None  # the last row matches every silence
    if sign.enforcer is None:
        placed = Enforcer(K.UNKNOWN, path.last_address, path.last) if path.last is not None else None
        return Observed(O.SILENT, SILENCE, placed)
    failure = SILENCE if sign.outcome is O.SILENT else failure_of("EHOSTUNREACH")
    return Observed(sign.outcome, failure, Enforcer(sign.enforcer, first.source, sign.hop, sign.kind))


def facts_of(
    attempt: Attempt,
    vantage: Vantage | None,
    path: Path,
    around: Surroundings,
    repeated: bool,
    twin: Attempt | None = None,
) -> Facts:
    """The attempt as the table asks."""
    loopback = attempt.address is not None and ip_address(attempt.address).is_loopback
    # On our own link an answer from one hop away may well be the target's.
    far = attempt.address is not None and is_on_link(attempt.address, vantage) is False
    local = None
    if attempt.error == "ENOBUFS":
        # A queue that other traffic fills says the same: then the control's packets would not have passed either.
        local = "firewall" if loopback or (repeated and around.distance is not None) else None
    elif attempt.neighbour in _RESOLVED:
        local = "resolved"
    return Facts(
        stage=attempt.stage or "connect",
        error=attempt.error,
        sender="loopback" if loopback else _sender(attempt, vantage, path, around, near=not far),
        icmp=_icmp_word(attempt),
        route=_route(attempt),
        local=local,
        rst=_rst(path, around) if attempt.icmp is None and far else None,
        twin=None if twin is None else ("refused" if twin.error and twin.icmp is None else "passes"),
    )


def _route(attempt: Attempt) -> str | None:
    if attempt.route is None:
        return None
    if attempt.route in ("unicast", "local"):
        return "fine"
    return "same" if (attempt.error, attempt.route) in _ROUTE_ERRORS else None


def _icmp_word(attempt: Attempt) -> str | None:
    icmp = attempt.icmp
    if icmp is None:
        return None
    version = family(attempt.address) if attempt.address else 4
    if icmp.type == TIME_EXCEEDED[version]:
        return "exceeded"
    if icmp.type != _UNREACHABLE_TYPE[version]:
        return "none_of_ours"
    word = _ICMP.get((version, icmp.type, icmp.code), "other")
    late = word == "host" and attempt.elapsed >= _LATE and icmp.offender != attempt.source
    return "late" if late else word


def _sender(attempt: Attempt, vantage: Vantage | None, path: Path, around: Surroundings, near: bool) -> str | None:
    """Who sent the ICMP error, as far as its address and its own TTL tell."""
    if attempt.icmp is None:
        return None
    offender = attempt.icmp.offender
    if offender is None:
        return "unknown"
    if offender == attempt.source:
        return "own"
    if offender == attempt.address:
        return "target" if near else _in_the_targets_name(attempt.icmp.ttl, path, around)
    if is_on_link(offender, vantage) and _is_gateway(offender, vantage):
        return "next_hop"
    # A host may name its error after another of its addresses: it stands as far out as its datagrams had to go.
    itself = path.forward is not None and path.forward == path.back and _is_as_far(path.forward, around)
    return "host_far" if itself else "router"


def _is_gateway(offender: str, vantage: Vantage | None) -> bool:
    """A router farther out may have a leg on our link. IPv6 routes name link-local next hops: there it is not told."""
    via = [route.split() for route in (vantage.routes if vantage else ()) if " via " in route]
    four = [words[words.index("via") + 1] for words in via if "." in words[words.index("via") + 1]]
    return ":" in offender or not four or offender in four


def _is_as_far(hop: int, around: Surroundings) -> bool:
    """No nearer than the control, and at a hop where no router was seen."""
    return bool(around.honest) and hop >= (around.distance or 0) and hop not in around.routers


def _in_the_targets_name(ttl: int | None, path: Path, around: Surroundings) -> str:
    if ttl is None or not around.honest:
        return "target"
    if hops_lost(ttl) == 1:
        return "target_near"
    # As far out as its datagrams had to go, and no nearer than the control.
    itself = path.forward is not None and path.forward == path.back and _is_as_far(path.forward, around)
    return "target_far" if itself else "target"


def _rst(path: Path, around: Surroundings) -> str | None:
    """Whose RST, from the two distances; `around` shows whether TTLs can be trusted here."""
    if path.back is None or around.honest is False:
        return "near" if path.forward == 1 and around.honest is not False else None
    if path.forward == 1:
        return (
            "own" if path.dropped_here else "near"
        )  # it came no farther than our own link, and the target lies beyond
    if path.back == 1:
        # A target may start its RSTs with a TTL of its own choice: by itself that proves nothing.
        return "near_by_ttl" if path.forward == 2 else None
    if path.forward is None or around.honest is None or around.distance is None:
        return None
    if path.forward == path.back >= around.distance and path.back not in around.routers:
        return "target"
    # The forward hook comes after the look at the hop limit: a router's reset is one hop nearer on its way back.
    return "router" if path.forward == path.back + 1 and path.back in around.routers else None


def _local(attempts: Sequence[Attempt], around: Surroundings) -> str | None:
    """What this host did with the packets of a silence."""
    tried = [a for a in attempts if a.result == "silent"]
    # Other packets of the namespace move the counters too: they speak only where TCP_INFO does not.
    counted = [a for a in tried if a.tcp is None and a.counters is not None]
    if any(a.counters is not None and a.counters.requests > 0 == a.counters.transmits for a in counted):
        return "firewall"
    long = [a for a in tried if a.tcp is None or a.tcp.timeouts > 0]  # the kernel had time to send once more
    kept = [a for a in long if a.tcp is not None and a.tcp.resent > a.tcp.left == 0]
    if kept and len(kept) == len(long):
        if ip_address(attempts[0].address or "::").is_loopback:
            return "firewall"  # there is no queue before loopback
        lone = [a for a in kept if a.again]
        if lone and len(kept) > 1:
            sure = any(a.tcp is not None and a.tcp.resent == 1 and a.elapsed >= _QUEUE_TELLS for a in lone)
            # It speaks of the second SYN; that the first did not leave either, the counters say around lone ones.
            return "firewall" if sure and around.drops else "queue"
    if attempts[-1].neighbour in _UNRESOLVED:
        return "unresolved"
    # Netlink may be refused; the kernel's own count says as much: the second SYN was not even made.
    waiting = all(a.tcp is not None and a.tcp.timeouts > 0 == a.tcp.resent for a in tried)
    return "unresolved" if tried and waiting and attempts[-1].neighbour is None else None


def _enforcer(sign: Sign, attempt: Attempt, path: Path, around: Surroundings) -> Enforcer | None:
    if sign.enforcer is None:
        return None
    address, hop = None, sign.hop
    if attempt.icmp is not None:
        address = attempt.icmp.offender
        if (
            hop is None
            and attempt.icmp.ttl is not None
            and address != attempt.address
            and hops_lost(attempt.icmp.ttl) > 1
        ):
            hop = hops_lost(attempt.icmp.ttl)
    elif sign.outcome is O.REFUSED and path.back is not None:
        hop = path.back if hop is None else hop
        named = around.routers.get(path.back, frozenset())
        address = next(iter(named)) if len(named) == 1 and sign.enforcer is K.ROUTER else None
    return Enforcer(sign.enforcer, address, hop, sign.kind)


def _is_special(address: str | None, vantage: Vantage | None) -> bool:
    """Multicast, broadcast (also of a local network), or link-local without a zone."""
    if address is None:
        return False
    local = (ip_network(net) for net in (vantage.on_link if vantage and vantage.on_link else ()))
    return not is_connectable(address) or any(
        net.version == 4 and net.prefixlen < 31 and str(net.broadcast_address) == address for net in local
    )


def failure_of(error: str) -> str:
    """OONI's word for an errno's name."""
    return _FAILURE.get(error, "unknown_failure")

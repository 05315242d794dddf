"""Whether nothing-arrived may be believed: facts for farend.py's table, and the words for them.

It may where a permitted token of this run took the same way, at the start and at the end, and where the collector's
port is known to be reachable from somewhere.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_address

from probe.arrived import Arrived, granted, is_permitted, signed
from probe.documents import Attempt, Plan
from probe.farend import Trust
from probe.knowledge import Seen, is_closed
from probe.model import WAYS, Action, Channel, Transport
from probe.paths import family
from probe.tokens import AGAIN

_DNS_PORT = 53
_TOO_LOSSY = 0.05  # the probability of a lost answer from which nothing-arrived is not believed

# Answer codes by which a resolver denies a name, or has nothing for it.
_DECISIONS = frozenset(("NOERROR", "NXDOMAIN", "REFUSED"))
# Statuses by which a proxy says that it could not do it, or not now (RFC 9110 15.5.9, 15.6; RFC 6585 4; RFC 8470 5.2).
_FAILURES = frozenset((408, 425, 429, *range(500, 511), *range(512, 600)))
# Which permitted tokens show a way. A datagram's way is the packet's; a connection's needs state on the way as well.
_SHOWN_BY = {
    Transport.TCP: (Transport.TCP,),
    Transport.UDP: (Transport.UDP, Transport.TCP),
    Transport.ICMP: (),
}
_LOST = "it may have missed some arrivals: it could not store them, saw too many at once, or was started anew"


def permitted(rows: Sequence[Seen], outer: Arrived) -> Arrived:
    """`outer` with the ways that permitted tokens took: at the start and, by the closing try, at the end."""
    direct: set[tuple[Transport, int]] = set()
    servers: set[str] = set()
    proxied: set[str] = set()
    for row in rows:
        if not is_permitted(row.check) or row.record is None:
            continue
        if row.check.channel is Channel.PROXY:
            proxied |= _at_both_ends(_spoke(row)) if _asked_at_both_ends(row, outer) else set()
        elif row.check.channel is Channel.DNS:
            found = [a for a in row.record.attempts if signed(a, row.check, outer)]
            servers |= _at_both_ends(found) if _asked_at_both_ends(row, outer) else set()
        elif row.check.n in outer.arrivals:
            signs = _receipts(row, outer)
            direct |= {(a.transport, family(a.address or "")) for a in row.record.attempts
                       if a.again and a.address and signs[True, a.address] - signs[False, a.address]
                       and signs[False, a.address]}  # fmt: skip
    outer = replace(outer, direct=frozenset(direct), servers=frozenset(servers), proxied=frozenset(proxied))
    return replace(outer, leaks=_leaks(rows, outer), still_open=_still_open(rows, outer))


def _asked_at_both_ends(row: Seen, outer: Arrived) -> bool:
    """Whether both of a row's names arrived: a cache could answer for a name that was asked for before."""
    names = {(one.name or "").lower() for one in outer.arrivals.get(row.check.n, ()) if one.channel == "dns"}
    return len({AGAIN in name for name in names}) > 1


def _receipts(row: Seen, outer: Arrived) -> defaultdict[tuple[bool, str], set[str]]:
    """The valid receipts of a row, at the start (False) and at the end: a copy of an old one shows nothing.

    Each belongs to an arrival.
    """
    came = {(one.source, one.port) for one in outer.arrivals.get(row.check.n, ())}
    found: defaultdict[tuple[bool, str], set[str]] = defaultdict(set)
    for attempt in row.record.attempts if row.record is not None else ():
        if attempt.data is not None and attempt.data.receipt is not None and signed(attempt, row.check, outer):
            _, _, source, port, _ = attempt.data.receipt.split(",")
            if (source, int(port)) in came:
                found[attempt.again, attempt.address or ""].add(attempt.data.receipt)
    return found


def _at_both_ends(attempts: Iterable[Attempt]) -> set[str]:
    """The addresses that answered at the start of the run and at its end."""
    ends: dict[bool, set[str]] = {True: set(), False: set()}
    for attempt in attempts:
        ends[attempt.again].add(attempt.address or "")
    return (ends[True] & ends[False]) - {""}


def _spoke(row: Seen) -> list[Attempt]:
    """What a proxy said."""
    attempts = row.record.attempts if row.record is not None else ()
    return [attempt for attempt in attempts if attempt.step == "talk" and attempt.data is not None]


def is_relayed(row: Seen, outer: Arrived) -> bool:
    """Whether a server on the way answers, as it should, and lets nothing through.

    A question that goes straight to the collector is the collector's own; a tunnel that a proxy opened is a way out.
    """
    return not granted(row) if row.check.channel is Channel.PROXY else bool(_asked(row) - outer.addresses)


def unshown(rows: Iterable[Seen], outer: Arrived) -> frozenset[int]:
    """Checks of the collector's that are no witness to anything: it is not known to be reachable there."""
    return frozenset(
        row.check.n
        for row in rows
        if row.check.far_end and row.check.n not in outer.arrivals and _not_reachable(row, outer) is not None
    )


def trust(row: Seen, outer: Arrived, lossy: float | None) -> tuple[Trust, str]:
    """Whether this row's nothing-arrived may be believed, and the words for it."""
    if not outer.asked:
        return Trust.NOT_SHOWN, outer.problem or "the collector was not asked"
    if outer.lost:
        return Trust.DOUBTED, _LOST
    if row.check.n in outer.beside:
        return Trust.DOUBTED, "its token arrived by another way, which is allowed"
    half = sorted(version for version, port in outer.half_open if _went_to(row, version, port))
    if half:
        return Trust.DOUBTED, (
            f"a SYN from this sandbox's address arrived at that port over IPv{half[0]}, and no answer to it came back"
        )
    if (blind := _blind(row, outer)) is not None:
        return Trust.DOUBTED, blind
    missing = _odd_way(row) or _no_permitted(row, outer) or _not_reachable(row, outer) or _crowded(row, outer)
    if missing is None and lossy is not None and lossy > _TOO_LOSSY:
        missing = f"answers are lost here (up to {lossy:.0%} of silent destinations may have answered)"
    return (Trust.NOT_SHOWN, missing) if missing else (Trust.SHOWN, _shown(row, outer))


def _went_to(row: Seen, version: int, port: int | None) -> bool:
    return any(
        a.transport is Transport.TCP and port in (None, a.port) and a.address and family(a.address) == version
        for a, _ in row.each
    )


def _relayed_by(row: Seen, outer: Arrived) -> list[str]:
    """The DNS servers on this host's side that the row asked; the collector itself is none of them."""
    asked = _asked(row) - outer.addresses
    # Nobody listens at an address of this very host: the packet never left it.
    absent = {a.address for a, _ in row.each if a.address and a.error == "ECONNREFUSED" and _own(a.address)}
    return sorted(asked - absent)


def _asked(row: Seen) -> set[str]:
    return {a.address for a, _ in row.each if a.address} if row.check.channel is Channel.DNS else set()


def _own(address: str) -> bool:
    return ip_address(address).is_loopback


def _direct(row: Seen, outer: Arrived) -> list[Attempt]:
    """The attempts that went straight to the collector."""
    if row.check.channel is Channel.PROXY:
        return []
    relayed = row.check.channel is Channel.DNS
    return [a for a, _ in row.each if a.address and (not relayed or a.address in outer.addresses)]


def _odd_way(row: Seen) -> str | None:
    """A middlebox far from the sandbox may drop what is unusual; an unconnected datagram looks like any other."""
    if row.check.technique in WAYS and row.check.technique != "udp_unconnected":
        return "no permitted token took this unusual way"
    return None


def _crowded(row: Seen, outer: Arrived) -> str | None:
    """A limit on crowds, or a server that was too busy, stops some and lets others pass."""
    singled_out = row.check.lone and row.record is not None and is_closed(row.record.attempts)
    for attempt in _direct(row, outer):
        # DNS's port is often open by itself: what got out there says nothing of other ports, but theirs does of it.
        lanes = ((*_lane(attempt)[:2], False), _lane(attempt))
        if singled_out and all(lane in outer.still_open for lane in lanes if lane in outer.leaks):
            continue
        other = outer.leaks.get(lanes[0]) or outer.leaks.get(lanes[1])
        if other not in (None, row.check.id):
            return f"{other} got out the same way, so that a limit on crowds may have stopped this one"
    for attempt, _ in row.each:
        other = outer.leaks.get(attempt.address)
        refused = attempt.dns is None or attempt.dns.rcode != "NOERROR"
        if row.check.channel is Channel.DNS and refused and other not in (None, row.check.id):
            return f"{other} got out through {attempt.address}, which may have been too busy for this one"
    return None


def _lane(attempt: Attempt) -> tuple[Transport, int, bool]:
    """What is filtered alike: transport, IP version, and whether it is DNS's port."""
    return attempt.transport, family(attempt.address or ""), attempt.port == _DNS_PORT


def _still_open(rows: Iterable[Seen], outer: Arrived) -> frozenset[object]:
    """Lanes in which a denied token that got out did so again at the end, alone: there no limit held any more."""
    found: set[object] = set()
    for row in rows:
        if row.check.lone and row.check.n in outer.arrivals and row.record is not None:
            crowd = [attempt for attempt in row.record.attempts if not attempt.again]
            later = (a for a in row.record.attempts if a.again and is_closed([a, *crowd]))
            found |= {
                _lane(a) for a in later if a.step in ("connect", "send") and a.result in ("connected", "answered")
            }
    return frozenset(found)


def _leaks(rows: Iterable[Seen], outer: Arrived) -> dict[object, str]:
    """Denied rows whose token arrived, by the lane that they took straight to the collector, or by the server."""
    found: dict[object, str] = {}
    for row in rows:
        if row.check.declared.action is not Action.DENY or row.check.n not in outer.arrivals:
            continue
        for attempt in _direct(row, outer) if row.check.far_end else ():
            found.setdefault(_lane(attempt), row.check.id)
        for server in _relayed_by(row, outer):
            found.setdefault(server, row.check.id)
    return found


def _no_permitted(row: Seen, outer: Arrived) -> str | None:
    if not row.each:
        return "nothing is known of an attempt"
    if row.check.channel is Channel.PROXY:
        said = [attempt for attempt in _spoke(row) if attempt.address in outer.proxied]
        failed = sorted({a.data.http_status or 0 for a in said if a.data is not None} & _FAILURES)
        if said and failed:
            return f"the proxy failed ({failed[0]}), which is no decision: it may have looked the name up"
        if said:
            return None
        return "no permitted name arrived through this proxy, at the start and at the end, or it said nothing now"
    for server in _relayed_by(row, outer):
        if server not in outer.servers:
            return f"no permitted name arrived through {server}, at the start and at the end"
        undecided = _undecided(row, server)
        if undecided is not None:
            return f"{server} {undecided}"
    for attempt in _direct(row, outer):
        version = family(attempt.address or "")
        if not any((way, version) in outer.direct for way in _SHOWN_BY[attempt.transport]):
            return f"no permitted token arrived over IPv{version}, at the start and at the end"
    return None


def _undecided(row: Seen, server: str) -> str | None:
    """Why what a resolver did was no decision: it may yet ask, or ask when it is asked again."""
    asked = [a for a, _ in row.each if a.address == server]
    answers = [answer for a in asked for answer in (a.dns, *a.late) if answer is not None]
    failed = sorted({answer.rcode for answer in answers} - _DECISIONS)
    if failed:
        return f"failed ({failed[0]}), which is no decision"
    if any(answer.truncated for answer in answers):
        return "wants to be asked over TCP, which is no decision"
    if any(a.dns is None and (a.result != "error" or _broke_off(a)) for a in asked):
        return "did not answer, and may still be asking"
    return None


def _broke_off(attempt: Attempt) -> bool:
    """Whether it failed after the question was sent: a refused connection carried none, an ICMP error names why."""
    return attempt.stage == "receive" and attempt.error != "ECONNREFUSED" and attempt.icmp is None


def _not_reachable(row: Seen, outer: Arrived) -> str | None:
    for attempt in _direct(row, outer):
        version = family(attempt.address or "")
        if (attempt.transport, version, attempt.port or 0) not in outer.reachable:
            port = f"{attempt.transport.value.upper()} port {attempt.port} over IPv{version}"
            return (
                f"no token, of any run, has arrived in the last 30 days at the collector's {port} (run once with this "
                "collector from where nothing is blocked)"
            )
    return None


def _blind(row: Seen, outer: Arrived) -> str | None:
    if outer.sees_half_open or all(a.transport is not Transport.TCP for a in _direct(row, outer)):
        return None
    return "the collector's kernel does not tell it of SYNs that arrive and are never acknowledged"


def _shown(row: Seen, outer: Arrived) -> str:
    if row.check.channel is Channel.PROXY:
        return "while a permitted name arrived through the proxy"
    servers = _relayed_by(row, outer)
    ways = [f"through {server}" for server in servers]
    ways += sorted({f"over IPv{family(a.address or '')}" for a in _direct(row, outer)})
    if not ways:
        return "and nobody listens at that address of this host"
    what = "permitted names" if servers else "permitted tokens"
    return f"while {what} arrived {' and '.join(ways)}, at the start and at the end"


def notes(plan: Plan, outer: Arrived) -> tuple[str, ...]:
    """What a reader must know of the far end before reading rows."""
    if plan.collector is None:
        return ()
    if not outer.asked:
        return (f"the collector {plan.collector.url} could not be asked: {outer.problem or 'no word of it was kept'}",)
    found = []
    if not (outer.direct or outer.servers or outer.proxied):
        found.append(
            "no permitted token arrived at the collector, so that nothing-arrived proves nothing: allow one port of "
            f"the collector, and names under permitted.{outer.zone}"
        )
    if outer.lost:
        found.append(f"the collector says: {_LOST}")
    return tuple(found)

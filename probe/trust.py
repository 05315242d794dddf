"""Whether nothing-arrived may be believed: facts for farend.py's table, and the words for them.

It may where a permitted token of this run took the same way, at the start and at the end, and where the collector's
port is known to be reachable from somewhere.
"""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address

from probe.arrived import Arrived, is_permitted, signed
from probe.documents import Attempt, Plan
from probe.farend import Trust
from probe.knowledge import Seen
from probe.model import Channel, Transport
from probe.paths import family

_TOO_LOSSY = 0.05  # the probability of a lost answer from which nothing-arrived is not believed

# Answer codes by which a resolver denies a name, or has nothing for it.
_DECISIONS = frozenset(("NOERROR", "NXDOMAIN", "REFUSED"))
_LOST = "it could not store some arrivals of this run, or was started anew during it"


def permitted(rows: Iterable[Seen], outer: Arrived) -> Arrived:
    """`outer` with the ways that permitted tokens took: at the start and, by the closing try, at the end."""
    versions: set[int] = set()
    servers: set[str] = set()
    proxied: set[str] = set()
    for row in rows:
        if not is_permitted(row.check) or row.check.n not in outer.arrivals or row.record is None:
            continue
        if row.check.channel is Channel.PROXY:
            proxied |= _at_both_ends(_spoke(row))
            continue
        ways = _at_both_ends(a for a in row.record.attempts if signed(a, row.check, outer))
        if row.check.channel is Channel.DNS:
            servers |= ways
        else:
            versions |= {family(address) for address in ways}
    return replace(outer, versions=frozenset(versions), servers=frozenset(servers), proxied=frozenset(proxied))


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
    """Whether a server on the way answers, as it should. A question that goes straight to the collector is its own."""
    return row.check.channel is Channel.PROXY or bool(_asked(row) - outer.addresses)


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
        return Trust.NOT_SHOWN, _LOST
    half = sorted(version for version, port in outer.half_open if _went_to(row, version, port))
    if half:
        return Trust.DOUBTED, (
            f"a SYN from this sandbox's address arrived at that port over IPv{half[0]}, and no answer to it came back"
        )
    missing = _no_permitted(row, outer) or _not_reachable(row, outer) or _blind(row, outer)
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


def _no_permitted(row: Seen, outer: Arrived) -> str | None:
    if not row.each:
        return "nothing is known of an attempt"
    if row.check.channel is Channel.PROXY:
        if any(attempt.address in outer.proxied for attempt in _spoke(row)):
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
        if version not in outer.versions:
            return f"no permitted token arrived over IPv{version}, at the start and at the end"
    return None


def _undecided(row: Seen, server: str) -> str | None:
    """Why what a resolver did was no decision: it may yet ask, or ask when it is asked again."""
    asked = [a for a, _ in row.each if a.address == server]
    failed = sorted({a.dns.rcode for a in asked if a.dns is not None} - _DECISIONS)
    if failed:
        return f"failed ({failed[0]}), which is no decision"
    if any(a.dns is None and a.result != "error" for a in asked):
        return "did not answer, and may still be asking"
    return None


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
    if not (outer.versions or outer.servers or outer.proxied):
        found.append(
            "no permitted token arrived at the collector, so that nothing-arrived proves nothing: allow one port of "
            f"the collector, and names under permitted.{outer.zone}"
        )
    if outer.lost:
        found.append(f"the collector says: {_LOST}")
    return tuple(found)

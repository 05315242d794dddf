"""What hop walks tell: how far away an answerer stands, by two measures, and where a silence began.

Forward: the smallest hop limit that was answered. Back: how many hops the answer's TTL lost since 64, 128 or 255.
A host's own answer has both alike; a Linux router that resets in its forward hook is one hop nearer going back, because
it looks at the hop limit first; a SYN proxy is nearer too. A time exceeded that did not come is never used: routers
limit their rate.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from probe.documents import Attempt, Check, Record, Vantage
from probe.model import Action

INITIAL = (64, 128, 255)  # what systems start with (Linux, macOS 64; Windows 128; network gear 255)
TIME_EXCEEDED = {4: 11, 6: 3}


@dataclass(frozen=True, slots=True)
class Path:
    """One destination's walk. Hops; None: not known."""

    forward: int | None = None  # the first hop limit that was answered
    back: int | None = None  # hops that the answer's TTL lost, counted like `forward`
    last: int | None = None  # the farthest hop that answered with time exceeded
    last_address: str | None = None
    dropped_here: bool = False  # around a lone try, more packets were made on this host than left it


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the walks of one IP version tell together."""

    distance: int | None = None  # of the nearest control whose two distances agree
    honest: bool | None = None  # whether answers arrive with the TTL that distance leaves; None: no control tells
    routers: dict[int, frozenset[str]] = field(default_factory=dict)  # by hop: who answered with time exceeded
    drops: bool = False  # around lone silent connects, this host's counters said each time that a packet did not leave


def family(address: str) -> int:
    """IP version of the packets. A v4-mapped address sends IPv4."""
    return 6 if ":" in address and IPv6Address(address.split("%")[0]).ipv4_mapped is None else 4


def path_of(record: Record, address: str | None) -> Path:
    """The walk of one address of a row."""
    tried = [a for a in record.attempts if a.address == address]
    first = next((a for a in tried if a.step == "connect" and not a.again), None)
    walked = [a for a in tried if a.step == "walk"]
    if first is None:
        return _of_datagram(tried, walked)
    answered = [a.hops for a in walked if a.hops is not None and alike(first, a)]
    last = max((a for a in walked if exceeded(a)), key=lambda a: a.hops or 0, default=None)
    return Path(
        forward=min(answered, default=None),
        back=_back(first, walked),
        last=last.hops if last else None,
        last_address=last.icmp.offender if last and last.icmp else None,
        dropped_here=any(a.counters is not None and a.counters.requests > a.counters.transmits for a in walked),
    )


def _of_datagram(tried: list[Attempt], walked: list[Attempt]) -> Path:
    """Where an ICMP error comes from: its own TTL, and whether a datagram that dies at that hop meets it too.

    A router's forward hook comes after its look at the hop limit, and would have said time exceeded.
    """
    first = next((a for a in tried if a.step == "send" and not a.again and a.icmp is not None), None)
    if first is None or first.icmp is None or first.icmp.ttl is None:
        return Path()
    same = [a.hops for a in walked if a.icmp == first.icmp and a.hops is not None]
    return Path(forward=min(same, default=None), back=hops_lost(first.icmp.ttl))


def exceeded(attempt: Attempt) -> bool:
    """Whether a router said that the hop limit was reached there."""
    wanted = TIME_EXCEEDED[family(attempt.address or "")]
    return attempt.icmp is not None and attempt.icmp.type == wanted and attempt.hops is not None


def hops_lost(ttl: int) -> int:
    """Distance of a sender whose packet arrived with `ttl`, counted like a hop limit: 1 is the next hop."""
    return next(value for value in INITIAL if value >= ttl) - ttl + 1


def _back(first: Attempt, walked: list[Attempt]) -> int | None:
    heard = max((a.least for a in walked if a.least is not None and alike(first, a)), default=None)
    if heard is None:
        return None
    # One more than what was heard must have been tried, and not been heard.
    above = any(a.least == heard + 1 and a.result == "silent" for a in walked) or heard == INITIAL[-1]
    return hops_lost(heard) if above else None


def alike(first: Attempt, other: Attempt) -> bool:
    """Whether `other` got the same kind of answer: a handshake, or an RST."""
    if first.result == "connected":
        return other.result == "connected"
    return other.result == "error" and other.error == first.error and other.icmp is None and other.stage == "receive"


def seen_outside(record: Record, boundary: str | None, around: Mapping[int, Surroundings]) -> tuple[int, str] | None:
    """Hop and address of a router at or past the boundary that said that a packet of this row got there. Or None."""
    if boundary is None:
        return None
    for attempt in record.attempts:
        if exceeded(attempt) and attempt.icmp is not None and attempt.hops is not None:
            near = around.get(family(attempt.address or ""), Surroundings())
            # A router that was seen nearer as well is met twice: a loop.
            hops = min((at for at, who in near.routers.items() if attempt.icmp.offender in who), default=attempt.hops)
            if is_outside(boundary, hops, attempt.icmp.offender, near):
                return hops, attempt.icmp.offender or "?"
    return None


def is_outside(boundary: str, hop: int | None, address: str | None, around: Surroundings) -> bool | None:
    """Whether a router stands at or past the boundary, a hop number or a network. None: that cannot be told."""
    if boundary.isdigit():
        return None if hop is None else hop >= int(boundary)
    network = ip_network(boundary)
    if hop == 1:
        return False  # the next hop, whatever address it signs with
    if address is not None and ip_address(address) in network:
        return True
    first = [at for at, routers in around.routers.items() if any(ip_address(a) in network for a in routers)]
    if not first or hop is None:
        return None
    return hop > min(first)


def survey(rows: Iterable[tuple[Check, Record | None]], vantage: Vantage | None = None) -> dict[int, Surroundings]:
    """By IP version."""
    found = {4: Surroundings(), 6: Surroundings()}
    ends_near: set[int] = set()
    odd: set[int] = set()  # versions in which a router's own packets do not arrive with the TTL of its hop
    counted: dict[int, list[bool]] = {4: [], 6: []}
    routers: dict[int, dict[int, set[str]]] = {4: {}, 6: {}}
    for check, record in rows:
        if record is None:
            continue
        for attempt in record.attempts:
            if exceeded(attempt) and attempt.icmp and attempt.icmp.offender and attempt.hops is not None:
                routers[family(attempt.address or "")].setdefault(attempt.hops, set()).add(attempt.icmp.offender)
                if attempt.icmp.ttl is not None and hops_lost(attempt.icmp.ttl) != attempt.hops:
                    odd.add(family(attempt.address or ""))
            if attempt.counters is not None and attempt.step == "connect" and attempt.result == "silent":
                counted[family(attempt.address or "")].append(attempt.counters.requests > attempt.counters.transmits)
            if ends_at_next_hop(attempt, vantage):
                ends_near.add(family(attempt.address or ""))
        if check.early and check.declared.action is Action.ALLOW and check.self_test is None:
            for address in {a.address for a in record.attempts if a.step == "connect" and a.address}:
                version = family(address)
                found[version] = _with(found[version], path_of(record, address))
    return {
        version: Surroundings(
            # A next hop that ends connections itself (slirp, pasta, gVisor) passes refusals on as its own.
            None if version in ends_near | odd else one.distance,
            False if version in ends_near | odd else one.honest,
            {hop: frozenset(who) for hop, who in routers[version].items()},
            bool(counted[version]) and all(counted[version]),
        )
        for version, one in found.items()
    }


def ends_at_next_hop(attempt: Attempt, vantage: Vantage | None) -> bool:
    """A connect or datagram that died at the next hop was answered all the same, for an address that lies beyond it."""
    if attempt.hops != 1 or attempt.result not in ("connected", "answered") or attempt.address is None:
        return False
    return not ip_address(attempt.address).is_loopback and is_on_link(attempt.address, vantage) is False


def is_on_link(address: str, vantage: Vantage | None) -> bool | None:
    """Whether `address` is reached without a router. None: the vantage does not tell."""
    if vantage is None or vantage.on_link is None:
        return None
    parsed = ip_address(address)
    # Linux forwards IPv4 link-local addresses; only IPv6 ones never cross a router.
    return (parsed.version == 6 and parsed.is_link_local) or any(parsed in net for net in _networks(vantage.on_link))


@cache
def _networks(on_link: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(net) for net in on_link)


def _with(known: Surroundings, path: Path) -> Surroundings:
    """One control more. One that arrives with another TTL than its distance leaves makes all of them doubtful."""
    if path.forward is None or path.back is None or path.forward < 2:
        return known
    honest = path.forward == path.back and known.honest is not False
    distance = min(d for d in (known.distance, path.forward) if d is not None) if honest else None
    return Surroundings(distance, honest)

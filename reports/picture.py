"""The picture of the paths as values: places in order of distance, and bundles of paths that ended alike.

Pure: report → Picture. Only what is known has a place: a silence of unknown origin ends after the last hop that was
seen, or nowhere. What a place looks like is reports/page/drawing.py's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from probe.model import EnforcerKind, Outcome, Verdict
from probe.report import Report, Result
from reports import words
from reports.page.endings import FAR, SANDBOX, End, Place, Walk, Way, end_of, place_of, version, walk_of
from reports.page.meanings import ENFORCERS

MOST_LANES: Final = 16
MOST_HOPS: Final = 6
MOST_ADDRESSES: Final = 8
MOST_EXAMPLES: Final = 5


@dataclass(frozen=True, slots=True)
class Station:
    """A place on the way. `hop`: 0 is this host, 1 the next hop, None: not known."""

    title: str
    hop: int | None
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lane:
    """Paths with one verdict that ended alike. `at`: index of the last station that is known; None: the sandbox.

    `exact`: they ended at that station; else somewhere after it. `seen`: stations where a router saw one of them.
    `says` stands alone, `where` goes on. `rows`: places in words.rows().
    """

    verdict: Verdict
    way: Way
    allowed: bool
    at: int | None
    exact: bool
    seen: tuple[int, ...]
    says: str
    where: str
    carries: str
    examples: tuple[str, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """`rest`: rows of the bundles that are not drawn."""

    stations: tuple[Station, ...]
    lanes: tuple[Lane, ...]
    rest: tuple[int, ...] = ()


def layout(report: Report) -> Picture:
    """Stations and lanes of a report; self-tests, which never leave, are left out."""
    rows = words.rows(report)
    walks = [walk_of(row) for row in rows]
    bundles: dict[End, list[int]] = {}
    for number, (row, walk) in enumerate(zip(rows, walks, strict=True)):
        bundles.setdefault(end_of(row, walk), []).append(number)
    ends = sorted(bundles, key=lambda e: (e.order, e.allowed, e.way != "out", e.place, e.outcome, e.way))
    seen = _merged(walks)
    places = _places([end.place for end in ends], seen)
    # What got out or works is always there; else large bundles before small ones.
    drawn = set(sorted(ends, key=lambda e: (e.way != "out", e.order, -len(bundles[e])))[:MOST_LANES])
    lanes = tuple(_lane(end, bundles[end], rows, places, walks) for end in ends if end in drawn)
    rest = [number for end in ends if end not in drawn for number in bundles[end]]
    return Picture(_stations(places, rows, seen), lanes, tuple(rest))


# --- places -----------------------------------------------------------------------------------------------------------


def _merged(walks: Iterable[Walk]) -> Walk:
    found: Walk = {}
    for walk in walks:
        for hop, routers in walk.items():
            found.setdefault(hop, set()).update(routers)
    return found


def _places(ends: Iterable[Place], seen: Walk) -> list[Place]:
    """In order of distance; at most MOST_HOPS hops, those where something ended before those that only saw it pass."""
    wanted = set(ends) - {SANDBOX}
    hops = sorted(hop for hop, _ in wanted if 0 < hop < FAR)[:MOST_HOPS]
    passed = sorted(set(seen) - set(hops))[: MOST_HOPS - len(hops)]
    near = {(hop, "") for hop in (*hops, *passed)}
    return sorted(near | {place for place in wanted if place[0] in (0, FAR)})


def _stations(places: Iterable[Place], rows: Iterable[Result], seen: Walk) -> tuple[Station, ...]:
    said: dict[Place, set[str]] = {(hop, ""): set(routers) for hop, routers in seen.items()}
    other: dict[Place, str] = {}  # what stands at a hop where no router was met
    for who in (row.observed.enforcer for row in rows):
        if who is None or who.hop == 0:
            continue
        place = (who.hop, "") if who.hop else place_of(who) or SANDBOX
        said.setdefault(place, set()).update((who.address,) if who.address else ())
        if who.kind not in (EnforcerKind.ROUTER, EnforcerKind.UNKNOWN):
            other[place] = _NAMES.get(who.kind, "in between")
    return tuple(_station(place, said.get(place, set()), other.get(place)) for place in places)


_NAMES: Final = {EnforcerKind.PROXY: "proxy", EnforcerKind.RESOLVER: "resolver"}


def _station(place: Place, addresses: set[str], other: str | None) -> Station:
    hop, name = place
    # IPv4 first
    shown = tuple(sorted(addresses, key=lambda a: (":" in a, len(a), a))[:MOST_ADDRESSES])
    title = name[2:] if name else "next hop" if hop == 1 else "router" if shown or not other else other
    return Station(title, None if hop == FAR else hop, shown)


# --- lanes ------------------------------------------------------------------------------------------------------------


def _lane(end: End, numbers: list[int], rows: Sequence[Result], places: Sequence[Place], walks: Sequence[Walk]) -> Lane:
    found = [rows[number] for number in numbers]
    seen = {hop for number in numbers for hop in walks[number]}
    says, where = _says(end, found)
    # A hop that is one too many for the picture is somewhere after the last one that is in it.
    at = max((i for i, place in enumerate(places) if place <= end.place), default=None)
    return Lane(
        verdict=words.ORDER[end.order],
        way=end.way,
        allowed=end.allowed,
        at=at,
        exact=end.exact and (at is None or places[at] == end.place),
        seen=tuple(i for i, (hop, name) in enumerate(places) if not name and hop in seen),
        says=says,
        where=where,
        carries=_carries(found),
        examples=tuple(words.path(row) for row in found[:MOST_EXAMPLES]),
        rows=tuple(numbers),
    )


def _says(end: End, found: Sequence[Result]) -> tuple[str, str]:
    """`12 paths stopped`, ` by the next hop`."""
    paths = f"{len(found)} {'allowed ' if end.allowed else ''}path{'' if len(found) == 1 else 's'}"
    hop = end.place[0] if 0 < end.place[0] < FAR else None
    by = f" by {_who(end.place, found)}" if end.exact else ""
    works = end.allowed and words.ORDER[end.order] is Verdict.CONFORMS
    last = f", last seen at hop {hop}" if hop else _OPEN.get(end.outcome, ", place not known")
    told: dict[Way, tuple[str, str]] = {
        "out": (f"work{'s' if len(found) == 1 else ''}" if works else "got out", ""),
        "between": ("answered", by or " by something in between"),
        "stopped": ("stopped", by),
        "lost": ("stopped", f" somewhere after hop {hop}" if hop else " somewhere, place not known"),
        "open": (end.outcome.replace("_", " "), by or last),
        "unsent": ("not measured", ": the probe itself failed"),
    }
    says, where = told[end.way] if end.outcome != Outcome.NOT_RUN else ("not tried", "")
    return f"{paths} {says}", where


# What an outcome leaves open where no place is known: of an answer, not where it ended but who gave it.
_OPEN: Final[dict[str, str]] = dict.fromkeys(
    (Outcome.REACHED, Outcome.ACCEPTED, Outcome.INTERCEPTED, Outcome.REFUSED, Outcome.REJECTED, Outcome.PROXY_DENIED),
    ", by whom is not known",
)


def _who(place: Place, found: Sequence[Result]) -> str:
    kinds = sorted({row.observed.enforcer.kind for row in found if row.observed.enforcer is not None})
    if place[0] == 1 and kinds == [EnforcerKind.ROUTER]:
        return "the next hop"
    named = " or ".join("this host" if kind is EnforcerKind.UNKNOWN else ENFORCERS[kind] for kind in kinds)
    return f"{named} at hop {place[0]}" if 0 < place[0] < FAR else named


def _carries(found: Sequence[Result]) -> str:
    """`tcp, udp over IPv6`."""
    channels = ", ".join(sorted({row.channel.value for row in found}))
    versions = sorted({v for row in found if (v := version(row.destination.address or ""))})
    return f"{channels} over {' and '.join(f'IPv{v}' for v in versions)}" if versions else channels

"""Where one path ended, as far as it is known: a place, or somewhere after the last hop that saw it.

Pure: Result → End. A silence of unknown origin has no place of its own.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from probe.model import Action, EnforcerKind, Outcome, Verdict
from probe.paths import exceeded, family
from probe.report import Enforcer, Result
from reports import words

# `out`: it got there. `between`: it works, and something in between answered. `stopped`: at a place that is known.
# `lost`: stopped, and where is not known. `open`: nothing proves what became of it. `unsent`: nothing was sent.
Way = Literal["out", "between", "stopped", "lost", "open", "unsent"]
Place = tuple[int, str]  # what is nearer sorts first
Walk = dict[int, set[str]]  # by hop: the routers that said that the hop limit was reached there

SANDBOX: Final[Place] = (-1, "")
# On this host, in the order in which Linux asks them: the call, the route, the hook on output.
_HERE: Final[dict[EnforcerKind, Place]] = {
    EnforcerKind.SYSCALL_FILTER: (0, "0 syscall filter"),
    EnforcerKind.ROUTE: (0, "1 routing table"),
    EnforcerKind.LOCAL_FIREWALL: (0, "2 firewall"),
    EnforcerKind.UNKNOWN: (0, "3 this host"),
}
# Their distance is not known: they stand after the hops, and say so.
FAR: Final = 10_000
_ELSEWHERE: Final[dict[EnforcerKind, Place]] = {
    EnforcerKind.ROUTER: (FAR, "0 router"),
    EnforcerKind.MIDDLEBOX: (FAR, "1 in between"),
    EnforcerKind.PROXY: (FAR, "2 proxy"),
    EnforcerKind.RESOLVER: (FAR, "3 resolver"),
}


@dataclass(frozen=True, slots=True)
class End:
    """What the rows of a bundle share.

    `order`: of the verdict in words.ORDER. `exact`: it ended at `place`; else somewhere after it. `outcome`: where the
    place alone does not tell what happened.
    """

    order: int
    way: Way
    allowed: bool
    place: Place = SANDBOX
    exact: bool = True
    outcome: str = ""


def end_of(row: Result, walk: Walk) -> End:
    """Where a row ended. `walk`: its own, see walk_of()."""
    way = _way(row)
    place = SANDBOX if way in ("out", "unsent") else place_of(row.observed.enforcer)
    return End(
        order=words.ORDER.index(row.verdict),
        way=way,
        allowed=row.declared.action is Action.ALLOW,
        place=_last_seen(row, walk) if place is None else place,
        exact=place is not None,
        outcome=row.observed.outcome.value if way in ("open", "unsent") else "",
    )


def _way(row: Result) -> Way:
    if row.verdict is Verdict.LEAK:  # also one that a router outside of the boundary saw: that is outside
        return "out"
    if row.observed.outcome in (Outcome.NOT_RUN, Outcome.BROKEN):
        return "unsent"
    if row.verdict is Verdict.UNPROVEN:
        return "open"
    known = place_of(row.observed.enforcer) is not None
    if row.verdict is Verdict.UNDECLARED:
        return "out" if _arrived(row) else "stopped" if known else "open"
    if row.verdict is Verdict.CONFORMS and row.declared.action is Action.ALLOW:
        return "between" if row.observed.outcome is Outcome.INTERCEPTED else "out"
    return "stopped" if known else "lost"


def _arrived(row: Result) -> bool:
    who = row.observed.enforcer
    refused_itself = row.observed.outcome is Outcome.REFUSED and who is not None and who.kind is EnforcerKind.PEER
    return row.observed.outcome is Outcome.REACHED or refused_itself


def place_of(who: Enforcer | None) -> Place | None:
    """Where an enforcer stands; None: nobody was named, or somebody of whom nothing else is known."""
    if who is None or who.kind is EnforcerKind.PEER or (who.kind is EnforcerKind.UNKNOWN and who.hop != 0):
        return None
    if who.kind in _HERE:
        return _HERE[who.kind]
    return (who.hop, "") if who.hop else _ELSEWHERE[who.kind]


def _last_seen(row: Result, walk: Walk) -> Place:
    """The farthest hop that is known to have seen it. A silence names the last router that answered."""
    who = row.observed.enforcer
    named = who.hop if who is not None and who.kind is EnforcerKind.UNKNOWN else None
    farthest = named or max(walk, default=0)
    return (farthest, "") if farthest else SANDBOX


def walk_of(row: Result) -> Walk:
    """What the routers on its way said."""
    found: Walk = {}
    for attempt in row.observed.attempts:
        icmp = attempt.icmp
        if attempt.step == "walk" and icmp and attempt.hops and version(attempt.address or "") and exceeded(attempt):
            found.setdefault(attempt.hops, set()).update((icmp.offender,) if icmp.offender else ())
    return found


@lru_cache(4096)
def version(address: str) -> int | None:
    """Of IP; None where it is no address: a stored report may hold anything."""
    try:
        return family(address) if address else None
    except ValueError:
        return None

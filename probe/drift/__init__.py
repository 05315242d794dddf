"""Two tables of conditions → what changed, each difference in one plain line. What of it is told is decided elsewhere.

This file is the registry: who tells which sort of change.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from probe.alert import Change
from probe.conditions import About, Conditions
from probe.drift import baseline, place, policy, rows
from probe.drift.moves import Move, moves, sort_of

TELLERS: Final[dict[str, Callable[[Sequence[Move], Mapping[str, About]], list[Change]]]] = {
    "row": rows.tell,
    "policy": policy.tell,
    "vantage": place.tell,
    "baseline": baseline.tell,
}


def compare(before: Conditions, now: Conditions, unstable: Iterable[str] = ()) -> tuple[Change, ...]:
    """All changes between two runs. `unstable`: keys that change from run to run anyway."""
    left_out = frozenset(unstable)
    found = [move for move in moves(before, now) if move.key not in left_out]
    # Rows that go with a changed policy are no news: the rule has a line of its own.
    if any(sort_of(move.key) == "policy" for move in found):
        found = [move for move in found if move.now is not None or sort_of(move.key) != "row"]
    return tell(found, {**before.about, **now.about})


def tell(found: Sequence[Move], about: Mapping[str, About]) -> tuple[Change, ...]:
    """The lines, leaks first. Rows that are alike share one."""
    by_sort: dict[str, list[Move]] = {}
    for move in found:
        by_sort.setdefault(sort_of(move.key), []).append(move)
    told = [change for sort, teller in TELLERS.items() for change in teller(by_sort.get(sort, []), about)]
    return tuple(sorted(told, key=lambda change: change.kind != "leak"))

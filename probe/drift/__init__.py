"""Two tables of conditions → what changed, each difference in one plain line. What of it is told is decided elsewhere.

This file is the registry: who tells which sort of change.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from probe.alert import Change
from probe.conditions.nouns import About, Conditions
from probe.drift import baseline, place, policy, rows
from probe.drift.moves import Move, is_of_an_entry, moves, sort_of

_LINE: Final = 2000  # characters
_PATHS: Final = 1000

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
    if any(sort_of(move.key) == "policy" for move in found):
        found = [move for move in found if move.now is not None or not is_of_an_entry(move.key)]
    return tell(found, {**before.about, **now.about})


def tell(found: Sequence[Move], about: Mapping[str, About]) -> tuple[Change, ...]:
    """The lines, leaks first. Rows that are alike share one."""
    by_sort: dict[str, list[Move]] = {}
    for move in found:
        by_sort.setdefault(sort_of(move.key), []).append(move)
    told = [change for sort, teller in TELLERS.items() for change in teller(by_sort.get(sort, []), about)]
    return tuple(sorted(map(_bounded, told), key=lambda change: change.kind != "leak"))


def _bounded(change: Change) -> Change:
    """What the inside says of itself must not fill a channel."""
    return replace(
        change,
        line=change.line if len(change.line) <= _LINE else change.line[: _LINE - 1] + "…",
        paths=change.paths[:_PATHS],
        cidrs=change.cidrs[:_PATHS],
    )

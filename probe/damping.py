"""What is due to be told: a fold over runs, one state per key. A leak and a changed rule are told at once, always.

What is measured may flicker, so any other change is told when k of the last n runs say so, or when none of them says
any more what was told; a fact about the place that had been the same in all of them, at once. What is unproven in all
but one of the last runs is told as blindness.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from probe.conditions.nouns import BLOCKED, LEAK, UNKNOWN, UNVERIFIED, Conditions
from probe.drift.moves import NEVER, Move, is_of_an_entry, sort_of, state, whoever

_ABSENT: Final = ""  # how a run without the key is remembered
# First words of a row that do not pass in silence: told at once, or when they last.
_NEWS: Final = (LEAK, UNKNOWN, BLOCKED)


@dataclass(frozen=True, slots=True)
class Damping:
    """`k` of `n` runs must agree; what is unproven in `blind` of `blind` + 1 is told.

    k must be more than half of n, rounded up: what alternates from run to run would else be told every time.
    """

    k: int = 3
    n: int = 4
    blind: int = 3

    @property
    def kept(self) -> int:
        """Runs that are remembered of each key."""
        return max(self.n, self.blind) + 1


@dataclass(frozen=True, slots=True)
class Known:
    """Of one key: the word that was last told or first seen (None: not proven yet), and the last runs' words."""

    told: str | None
    recent: tuple[str, ...]


def step(
    known: Mapping[str, Known], now: Conditions, damping: Damping, runs: int
) -> tuple[dict[str, Known], list[Move]]:
    """The states after one more run, and the moves that are due. `runs`: how many were ever made before this one."""
    after: dict[str, Known] = {}
    due: list[Move] = []
    # Of a place that no run has told of nothing was absent: a sandbox that came up after its canary.
    placed = any(sort_of(key) == "vantage" for key in known)
    changed = any(sort_of(key) == "policy" and now.values.get(key) != one.told for key, one in known.items())
    for key in dict.fromkeys([*now.values, *known]):
        word, old = now.values.get(key), known.get(key)
        unverified = word == UNVERIFIED and sort_of(key) == "baseline"
        if key.startswith(now.silent_on) or unverified:
            if old is not None:
                after[key] = old
        elif not (word is None and changed and is_of_an_entry(key)):
            unseen = not known or (sort_of(key) == "vantage" and not placed)
            one, move = _one(key, word, old, damping, 0 if unseen else runs)
            due += [] if move is None else [move]
            if one.told is not None or one.recent != (_ABSENT,) * damping.kept:
                after[key] = one
    return after, due


def _one(key: str, word: str | None, old: Known | None, damping: Damping, runs: int) -> tuple[Known, Move | None]:
    row = sort_of(key) == "row"
    # A key that is new in a later run was absent in those before it; a row's first word is no change.
    fresh = old is None and (row or not runs)
    before = old or Known(None, () if fresh else (_ABSENT,) * min(runs, damping.kept))
    recent = (*before.recent, word or _ABSENT)[-damping.kept :]
    told = before.told
    if fresh and not (row and state(word) in _NEWS):
        return Known(word, recent), None
    if told != word and _is_due(key, told, word, recent, damping):
        # Runs from before the change do not count for the next one.
        return Known(word, (word or _ABSENT,)), Move(key, told or (NEVER if row and not fresh else None), word)
    if told is None and row and state(word) not in (UNKNOWN, BLOCKED):
        return Known(word, recent), None  # proven for the first time
    return Known(told, recent), None


def _is_due(key: str, told: str | None, word: str | None, recent: tuple[str, ...], damping: Damping) -> bool:
    sort = sort_of(key)
    if sort == "policy" or state(word) == LEAK:
        return True
    if sort == "row":
        return _row_is_due(told, word, recent, damping)
    if sort == "vantage" and len(recent) > damping.n and set(recent[-damping.n - 1 : -1]) == {told or _ABSENT}:
        return True
    return sum(w == (word or _ABSENT) for w in recent[-damping.n :]) >= damping.k


def _row_is_due(told: str | None, word: str | None, recent: tuple[str, ...], damping: Damping) -> bool:
    if state(word) == UNKNOWN:
        return sum(state(w) == UNKNOWN for w in recent[-damping.blind - 1 :]) >= damping.blind
    if told is None and state(word) != BLOCKED:
        return False
    window = [w or None for w in recent[-damping.n :]]
    # Compared as coarsely as the two words differ: which of several routers it is may alternate.
    alike: Callable[[str | None], str | None] = next(
        (how for how in (state, whoever) if how(word) != how(told)), lambda one: one
    )
    if sum(alike(w) == alike(word) for w in window) >= damping.k:
        return True
    return len(window) >= damping.n and all(state(w) != state(told) for w in window)


def unstable(known: Mapping[str, Known]) -> frozenset[str]:
    """Facts of the place that were new in each of the runs before this one: to be different is what they are like."""
    return frozenset(
        key
        for key, one in known.items()
        if sort_of(key) == "vantage" and len(one.recent) > 2 and len(set(one.recent)) == len(one.recent)
    )

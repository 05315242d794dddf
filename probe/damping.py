"""What is due to be told: a fold over runs, one state per key. A leak and a changed rule are told at once, always.

What is measured may flicker, so any other change is told when k of the last n runs say so; a fact about the place that
had been the same in all of them, at once. What stays unproven for `blind` runs in a row is told as blindness.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from probe.conditions import LEAK, UNKNOWN, UNVERIFIED, Conditions
from probe.drift.moves import NEVER, Move, sort_of, state

_ABSENT: Final = ""  # how a run without the key is remembered


@dataclass(frozen=True, slots=True)
class Damping:
    """`k` of `n` runs must agree; `blind` unproven ones in a row are told.

    k must be more than half of n, rounded up: what alternates from run to run would else be told every time.
    """

    k: int = 3
    n: int = 4
    blind: int = 3

    @property
    def kept(self) -> int:
        """Runs that are remembered of each key."""
        return max(self.n + 1, self.blind)


@dataclass(frozen=True, slots=True)
class Known:
    """Of one key: the word that was last told or first seen (None: not proven yet), and the last runs' words."""

    told: str | None
    recent: tuple[str, ...]


def step(
    known: Mapping[str, Known], now: Conditions, damping: Damping, runs: int
) -> tuple[dict[str, Known], list[Move]]:
    """The states after one more run, and the moves that are due. `runs`: how many there were before this one."""
    after: dict[str, Known] = {}
    due: list[Move] = []
    # Rows that go with a changed policy are no news: the rule has a line of its own.
    excused = any(sort_of(key) == "policy" and now.values.get(key) != one.told for key, one in known.items())
    for key in dict.fromkeys([*now.values, *known]):
        word, old = now.values.get(key), known.get(key)
        if word is None and excused and sort_of(key) == "row":
            continue
        if key.startswith(now.silent_on) or word == UNVERIFIED:
            if old is not None:
                after[key] = old
            continue
        # A key that is new in a later run was absent in those before it; a row's first word is no change.
        row = sort_of(key) == "row"
        fresh = old is None and (runs == 0 or row)
        old = old or Known(None, () if fresh else (_ABSENT,) * min(runs, damping.kept))
        recent = (*old.recent, word or _ABSENT)[-damping.kept :]
        told = old.told
        if fresh and not (row and state(word) in (LEAK, UNKNOWN)):
            told = word
        elif told != word and _is_due(key, told, word, recent, damping):
            never = NEVER if row and not fresh else None
            due.append(Move(key, told or never, word))
            # Runs from before the change do not count for the next one.
            told, recent = word, (word or _ABSENT,)
        elif told is None and row and state(word) != UNKNOWN:
            told = word  # proven for the first time
        if told is not None or recent != (_ABSENT,) * damping.kept:
            after[key] = Known(told, recent)
    return after, due


def _is_due(key: str, told: str | None, word: str | None, recent: tuple[str, ...], damping: Damping) -> bool:
    sort = sort_of(key)
    if sort == "policy" or state(word) == LEAK:
        return True
    if sort == "row" and state(word) == UNKNOWN:
        return len(recent) >= damping.blind and all(state(w) == UNKNOWN for w in recent[-damping.blind :])
    if sort == "row" and told is None:
        return False
    if sort == "vantage" and len(recent) > damping.n and set(recent[-damping.n - 1 : -1]) == {told or _ABSENT}:
        return True
    window = [w or None for w in recent[-damping.n :]]
    if sort == "row" and state(word) != state(told):
        return sum(state(w) == state(word) for w in window) >= damping.k
    return sum(w == word for w in window) >= damping.k


def unstable(known: Mapping[str, Known]) -> frozenset[str]:
    """Facts of the place that were new in each of the runs before this one: to be different is what they are like."""
    return frozenset(
        key
        for key, one in known.items()
        if sort_of(key) == "vantage" and len(one.recent) > 1 and len(set(one.recent)) == len(one.recent)
    )

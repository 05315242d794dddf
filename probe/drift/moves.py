"""One key's difference between two runs, and what every teller of them needs."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from probe.alert import Change, Kind
from probe.conditions import About, Conditions

NONE: Final = "none"  # no such key in that run
NEVER: Final = "never"  # a row that no run has proven yet
MOST: Final = 8  # names in a line
_NOBODY: Final = About("?")


class Move(NamedTuple):
    """One key, and its words before and now; None: it was not there."""

    key: str
    before: str | None
    now: str | None


def moves(before: Conditions, now: Conditions) -> list[Move]:
    """Every key whose word differs, in the order of the report."""
    silent = before.silent_on + now.silent_on
    keys = dict.fromkeys([*now.values, *before.values])
    found = (Move(key, before.values.get(key), now.values.get(key)) for key in keys if not key.startswith(silent))
    return [move for move in found if move.before != move.now]


def state(word: str | None) -> str:
    """`leak`, `open`, `closed`, `blocked`, `unknown` or `none`, of a row's word."""
    return NONE if word is None else word.partition(" ")[0]


SORT: Final = {
    "row": "row",
    **dict.fromkeys(("source", "mode", "default", "dns", "rule"), "policy"),
    "vantage": "vantage",
    **dict.fromkeys(("baseline", "severity"), "baseline"),
}


def sort_of(key: str) -> str:
    """`row`, `policy`, `vantage` or `baseline`."""
    return SORT[key.partition(":")[0]]


def about_of(move: Move, about: Mapping[str, About]) -> About:
    """What is known of the move's key."""
    return about.get(move.key, _NOBODY)


def change(move: Move, line: str, kind: Kind = "policy") -> Change:
    """A change with its kind ahead of its line."""
    return Change(kind, f"{kind}: {line}", before=move.before, after=move.now)

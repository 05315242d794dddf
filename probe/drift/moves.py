"""One key's difference between two runs, and what every teller of them needs."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from probe.alert import Change, Kind
from probe.conditions.nouns import About, Conditions

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


def whoever(word: str | None) -> str | None:
    """Without the address: the same router has one for IPv4 and one for IPv6."""
    return None if word is None else re.sub(r" [0-9a-f.:]*[.:][0-9a-f.:]*$", "", word)


SORT: Final = {
    "row": "row",
    **dict.fromkeys(("source", "mode", "default", "dns", "rule"), "policy"),
    "vantage": "vantage",
    **dict.fromkeys(("baseline", "severity"), "baseline"),
}


def is_known(key: str) -> bool:
    """Whether this version knows keys of its sort: a history may be another's."""
    return key.partition(":")[0] in SORT


def sort_of(key: str) -> str:
    """`row`, `policy`, `vantage` or `baseline`."""
    return SORT[key.partition(":")[0]]


def is_of_an_entry(key: str) -> bool:
    """Whether it is the row of a policy's own entry: it goes with its rule, and that has a line of its own."""
    return key.startswith("row:declared-entries/")


def about_of(move: Move, about: Mapping[str, About]) -> About:
    """What is known of the move's key."""
    return about.get(move.key, _NOBODY)


def change(move: Move, line: str, kind: Kind = "policy") -> Change:
    """A change with its kind ahead of its line."""
    return Change(kind, f"{kind}: {line}", before=move.before, after=move.now)

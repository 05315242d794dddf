"""Conditions and their words, and how a key is made. What holds in a report is told beside this file."""

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

from probe.errors import one_line
from probe.model import Declared, DnsRules, Rule

THERE = "there"
UNKNOWN, LEAK, OPEN, CLOSED, BLOCKED = "unknown", "leak", "open", "closed", "blocked"
UNVERIFIED = "unverified"
STARTED = "vantage:started"  # through which launcher
_TAB = "\t"
_LONGEST = 240  # characters of a name or a word


@dataclass(frozen=True, slots=True)
class About:
    """What a sentence about a key needs, printable. `place`: file and line; `seen`: what was observed."""

    name: str
    place: str | None = None
    seen: str | None = None
    why: str | None = None
    address: str | None = None
    cidr: str | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """`silent_on`: beginnings of keys of which this run says nothing, so that their absence means nothing."""

    values: dict[str, str]
    about: dict[str, About] = field(default_factory=dict)
    silent_on: tuple[str, ...] = ()


class Said(NamedTuple):
    """One key with its word."""

    key: str
    value: str
    about: About


def short(text: str) -> str:
    """One printable line of a bounded length: the inside may say anything. What was cut differs where it differed."""
    if len(text) <= _LONGEST:
        return one_line(text)
    mark = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    return one_line(text[:_LONGEST]) + f"…{mark}"


def key(sort: str, *parts: str) -> str:
    """A key whose parts can be told apart: no printable line has a tab."""
    return f"{sort}:" + _TAB.join(map(one_line, parts))


def parts_of(name: str) -> tuple[str, ...]:
    """The parts that `key` was made of."""
    return tuple(name.partition(":")[2].split(_TAB))


def place(declared: Declared | Rule | DnsRules) -> str | None:
    """`egress-policy.toml:7`: the file as it was named, and the line where that is known."""
    if declared.path is None:
        return None
    return short(declared.path) if declared.line is None else f"{short(declared.path)}:{declared.line}"

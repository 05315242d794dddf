"""The nouns of change: what differs between two runs, and what is told of it. No rule lives here (probe/drift/)."""

from dataclasses import dataclass
from typing import Final, Literal

from probe.model import Verdict

ALERT_SCHEMA: Final = "egress-probe.alert/1"

# `leak`: a denied path got out. `opened`, `closed`: another path's way out came or went. `enforcer`: still stopped, by
# another. `blind`: unproven for too many runs in a row; `proven`: no longer. `untried`: no row stands for it any more.
# `failed`: the run could not be made; `recovered`: it can again. `damaged`: the history was set aside.
Kind = Literal[
    "leak", "opened", "closed", "enforcer", "policy", "vantage", "baseline", "blind", "proven", "untried", "failed",
    "recovered", "damaged",
]  # fmt: skip
Severity = Literal["critical", "warning", "notice"]

SEVERITY: Final[dict[Kind, Severity]] = {
    "leak": "critical",
    "opened": "warning",
    "closed": "warning",
    "enforcer": "warning",
    "policy": "warning",
    "vantage": "warning",
    "baseline": "warning",
    "blind": "warning",
    "proven": "notice",
    "untried": "warning",
    "failed": "warning",
    "recovered": "notice",
    "damaged": "warning",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference, in one plain line. `paths`: ids of the rows that it is about; `before`, `after`: in words."""

    kind: Kind
    line: str
    paths: tuple[str, ...] = ()
    before: str | None = None
    after: str | None = None
    cidrs: tuple[str, ...] = ()  # the documentation or routing blocks of those rows' addresses


@dataclass(frozen=True, slots=True)
class Alert:
    """One change that is told. `id` is the same however often it is sent; `canary` is the schedule's name."""

    schema: Literal["egress-probe.alert/1"]
    probe_type: Literal["egress_path_validation"]
    id: str
    canary: str
    run_id: str | None  # None: there was no run
    time: str  # RFC 3339, UTC
    severity: Severity
    change: Change


@dataclass(frozen=True, slots=True)
class RunPoint:
    """One run of a timeline."""

    id: str
    started: str | None
    exit_code: int
    good: bool = False  # complete, without leak or over-block


# One letter per run and path of a timeline; `.`: the path was not in that run.
LETTERS: Final[dict[Verdict, str]] = {
    Verdict.CONFORMS: "c",
    Verdict.LEAK: "L",
    Verdict.OVERBLOCKED: "O",
    Verdict.UNPROVEN: "u",
    Verdict.UNDECLARED: "d",
    Verdict.NOT_RUN: "n",
}


@dataclass(frozen=True, slots=True)
class Canary:
    """What a scheduled run knows beyond itself. `reference`: the last known good run (else the last complete one).

    `before`: the reference's verdicts by row id. `runs`: oldest first; `timeline`: row id → one of LETTERS per run.
    """

    name: str
    reference: RunPoint | None = None
    before: dict[str, Verdict] | None = None
    changes: tuple[Change, ...] = ()
    runs: tuple[RunPoint, ...] = ()
    timeline: dict[str, str] | None = None

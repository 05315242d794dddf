"""Reading a history back: a stored report beside the one before it, a timeline, and how a canary stands."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise, takewhile
from typing import Final

from probe.alert import Canary, Change, RunPoint
from probe.codec import DecodeError, decode, parse_json
from probe.conditions import conditions
from probe.conditions.nouns import LEAK, UNKNOWN, Conditions
from probe.damping import Known, unstable
from probe.drift import compare
from probe.drift.moves import sort_of, state
from probe.errors import UserError
from probe.history.outbox import buried
from probe.history.reading import ANY, Memory, Run
from probe.history.store import History
from probe.report import Report

Reference = tuple[RunPoint, Report]
_USUAL: Final = 20  # runs that show how often there is one


def stored_report(history: History, run: Run) -> Report:
    """A report of the history. Raises UserError."""
    try:
        return decode(Report, parse_json(history.report(run), f"{history.path}: run {run.number}"))
    except DecodeError as error:
        raise UserError(f"{history.path}: run {run.number}: {error}") from None


def point(run: Run) -> RunPoint:
    """A run as timelines show it."""
    return RunPoint(run.run_id or f"#{run.number}", stamp(run.started), run.exit_code, run.good)


def stamp(moment: float) -> str:
    """Seconds since 1970 as RFC 3339."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def last_good(history: History, before: int = ANY) -> Reference | None:
    """What a run is compared with: the last known good one of those before number `before`, else the last complete one.

    None where there is none, or it cannot be read any more.
    """
    run = history.reference(before)
    if run is None:
        return None
    try:
        return point(run), stored_report(history, run)
    except UserError:
        return None


def beside(name: str, reference: Reference | None, now: Conditions, known: Mapping[str, Known]) -> Canary:
    """A run beside its reference. `known`: of the runs before it."""
    if reference is None:
        return Canary(name)
    at, old = reference
    verdicts = {row.id: row.verdict for row in old.results}
    return Canary(name, at, verdicts, compare(conditions(old), now, unstable(known)))


def compared(report: Report, history: History, run: Run, name: str) -> Report:
    """A stored report, compared with the last known good run before it. Raises UserError."""
    reference = last_good(history, run.number)
    known = {} if reference is None else history.memory().known
    return replace(report, canary=beside(name, reference, conditions(report), known))


def with_timeline(report: Report, history: History, runs: Sequence[Run], name: str) -> Report:
    """A stored report with the runs around it. Raises UserError."""
    canary = report.canary or Canary(name)
    points = tuple(point(run) for run in runs)
    return replace(report, canary=replace(canary, runs=points, timeline=history.timeline(runs)))


def without_runs(report: Report, runs: Sequence[Run]) -> Report:
    """The last report that there is, and that no run could be made since: it must not look like the present."""
    failed = list(takewhile(lambda run: run.problem is not None, reversed(runs)))
    if not failed:
        return report
    line = f"failed: the last {len(failed)} runs could not be made: {failed[0].problem}"
    canary = report.canary or Canary("")
    return replace(
        report,
        complete=False,
        problems=(line, *report.problems),
        canary=replace(canary, changes=(Change("failed", line), *canary.changes)),
    )


def overdue(runs: Sequence[Run], moment: float) -> float | None:
    """Seconds since the last run, where that is three times as long as it was between runs; else None."""
    gaps = sorted(after.started - before.started for before, after in pairwise(runs))
    usual = gaps[len(gaps) // 2] if len(gaps) > 1 else None
    since = moment - runs[-1].started if runs else 0.0
    return since if usual is not None and since > 3 * max(usual, 60.0) else None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a canary stands. `leaking`, `blind`: paths in words, as they were last told."""

    name: str
    runs: int
    bytes: int
    last: Run | None
    good: Run | None
    leaking: tuple[str, ...]
    blind: tuple[str, ...]
    undelivered: int
    error: str | None  # of the oldest undelivered alert
    dead_letters: int
    exits: dict[int, int]  # exit code → runs
    alerts: dict[str, int]  # kind → alerts
    overdue: float | None = None  # seconds since the last run, where one is missing


def standing(history: History, name: str, moment: float | None = None) -> Standing:
    """From the history and the dead letters beside it. `moment`: seconds since 1970. Raises UserError."""
    last = history.runs(_USUAL)
    good = history.reference()
    memory = history.memory()
    waiting = history.rows("SELECT error FROM deliveries ORDER BY alert")
    return Standing(
        name=name,
        runs=int(history.rows("SELECT count(*) FROM runs")[0][0]),
        bytes=history.path.stat().st_size,
        last=last[-1] if last else None,
        good=good if good is not None and good.good else None,
        leaking=leaking(memory),
        blind=_told(memory, UNKNOWN),
        undelivered=len(waiting),
        error=next((error for (error,) in waiting if error), None),
        dead_letters=buried(history.path),
        exits=dict(history.rows("SELECT exit_code, count(*) FROM runs GROUP BY exit_code")),
        alerts=dict(history.rows("SELECT kind, count(*) FROM alerts GROUP BY kind")),
        overdue=overdue(last, time.time() if moment is None else moment),
    )


def leaking(memory: Memory) -> tuple[str, ...]:
    """Names of the rows that were last told as leaks."""
    return _told(memory, LEAK)


def _told(memory: Memory, word: str) -> tuple[str, ...]:
    """Names of the rows of which `word` was last told."""
    return tuple(
        memory.about[key].name for key, one in memory.known.items() if sort_of(key) == "row" and state(one.told) == word
    )

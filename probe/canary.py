"""What a scheduled run adds to a report: compared with the last known good one, remembered, and what of it is told.

Pure up to the history, which is read here and written once, in one transaction; alerts are delivered by telling.py.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from probe.alert import ALERT_SCHEMA, LETTERS, SEVERITY, Alert, Canary, Change, RunPoint
from probe.codec import to_line
from probe.conditions import Conditions, conditions
from probe.damping import Damping, step, unstable
from probe.drift import compare, tell
from probe.errors import UserError
from probe.history.store import KEEP, History, Memory, Run
from probe.model import Purpose, Verdict
from probe.report import Report, Result
from probe.standing import point, stamp, stored_report

_FAILED: Final = "failed"  # the note that says since when no run could be made, and why


@dataclass(frozen=True, slots=True)
class Schedule:
    """One canary: its name, what is damped, how many runs are kept, the names of its channels."""

    name: str
    damping: Damping
    keep: int = KEEP
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Past:
    """What a run is compared with. Without a history: nothing."""

    memory: Memory
    runs: int = 0  # with a report
    reference: tuple[RunPoint, Report] | None = None
    failed: str | None = None


NOTHING: Final = Past(Memory({}, {}))


def look_back(history: History) -> Past:
    """The past as the history tells it. A reference that cannot be read any more is left out. Raises UserError."""
    run = history.reference()
    reference = None
    if run is not None:
        try:
            reference = point(run), stored_report(history, run)
        except UserError:
            reference = None
    return Past(history.memory(), history.count(), reference, history.note(_FAILED) or None)


# --- a run ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assembled:
    """The report with its comparison, what is known now, and what is to be told."""

    report: Report
    memory: Memory
    alerts: tuple[Alert, ...]


def assemble(report: Report, past: Past, schedule: Schedule, noticed: Sequence[Change] = ()) -> Assembled:
    """One run, compared. `noticed`: further changes to tell (a history that was set aside)."""
    now = conditions(report)
    known, due = step(past.memory.known, now, schedule.damping, past.runs)
    about = {key: one for key, one in {**past.memory.about, **now.about}.items() if key in known or key in now.about}
    changes = _since(past, now)
    told = [*noticed, *tell(due, {**past.memory.about, **about})]
    if past.failed is not None:
        told.append(Change("recovered", f"recovered: runs can be made again (was: {past.failed})"))
    alerts = alerts_of(told, schedule.name, report.run.id, report.run.started or "")
    return Assembled(
        replace(
            report,
            canary=Canary(
                name=schedule.name,
                reference=past.reference[0] if past.reference else None,
                before={row.id: row.verdict for row in past.reference[1].results} if past.reference else None,
                changes=changes,
            ),
        ),
        Memory(known, {key: about[key] for key in known if key in about}),
        alerts,
    )


def _since(past: Past, now: Conditions) -> tuple[Change, ...]:
    if past.reference is None:
        return ()
    return compare(conditions(past.reference[1]), now, unstable(past.memory.known))


def alerts_of(told: Sequence[Change], name: str, run_id: str | None, time: str) -> tuple[Alert, ...]:
    """What goes to the channels. The id is the same however often it is sent."""
    return tuple(
        Alert(
            schema=ALERT_SCHEMA,
            probe_type="egress_path_validation",
            id=f"{run_id or time}-{number}",
            canary=name,
            run_id=run_id,
            time=time,
            severity=SEVERITY[change.kind],
            change=change,
        )
        for number, change in enumerate(told, 1)
    )


def keep_run(history: History, done: Assembled, schedule: Schedule, started: float, seconds: float) -> None:
    """One transaction. Raises schema.DamagedError, sqlite3.Error."""
    report = done.report
    count = Counter(row.verdict for row in shown(report))
    run = Run(
        run_id=report.run.id,
        started=started,
        seconds=seconds,
        exit_code=report.summary.exit_code,
        complete=report.complete,
        good=report.complete and not count[Verdict.LEAK] and not count[Verdict.OVERBLOCKED],
        conforms=count[Verdict.CONFORMS],
        leak=count[Verdict.LEAK],
        overblocked=count[Verdict.OVERBLOCKED],
        unproven=count[Verdict.UNPROVEN],
        undeclared=count[Verdict.UNDECLARED],
        not_run=count[Verdict.NOT_RUN],
    )
    # What the comparison said can be made again; the history holds what was seen.
    history.store(
        run,
        to_line(replace(report, canary=None)),
        {row.id: LETTERS[row.verdict] for row in shown(report)},
        done.memory,
        done.alerts,
        schedule.channels,
        {_FAILED: ""},
        schedule.keep,
    )


def shown(report: Report) -> list[Result]:
    """The rows without self-tests."""
    return [row for row in report.results if row.purpose is not Purpose.SELF_TEST]


# --- no run -----------------------------------------------------------------------------------------------------------


def failed_alerts(
    past: Past, schedule: Schedule, problem: str, noticed: Sequence[Change], now: float
) -> tuple[Alert, ...]:
    """What is told of a run that could not be made: once, until it can again or fails for another reason."""
    told = [*noticed]
    if past.failed != problem:
        told.append(Change("failed", f"failed: the run could not be made: {problem}"))
    return alerts_of(told, schedule.name, None, stamp(now))


def keep_failure(
    history: History, alerts: Sequence[Alert], schedule: Schedule, problem: str, now: float, exit_code: int
) -> None:
    """One transaction. Raises schema.DamagedError, sqlite3.Error."""
    run = Run(None, now, 0.0, exit_code, complete=False, good=False, problem=problem)
    history.store(run, None, {}, None, alerts, schedule.channels, {_FAILED: problem}, schedule.keep)

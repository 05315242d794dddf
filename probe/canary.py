"""What a scheduled run adds to a report: compared with the last known good one, remembered, and what of it is told.

Pure up to the history, which is read here and written once, in one transaction; alerts are delivered by telling.py.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from probe.alert import ALERT_SCHEMA, LETTERS, SEVERITY, Alert, Change
from probe.codec import to_line
from probe.conditions import conditions
from probe.conditions.nouns import STARTED, Conditions
from probe.damping import Damping, Known, step
from probe.drift import tell
from probe.drift.moves import sort_of
from probe.history.reading import Memory, Run
from probe.history.store import KEEP, History
from probe.judge import summarise
from probe.naming import shown
from probe.report import Report
from probe.standing import Reference, beside, last_good, leaking, stamp
from probe.tokens import new_run_id

# Notes in the history: why no run could be made since the last one that could; the channels of the last run with any;
# what the last run noticed beside its report.
_FAILED: Final = "problems"
_CHANNELS: Final = "channels"
_NOTICED: Final = "noticed"
_MOST_PROBLEMS: Final = 8


@dataclass(frozen=True, slots=True)
class Schedule:
    """One canary: its name, what is damped, how many runs are kept, the names of its channels."""

    name: str
    damping: Damping
    keep: int = KEEP
    channels: tuple[str, ...] = ()
    broken: bool = False  # one of its channels cannot be had just now

    def listeners(self, past: "Past") -> tuple[str, ...]:
        """Who is to hear of a run: also those of the last one, where there are none now, or one cannot be had."""
        if self.channels and not self.broken:
            return self.channels
        return tuple(dict.fromkeys((*past.channels, *self.channels)))


@dataclass(frozen=True, slots=True)
class Past:
    """What a run is compared with. Without a history: nothing."""

    memory: Memory
    runs: int = 0  # that were ever made
    reference: Reference | None = None
    failed: tuple[str, ...] = ()  # why no run could be made since the last one that could
    channels: tuple[str, ...] = ()  # that the last run with any had
    noticed: tuple[str, ...] = ()  # lines that the last run noticed


NOTHING: Final = Past(Memory({}, {}))


def look_back(history: History) -> Past:
    """The past as the history tells it. Raises UserError, DamagedError, sqlite3.Error."""
    notes = (history.lines(name) for name in (_FAILED, _CHANNELS, _NOTICED))
    return Past(history.memory(), history.made(), last_good(history), *notes)


# --- a run ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assembled:
    """The report with its comparison, what is known now, and what is to be told."""

    report: Report
    memory: Memory
    alerts: tuple[Alert, ...]
    channels: tuple[str, ...]  # that the alerts are for: a run by hand without any leaves them to the next one with
    noticed: tuple[str, ...] = ()


def assemble(report: Report, past: Past, schedule: Schedule, noticed: Sequence[Change] = ()) -> Assembled:
    """One run, compared. `noticed`: further changes to tell (a history that was set aside)."""
    now = conditions(report)
    known, due = step(_same_place(past.memory.known, now), now, schedule.damping, past.runs)
    about = {**past.memory.about, **now.about}
    memory = Memory(known, {key: about[key] for key in known if key in about})
    told = [*_news(noticed, past), *tell(due, about)]
    told += _standing(memory, {move.key for move in due}, past, schedule)
    if past.failed:
        told.append(Change("recovered", f"recovered: runs can be made again (was: {past.failed[-1]})"))
    alerts = alerts_of(told, schedule.name, report.run.id, report.run.started or "")
    return Assembled(
        replace(report, canary=beside(schedule.name, past.reference, now, past.memory.known)),
        memory,
        alerts,
        schedule.listeners(past),
        tuple(change.line for change in noticed),
    )


def _news(noticed: Sequence[Change], past: Past) -> list[Change]:
    """A channel that cannot be had is told once."""
    return [change for change in noticed if change.line not in past.noticed]


def _standing(memory: Memory, told: Collection[str], past: Past, schedule: Schedule) -> list[Change]:
    """What a channel that is new here has not heard: paths that leak still. `told`: keys that this run tells of."""
    names = leaking(Memory({key: one for key, one in memory.known.items() if key not in told}, memory.about))
    if not names or set(schedule.channels) <= set(past.channels):
        return []
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return [Change("leak", f"LEAK: {names[0]}{more} got out before this channel was added, and was not told as closed")]


def _same_place(known: Mapping[str, Known], now: Conditions) -> Mapping[str, Known]:
    """Started through another launcher, the paths are another sandbox's: nothing was told of them yet."""
    before = known.get(STARTED)
    if before is None or STARTED not in now.values or before.recent[-1] == now.values[STARTED]:
        return known
    return {key: one for key, one in known.items() if sort_of(key) != "row"}


def alerts_of(told: Sequence[Change], name: str, run_id: str | None, time: str, first: int = 1) -> tuple[Alert, ...]:
    """What goes to the channels. The id is the same however often it is sent, and printable ASCII."""
    return tuple(
        Alert(
            schema=ALERT_SCHEMA,
            probe_type="egress_path_validation",
            id=f"{run_id or new_run_id(0)}-{number}",
            canary=name,
            run_id=run_id,
            time=time,
            severity=SEVERITY[change.kind],
            change=change,
        )
        for number, change in enumerate(told, first)
    )


def keep_run(history: History, done: Assembled, schedule: Schedule, started: float, seconds: float) -> None:
    """One transaction. Raises schema.DamagedError, sqlite3.Error."""
    report = done.report
    rows = shown(report.results)
    count = summarise(rows, "unproven", report.complete)
    run = Run(
        run_id=report.run.id,
        started=started,
        seconds=seconds,
        exit_code=report.summary.exit_code,
        complete=report.complete,
        good=report.complete and not count.leak and not count.overblocked,
        conforms=count.conforms,
        leak=count.leak,
        overblocked=count.overblocked,
        unproven=count.unproven,
        undeclared=count.undeclared,
        not_run=count.not_run,
    )
    # What the comparison said can be made again; the history holds what was seen.
    history.store(
        run,
        to_line(replace(report, canary=None)),
        {row.id: LETTERS[row.verdict] for row in rows},
        done.memory,
        done.alerts,
        done.channels,
        _notes((), done.channels, done.noticed),
        schedule.keep,
    )


# --- no run -----------------------------------------------------------------------------------------------------------


def failed_alerts(
    past: Past, schedule: Schedule, problem: str, noticed: Sequence[Change], now: float
) -> tuple[Alert, ...]:
    """What is told of a run that could not be made: once, until it can again or fails for another reason."""
    told = _news(noticed, past)
    if problem not in past.failed:
        told.append(Change("failed", f"failed: the run could not be made: {problem}"))
    return alerts_of(told, schedule.name, None, stamp(now))


def keep_failure(
    history: History,
    alerts: Sequence[Alert],
    past: Past,
    schedule: Schedule,
    problem: str,
    now: float,
    noticed: Sequence[Change] = (),
) -> None:
    """One transaction. Raises schema.DamagedError, sqlite3.Error."""
    run = Run(None, now, 0.0, 2, complete=False, good=False, problem=problem)
    problems = (*(one for one in past.failed if one != problem), problem)[-_MOST_PROBLEMS:]
    # A channel that is new is so in the next run as well: what leaks still it has not heard yet.
    notes = _notes(problems, past.channels, tuple(change.line for change in noticed))
    history.store(run, None, {}, None, alerts, schedule.listeners(past), notes, schedule.keep)


def _notes(problems: Sequence[str], channels: Sequence[str], noticed: Sequence[str]) -> dict[str, str]:
    notes = {_FAILED: problems, _CHANNELS: channels, _NOTICED: noticed}
    return {name: json.dumps(values) for name, values in notes.items()}

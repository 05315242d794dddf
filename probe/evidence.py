"""Evidence lines → Evidence. They are claims of an untrusted inside: each is checked, and what does not fit is said.

Missing, duplicate, foreign, malformed or self-contradictory lines never raise here; they become `problems`, which no
judgement turns into a green. A stored file is read with `strict`: there a line that is no record is the user's mistake.
"""

from collections.abc import Iterable
from dataclasses import replace

from probe.codec import DecodeError, decode, parse_json
from probe.contradictions import contradicts, is_network, is_time
from probe.documents import Calibration, End, Evidence, Plan, Record, Start
from probe.errors import UserError, one_line

LONGEST_LINE = 256 * 1024
_MOST_PROBLEMS = 20
# A sandbox that sends more lines than this per planned row is flooding.
_LINES_PER_CHECK = 4
# … or more than this: an honest row takes a few thousand characters.
_CHARACTERS_PER_CHECK = 32 * 1024
_CHARACTERS = 4 * 1024 * 1024

_MOST_TRIES = 100
_MOST_NETWORKS = 1024  # that are reached without a router

_SLACK = 1.0  # seconds: the end record is written after the last attempt

_KINDS: dict[str, type[Start | Calibration | Record | End]] = {
    "start": Start,
    "calibration": Calibration,
    "record": Record,
    "end": End,
}


def read_evidence(lines: Iterable[str], plan: Plan, strict: str | None = None) -> Evidence:
    """All lines, sorted. `strict` is the file's name: then a malformed or missing line raises UserError."""
    reader = Reader(plan, strict)
    for line in lines:
        if not reader.feed(line):
            break
    return reader.done()


class Reader:
    """Takes one line at a time; memory is bounded by the plan."""

    def __init__(self, plan: Plan, strict: str | None = None) -> None:
        self._plan = plan
        self._strict = strict
        self._checks = {check.n: check for check in plan.checks if check.skip is None}
        self._start: Start | None = None
        self._calibration: Calibration | None = None
        self._records: dict[int, Record] = {}
        self._end: End | None = None
        self._problems: list[str] = []
        self._spoiled: set[int] = set()
        self._lines = 0
        self._characters = 0
        self._latest = 0.0  # when the last attempt ended
        self._cut = "the agent died, or its output was cut"
        self._ended_badly: str | None = None

    def feed(self, line: str) -> bool:
        """One line, with or without its newline. False: enough, the rest need not be read."""
        self._lines += 1
        self._characters += len(line)
        rows = len(self._checks)
        most = _LINES_PER_CHECK * (rows + 10), _CHARACTERS + _CHARACTERS_PER_CHECK * rows
        if self._lines > most[0] or self._characters > most[1]:
            del self._problems[_MOST_PROBLEMS - 1 :]  # this one is told whatever came before it
            self._problem("far more than its rows need: the rest was not read")
            return False
        if line.strip():
            self._line(line)
        return True

    def explain(self, problem: str | None) -> None:
        """Why evidence may be missing, as a plain sentence."""
        self._cut = problem or self._cut
        self._ended_badly = problem

    def done(self) -> Evidence:
        """What was read, with what is missing as a problem."""
        if self._strict and (self._start is None or self._end is None):
            missing = "start" if self._start is None else "end"
            raise UserError(f"{self._strict}: truncated: no {missing} record in {self._lines} lines")
        if self._start is None:
            self._problem("no start record")
        if self._end is None:
            self._problem(f"no end record: {self._cut}")
        elif not is_time(self._end.elapsed):
            self._problem("the end record's time is none")
            self._end = replace(self._end, elapsed=0.0)
        elif self._latest > self._end.elapsed + _SLACK:
            self._problem("attempts that ended after the end")
        elif self._end.records != len(self._records) + len(self._spoiled - self._records.keys()):
            self._problem(f"{self._end.records} records were announced, {len(self._records)} came")
        if self._end is not None and not self._end.complete and self._ended_badly:
            self._problem(f"not all was done: {self._ended_badly}")
        return Evidence(
            start=self._start,
            calibration=self._calibration,
            records=self._records,
            end=self._end,
            problems=tuple(self._problems),
            spoiled=frozenset(self._spoiled),
        )

    def _problem(self, text: str) -> None:
        if len(self._problems) < _MOST_PROBLEMS:
            self._problems.append(text)

    def _line(self, line: str) -> None:
        where = f"{self._strict or 'evidence'}:{self._lines}"
        try:
            item = _decode(line, self._strict or "evidence", self._lines)
        except UserError as error:
            if self._strict:
                raise
            self._problem(str(error))
            return
        if self._end is not None:
            self._problem(f"{where}: a line after the end record")
        elif self._start is None and not isinstance(item, Start):
            self._problem(f"{where}: a line before the start record")
        elif isinstance(item, Record):
            self._record(item, where)
        else:
            self._frame(item, where)

    def _frame(self, item: Start | Calibration | End, where: str) -> None:
        if isinstance(item, Start):
            if self._start is not None:
                self._problem(f"{where}: a second start record")
            elif item.run_id != self._plan.run_id:
                self._problem(f"{where}: foreign: of run {one_line(item.run_id)[:40]}, not of {self._plan.run_id}")
            self._start = self._start or self._plausible(item, where)
        elif isinstance(item, Calibration):
            if not _plausible(item):
                self._problem(f"{where}: a calibration that is none")
            else:
                self._calibration = self._calibration or item
        else:
            self._end = item

    def _plausible(self, start: Start, where: str) -> Start:
        networks = start.vantage.on_link or ()
        if len(networks) <= _MOST_NETWORKS and all(is_network(text) for text in networks):
            return start
        self._problem(f"{where}: a local network that is none")
        return replace(start, vantage=replace(start.vantage, on_link=None))

    def _record(self, record: Record, where: str) -> None:
        check = self._checks.get(record.check)
        if check is None:
            self._problem(f"{where}: foreign: check {record.check} was not ordered")
            return
        contradiction = contradicts(check, record)
        if record.check in self._records:
            contradiction = "a second record for the same check"
        if contradiction is None:
            self._records[record.check] = record
            self._latest = max([self._latest, *(attempt.t + attempt.elapsed for attempt in record.attempts)])
            return
        self._spoiled.add(record.check)
        self._problem(f"{where}: {check.id}: {contradiction}")


def _plausible(item: Calibration) -> bool:
    lost = item.lost_answer
    return (
        is_time(item.deadline)
        and 0 <= item.missed <= item.samples
        and 1 <= item.tries <= _MOST_TRIES
        and (lost is None or 0 <= lost <= 1)  # nan and inf are neither
    )


def _decode(line: str, path: str, number: int) -> Start | Calibration | Record | End:
    where = f"{path}:{number}"
    if len(line) > LONGEST_LINE:
        raise UserError(f"{where}: longer than {LONGEST_LINE} characters")
    value = parse_json(line, path, number)
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UserError(f"{where}: not an evidence record")
    try:
        return decode(_KINDS[kind], value)
    except DecodeError as error:
        raise UserError(f"{where}: {error}") from None

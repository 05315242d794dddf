"""Evidence lines → Evidence. They are claims of an untrusted inside: each is checked, and what does not fit is said.

Missing, duplicate, foreign, malformed or self-contradictory lines never raise here; they become `problems`, which no
judgement turns into a green. A stored file is read with `strict`: there a line that is no record is the user's mistake.
"""

import math
from collections.abc import Iterable

from probe.codec import DecodeError, decode, parse_json
from probe.documents import Attempt, Calibration, Check, End, Evidence, Plan, Record, Start
from probe.errors import UserError, one_line

LONGEST_LINE = 256 * 1024
_MOST_PROBLEMS = 20
# A sandbox that sends more lines than this per planned row is flooding.
_LINES_PER_CHECK = 4

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

    def feed(self, line: str) -> bool:
        """One line, with or without its newline. False: enough, the rest need not be read."""
        self._lines += 1
        if self._lines > _LINES_PER_CHECK * (len(self._checks) + 10):
            self._problem("far more lines than rows: the rest was not read")
            return False
        if line.strip():
            self._line(line)
        return True

    def done(self) -> Evidence:
        """What was read, with what is missing as a problem."""
        if self._strict and (self._start is None or self._end is None):
            missing = "start" if self._start is None else "end"
            raise UserError(f"{self._strict}: truncated: no {missing} record in {self._lines} lines")
        if self._start is None:
            self._problem("no start record")
        if self._end is None:
            self._problem("no end record: the agent died, or its output was cut")
        elif self._end.records != len(self._records) + len(self._spoiled - self._records.keys()):
            self._problem(f"{self._end.records} records were announced, {len(self._records)} came")
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
            self._start = self._start or item
        elif isinstance(item, Calibration):
            self._calibration = self._calibration or item
        else:
            self._end = item

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
            return
        self._spoiled.add(record.check)
        self._problem(f"{where}: {check.id}: {contradiction}")


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


def contradicts(check: Check, record: Record) -> str | None:
    """Why `record` cannot be what happened to `check`, or None."""
    connected: set[str | None] = set()
    for attempt in record.attempts:
        problem = _impossible(attempt) or _elsewhere(check, attempt)
        if problem is None and attempt.step == "talk" and attempt.address not in connected:
            problem = "a conversation without a connection"
        if problem is not None:
            return problem
        if attempt.step == "connect" and attempt.result == "connected":
            connected.add(attempt.address)
    return None


def _impossible(attempt: Attempt) -> str | None:
    answered = attempt.result in ("answered", "connected")
    if not all(math.isfinite(value) and value >= 0 for value in (attempt.t, attempt.elapsed)):
        return "a time that is none"
    if answered and (attempt.error or attempt.icmp):
        return "answered and failed at once"
    if attempt.result == "error" and not attempt.error:
        return "failed without an error"
    if attempt.result == "silent" and (attempt.error or attempt.icmp or attempt.data or attempt.dns):
        return "silent and answered at once"
    if attempt.result == "answered" and not (attempt.data or attempt.dns or (attempt.tls and attempt.tls.handshake)):
        return "answered without an answer"
    return None


def _elsewhere(check: Check, attempt: Attempt) -> str | None:
    destination = check.destination
    if attempt.step in ("resolve", "listen"):
        return None
    if destination.address is not None and attempt.address != destination.address:
        return f"an attempt to {one_line(str(attempt.address))[:60]}, not to {destination.address}"
    if destination.port is not None and attempt.port not in (destination.port, None):
        return f"an attempt to port {attempt.port}, not to {destination.port}"
    asked = check.query
    if asked is not None and attempt.dns is not None:
        suffix = asked.name.replace("{token}", "").lower().rstrip(".")
        if attempt.dns.type != asked.type or not attempt.dns.name.lower().rstrip(".").endswith(suffix):
            return "an answer to another question"
    return None

"""Evidence lines → Evidence. They are claims of an untrusted inside: each is checked, and what does not fit is said.

Missing, duplicate, foreign, malformed or self-contradictory lines never raise here; they become `problems`, which no
judgement turns into a green. A stored file is read with `strict`: there a line that is no record is the user's mistake.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_network

from probe.codec import DecodeError, decode, parse_json
from probe.documents import Attempt, Calibration, Check, End, Evidence, Plan, Record, Start
from probe.errors import UserError, one_line

LONGEST_LINE = 256 * 1024
_MOST_PROBLEMS = 20
# A sandbox that sends more lines than this per planned row is flooding.
_LINES_PER_CHECK = 4

_LONGEST_RUN = 1e6  # seconds
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
        self._latest = 0.0  # when the last attempt ended

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
        elif not _is_time(self._end.elapsed):
            self._problem("the end record's time is none")
            self._end = replace(self._end, elapsed=0.0)
        elif self._latest > self._end.elapsed + _SLACK:
            self._problem("attempts that ended after the end")
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
            if not _is_time(item.deadline) or item.samples < 0:
                self._problem(f"{where}: a calibration that is none")
            else:
                self._calibration = self._calibration or item
        else:
            self._end = item

    def _plausible(self, start: Start, where: str) -> Start:
        networks = start.vantage.on_link or ()
        if all(_is_network(text) for text in networks):
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


# What each technique may do, and over which transport. A record that does anything else is no record of it.
_TCP_STEPS = {"resolve": "udp", "connect": "tcp", "talk": "tcp", "hop1": "tcp"}
_STEPS: dict[str, dict[str, str]] = {
    "tcp_connect": _TCP_STEPS,
    "http_get": _TCP_STEPS,
    "tls_hello": _TCP_STEPS,
    "udp_datagram": {"resolve": "udp", "send": "udp", "hop1": "udp"},
    "dns_query": {"query": "any"},
}
_RESULTS: dict[str, tuple[str, ...]] = {
    "listen": ("error",),
    "resolve": ("answered", "silent", "error"),
    "connect": ("connected", "silent", "error"),
    "hop1": ("connected", "answered", "silent", "error"),
    "talk": ("answered", "silent", "error"),
    "send": ("answered", "silent", "error"),
    "query": ("answered", "connected", "silent", "error"),
}
# Techniques that may say that they cannot run. None yet: all of them need a plain socket only.
_MAY_NOT_RUN: frozenset[str] = frozenset()


def contradicts(check: Check, record: Record) -> str | None:
    """Why `record` cannot be what happened to `check`, or None."""
    if record.not_run is not None and (record.attempts or check.technique not in _MAY_NOT_RUN):
        return "not run, by a technique that always can"
    seen: set[tuple[str, str | None, bool]] = set()
    connected: set[tuple[str | None, bool]] = set()
    for attempt in record.attempts:
        problem = _impossible(attempt) or _not_ours(check, attempt) or _elsewhere(check, attempt)
        place = (attempt.step, attempt.address, attempt.again)
        if problem is None and attempt.step in ("connect", "send", "hop1") and place in seen:
            problem = "the same attempt twice"
        if problem is None and attempt.step == "talk" and (attempt.address, attempt.again) not in connected:
            problem = "a conversation without a connection"
        if problem is not None:
            return problem
        seen.add(place)
        if attempt.step == "connect" and attempt.result == "connected":
            connected.add((attempt.address, attempt.again))
    return None


def _impossible(attempt: Attempt) -> str | None:
    """Facts that exclude each other, whatever the technique."""
    answered = attempt.result in ("answered", "connected")
    brought = attempt.data is not None or attempt.dns is not None or bool(attempt.tls and attempt.tls.handshake)
    addresses = (attempt.address, attempt.source, attempt.icmp.offender if attempt.icmp else None)
    table = (
        (not all(_is_time(value) for value in (attempt.t, attempt.elapsed)), "a time that is none"),
        (not all(_is_address(text) for text in addresses), "an address that is none"),
        (answered and bool(attempt.error or attempt.icmp), "answered and failed at once"),
        (attempt.result == "error" and not attempt.error, "failed without an error"),
        (attempt.result == "error" and brought, "failed and answered at once"),
        (attempt.result == "error" and attempt.stage is None and attempt.step != "listen", "failed nowhere"),
        (attempt.result == "silent" and bool(attempt.error or attempt.icmp or brought), "silent and answered at once"),
        (attempt.result == "answered" and not brought, "answered without an answer"),
        (attempt.data is not None and attempt.data.bytes < 1, "an answer without bytes"),
        (attempt.routed is not None and attempt.error != "EADDRNOTAVAIL", "a route that was not looked up"),
        (attempt.tries < (1 if attempt.result != "error" else 0), "never tried"),
    )
    return next((problem for wrong, problem in table if wrong), None)


def _is_time(value: float) -> bool:
    return math.isfinite(value) and 0 <= value <= _LONGEST_RUN


def _is_address(text: str | None) -> bool:
    if text is None:
        return True
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _not_ours(check: Check, attempt: Attempt) -> str | None:
    """Whether the check's technique does such a thing."""
    if attempt.result not in _RESULTS[attempt.step]:
        return f"a step {attempt.step} that is {attempt.result}"
    if attempt.step == "listen":
        return None if check.self_test is not None else "a listener that was not ordered"
    transport = _STEPS[check.technique].get(attempt.step)
    if check.query is not None and transport == "any":
        transport = check.query.transport.value
    if transport != attempt.transport.value or (attempt.step == "resolve" and check.destination.host is None):
        return f"a step {attempt.step} over {attempt.transport.value}, which {check.technique} does not take here"
    return None


def _elsewhere(check: Check, attempt: Attempt) -> str | None:
    destination = check.destination
    if attempt.step == "resolve":
        return None
    if destination.address is not None and attempt.address != destination.address:
        return f"an attempt to {one_line(str(attempt.address))[:60]}, not to {destination.address}"
    if attempt.step != "listen" and attempt.port is None:
        return "an attempt to no port"
    if destination.port is not None and attempt.port not in (destination.port, None):
        return f"an attempt to port {attempt.port}, not to {destination.port}"
    asked = check.query
    if asked is not None and attempt.dns is not None:
        suffix = asked.name.replace("{token}", "").lower().rstrip(".")
        if attempt.dns.type != asked.type or not attempt.dns.name.lower().rstrip(".").endswith(suffix):
            return "an answer to another question"
    return None

"""What a history holds, read: runs, reports, timelines, what is known. Order is by number, never by clock."""

import json
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from probe.conditions.nouns import About
from probe.damping import Known
from probe.drift.moves import is_known
from probe.errors import UserError
from probe.history import schema
from probe.history.packing import PackingError, unpack


@dataclass(frozen=True, slots=True)
class Run:
    """One run as the history lists it. `problem`: why there is no report; `good`: complete, no leak, no over-block."""

    run_id: str | None
    started: float  # seconds since 1970
    seconds: float
    exit_code: int
    complete: bool
    good: bool
    problem: str | None = None
    conforms: int = 0
    leak: int = 0
    overblocked: int = 0
    unproven: int = 0
    undeclared: int = 0
    not_run: int = 0
    number: int = 0  # given by the history


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of each key, and the words for it."""

    known: dict[str, Known]
    about: dict[str, About]


ANY: Final = 1 << 62  # beyond every run's number
_LATEST: Final = 1e11  # seconds since 1970: beyond the year 5000
NAMES: Final = [field.name for field in fields(Run)]
_COLUMNS: Final = ", ".join(NAMES)
_LIST: Final = f"SELECT {_COLUMNS} FROM runs"  # noqa: S608 - our own names


class Reading:
    """The open file."""

    def __init__(self, path: Path, database: sqlite3.Connection, read_only: bool) -> None:
        self.path = path
        self._db = database
        self._read_only = read_only

    def runs(self, most: int = -1, since: float = 0.0) -> list[Run]:
        """The newest `most` runs (-1: all) that started at `since` or later, oldest first."""
        rows = self.rows(f"{_LIST} WHERE started >= ? ORDER BY number DESC LIMIT ?", since, most)
        return [self._run(row) for row in reversed(rows)]

    def made(self) -> int:
        """How many runs there ever were."""
        rows = self.rows("SELECT seq FROM sqlite_sequence WHERE name = 'runs'")
        return rows[0][0] if rows and isinstance(rows[0][0], int) else 0

    def reference(self, before: int = ANY) -> Run | None:
        """The last known good run of those before number `before`; where there is none, the last complete one."""
        for condition in ("good", "complete"):
            chosen = f"{condition} AND body IS NOT NULL AND number < ?"
            rows = self.rows(f"{_LIST} WHERE {chosen} ORDER BY number DESC LIMIT 1", before)
            if rows:
                return self._run(rows[0])
        return None

    def find(self, word: str) -> Run:
        """The run by its number, its id or the beginning of it, `last`, or `last~1` for the last but one.

        Raises UserError.
        """
        if back := re.fullmatch(r"last(?:~([0-9]{1,9}))?", word):
            rows = self.rows(f"{_LIST} ORDER BY number DESC LIMIT 1 OFFSET ?", int(back[1] or 0))
        elif re.fullmatch(r"[1-9][0-9]{0,17}", word):
            rows = self.rows(f"{_LIST} WHERE number = ?", int(word))
        elif re.fullmatch(r"[0-9A-Za-z]{1,26}", word):
            begin = word.upper()
            rows = self.rows(f"{_LIST} WHERE run_id >= ? AND run_id < ? LIMIT 2", begin, begin + "~")
        else:
            rows = []
        if len(rows) != 1:
            raise UserError(f"{word}: {'more than one' if rows else 'no such'} run (egress-probe canary history)")
        return self._run(rows[0])

    def report(self, run: Run) -> str:
        """The run's report as JSON. Raises UserError where there is none, or it is damaged."""
        ((body, dictionary),) = self.rows(
            "SELECT r.body, d.body FROM runs r LEFT JOIN dictionaries d ON d.id = r.dictionary WHERE number = ?",
            run.number,
        )
        if not isinstance(body, bytes):
            raise UserError(f"run {run.number}: has no report: {run.problem}")
        try:
            return unpack(body, unpack(bytes(dictionary or b""))).decode()
        except (PackingError, UnicodeDecodeError) as error:
            raise UserError(f"{self.path}: the report of run {run.number} is damaged: {error}") from None

    def timeline(self, runs: Sequence[Run]) -> dict[str, str]:
        """Path → one letter per run (`.`: not in it)."""
        found: dict[str, list[str]] = {}
        place = {run.number: index for index, run in enumerate(runs)}
        if not place:
            return {}
        query = "SELECT run, p.path, letter FROM verdicts v JOIN paths p ON p.id = v.path WHERE run >= ? AND run <= ?"
        for number, path, letter in self.rows(query, min(place), max(place)):
            if number in place:
                found.setdefault(path, ["."] * len(runs))[place[number]] = letter
        return {path: "".join(letters) for path, letters in found.items()}

    def memory(self) -> Memory:
        """What was told and seen of each key."""
        rows = [row for row in self.rows("SELECT key, told, recent, about FROM known") if is_known(row[0])]
        try:
            return Memory(
                {key: _known(told, json.loads(recent)) for key, told, recent, _ in rows},
                {key: _about(_texts(json.loads(about))) for key, _, _, about in rows},
            )
        except (ValueError, TypeError, RecursionError) as error:
            raise self._damaged(f"what is known cannot be read: {error}") from None

    def lines(self, name: str) -> tuple[str, ...]:
        """A list of short texts by name; empty where there is none."""
        rows = self.rows("SELECT value FROM notes WHERE name = ?", name)
        try:
            return tuple(map(str, _texts(json.loads(rows[0][0])))) if rows else ()
        except (ValueError, TypeError, RecursionError) as error:
            raise self._damaged(f"a note cannot be read: {error}") from None

    def rows(self, query: str, *values: object) -> list[Any]:
        """What a query of ours gives. Raises UserError (a reader), DamagedError or sqlite3.Error (the writer)."""
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._as_told(error) from None

    def _run(self, row: Sequence[Any]) -> Run:
        values = dict(zip(NAMES, row, strict=True))
        times = values["started"], values["seconds"]
        if not all(isinstance(one, float) and 0 <= one < _LATEST for one in times):
            raise self._damaged("a run's time is none")
        return Run(**{**values, "complete": bool(values["complete"]), "good": bool(values["good"])})

    def _damaged(self, problem: str) -> Exception:
        return (
            UserError(f"{self.path}: the history is damaged: {problem}")
            if self._read_only
            else schema.DamagedError(problem)
        )

    def _as_told(self, error: sqlite3.Error) -> BaseException:
        """A reader gets one line; the writer must know whether the file is damaged or only locked."""
        if self._read_only:
            return UserError(f"{self.path}: the history cannot be read: {error}")
        return schema.damaged(error)


def _known(told: object, recent: object) -> Known:
    """Raises ValueError, TypeError."""
    words = _texts(recent)
    if not (told is None or isinstance(told, str)) or not words or None in words:
        raise ValueError("a word that is none")
    return Known(told, tuple(map(str, words)))


def _about(texts: list[str | None]) -> About:
    """Raises TypeError, ValueError."""
    name, *more = texts
    return About(name or "?", *more)


def _texts(value: object) -> list[str | None]:
    """Raises TypeError."""
    if not isinstance(value, list) or not all(one is None or isinstance(one, str) for one in value):
        raise TypeError("expected a list of texts")
    return value

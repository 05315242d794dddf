"""Runs on disk: all reading and writing of a history. A run is one transaction; order is by number, never by clock."""

import json
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Final

from probe.alert import Alert
from probe.codec import to_line
from probe.conditions import About
from probe.damping import Known
from probe.drift.moves import is_known
from probe.errors import UserError
from probe.history import schema
from probe.history.packing import PackingError, is_alike, pack, unpack

KEEP: Final = 2000  # runs
LARGEST: Final = 1 << 30  # bytes; beyond it the older half of the runs is forgotten
_EVERY: Final = 100  # runs that one dictionary serves at most


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


_NAMES: Final = [field.name for field in fields(Run)]
_COLUMNS: Final = ", ".join(_NAMES)
_LIST: Final = f"SELECT {_COLUMNS} FROM runs"  # noqa: S608 - our own names
_INSERT: Final = f"""INSERT INTO runs ({", ".join(_NAMES[:-1])}, dictionary, body)
  VALUES ({"?, " * (len(_NAMES) - 1)}?, ?)"""  # noqa: S608 - our own names


class History:
    """The open file. `read_only`: for everybody but the one who holds the lock."""

    def __init__(self, path: Path, read_only: bool = False, largest: int = LARGEST) -> None:
        """`largest`: bytes. Raises UserError, schema.DamagedError, sqlite3.Error (the last two: the writer only)."""
        self.path = path
        self._read_only = read_only
        self._largest = largest
        self._db = schema.open_reader(path) if read_only else schema.open_writer(path)

    def __enter__(self) -> "History":
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    # --- reading ------------------------------------------------------------------------------------------------------

    def runs(self, most: int = -1, since: float = 0.0) -> list[Run]:
        """The newest `most` runs (-1: all) that started at `since` or later, oldest first."""
        rows = self.rows(f"{_LIST} WHERE started >= ? ORDER BY number DESC LIMIT ?", since, most)
        return [_run(row) for row in reversed(rows)]

    def made(self) -> int:
        """How many runs there ever were."""
        rows = self.rows("SELECT seq FROM sqlite_sequence WHERE name = 'runs'")
        return int(rows[0][0]) if rows else 0

    def reference(self, before: int = 1 << 62) -> Run | None:
        """The last known good run of those before number `before`; where there is none, the last complete one."""
        for condition in ("good", "complete"):
            chosen = f"{condition} AND body IS NOT NULL AND number < ?"
            rows = self.rows(f"{_LIST} WHERE {chosen} ORDER BY number DESC LIMIT 1", before)
            if rows:
                return _run(rows[0])
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
        return _run(rows[0])

    def report(self, run: Run) -> str:
        """The run's report as JSON. Raises UserError where there is none, or it is damaged."""
        ((body, dictionary),) = self.rows(
            "SELECT r.body, d.body FROM runs r LEFT JOIN dictionaries d ON d.id = r.dictionary WHERE number = ?",
            run.number,
        )
        if body is None:
            raise UserError(f"run {run.number}: has no report: {run.problem}")
        try:
            return unpack(body, unpack(dictionary or b"")).decode()
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
                {key: Known(told, tuple(json.loads(recent))) for key, told, recent, _ in rows},
                {key: About(*json.loads(about)) for key, _, _, about in rows},
            )
        except (ValueError, TypeError) as error:
            raise self._damaged(f"what is known cannot be read: {error}") from None

    def note(self, name: str) -> str | None:
        """A small value by name."""
        rows = self.rows("SELECT value FROM notes WHERE name = ?", name)
        return str(rows[0][0]) if rows else None

    def rows(self, query: str, *values: object) -> list[Any]:
        """What a query of ours gives. Raises UserError (a reader), DamagedError or sqlite3.Error (the writer)."""
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._as_told(error) from None

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

    # --- writing ------------------------------------------------------------------------------------------------------

    def store(
        self,
        run: Run,
        report: str | None,
        letters: Mapping[str, str],
        memory: Memory | None,
        alerts: Sequence[Alert],
        channels: Sequence[str],
        notes: Mapping[str, str] | None = None,
        keep: int = KEEP,
    ) -> None:
        """One run, with all that follows from it, or nothing. Raises schema.DamagedError, sqlite3.Error."""
        with self.writing() as database:
            dictionary, body = (None, None) if report is None else self._packed(report.encode())
            number = database.execute(_INSERT, (*astuple(run)[:-1], dictionary, body)).lastrowid
            database.executemany("INSERT OR IGNORE INTO paths (path) VALUES (?)", [(path,) for path in letters])
            database.executemany(
                "INSERT INTO verdicts SELECT ?, id, ? FROM paths WHERE path = ?",
                [(number, letter, path) for path, letter in letters.items()],
            )
            if memory is not None:
                database.execute("DELETE FROM known")
                database.executemany("INSERT INTO known VALUES (?, ?, ?, ?)", _remembered(memory))
            for alert in alerts:
                values = (number, alert.change.kind, to_line(alert))
                row = database.execute("INSERT INTO alerts (run, kind, alert) VALUES (?, ?, ?)", values).lastrowid
                database.executemany(
                    "INSERT INTO deliveries (alert, channel) VALUES (?, ?)", [(row, name) for name in channels]
                )
            database.executemany("INSERT OR REPLACE INTO notes VALUES (?, ?)", (notes or {}).items())
            self._prune("number <= (SELECT max(number) FROM runs) - ?", keep)
            if _size(database) > self._largest:  # the inside decides how much it says
                self._prune("number <= (SELECT avg(number) FROM runs) - ?", 0)

    def prune(self, keep: int | None = None, before: float | None = None) -> int:
        """Forget runs beyond the newest `keep`, or started before `before`; how many. Never the reference."""
        with self.writing() as database:
            count = 0 if keep is None else self._prune("number <= (SELECT max(number) FROM runs) - ?", keep)
            count += 0 if before is None else self._prune("started < ?", before)
            database.execute("DELETE FROM paths WHERE id NOT IN (SELECT path FROM verdicts)")
        self._db.execute("VACUUM")
        return count

    def _prune(self, condition: str, value: float) -> int:
        """Never what the next run is compared with, nor what others need to be read."""
        reference = self.reference()
        chosen = f"SELECT number FROM runs WHERE {condition} AND number != ?"  # noqa: S608 - our own words
        gone = self._db.execute(chosen, (value, 0 if reference is None else reference.number)).fetchall()
        if gone:
            for table in ("verdicts WHERE run", "runs WHERE number"):
                self._db.executemany(f"DELETE FROM {table} = ?", gone)  # noqa: S608 - our own words
            still = "EXISTS (SELECT 1 FROM deliveries WHERE alert = alerts.id)"
            self._db.executemany(f"DELETE FROM alerts WHERE run = ? AND NOT {still}", gone)  # noqa: S608
            used = "SELECT dictionary FROM runs WHERE dictionary IS NOT NULL"
            self._db.execute(f"DELETE FROM dictionaries WHERE id NOT IN ({used})")  # noqa: S608
        return len(gone)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction. Raises schema.DamagedError, sqlite3.Error."""
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
        except sqlite3.Error as error:
            raise schema.damaged(error) from None

    def _packed(self, text: bytes) -> tuple[int, bytes]:
        """Dictionary and body. The first report of each dictionary is the dictionary."""
        row = self._db.execute(
            "SELECT id, body, (SELECT count(*) FROM runs WHERE dictionary = d.id) FROM dictionaries d "
            "ORDER BY id DESC LIMIT 1"
        ).fetchone()
        if row is not None and row[2] < _EVERY:
            try:
                content = unpack(row[1])
            except PackingError as error:
                raise schema.DamagedError(str(error)) from None
            body = pack(text, content)
            if is_alike(body, row[1]):
                return row[0], body
        number = self._db.execute("INSERT INTO dictionaries (body) VALUES (?)", (pack(text),)).lastrowid
        assert number is not None
        return number, pack(text, text)


def _size(database: sqlite3.Connection) -> int:
    used, free, page = (
        int(database.execute(f"PRAGMA {what}").fetchone()[0]) for what in ("page_count", "freelist_count", "page_size")
    )
    return (used - free) * page


def _run(row: Sequence[object]) -> Run:
    values = dict(zip(_NAMES, row, strict=True))
    return Run(**{**values, "complete": bool(values["complete"]), "good": bool(values["good"])})  # type: ignore[arg-type]


def _remembered(memory: Memory) -> Iterator[tuple[str, str | None, str, str]]:
    for key, one in memory.known.items():
        yield key, one.told, json.dumps(one.recent), json.dumps(astuple(memory.about.get(key, About("?"))))


def now() -> float:
    """Seconds since 1970."""
    return time.time()

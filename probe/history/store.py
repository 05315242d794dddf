"""Runs on disk: all writing of a history. A run, and what follows from it, is one transaction."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Final

from probe.alert import Alert
from probe.codec import to_line
from probe.conditions.nouns import About
from probe.history import schema
from probe.history.packing import PackingError, is_alike, pack, unpack
from probe.history.reading import NAMES, Memory, Reading, Run

KEEP: Final = 2000  # runs
LARGEST: Final = 1 << 30  # bytes; beyond it the older half of the runs is forgotten
_EVERY: Final = 100  # runs that one dictionary serves at most


_INSERT: Final = f"""INSERT INTO runs ({", ".join(NAMES[:-1])}, dictionary, body)
  VALUES ({"?, " * (len(NAMES) - 1)}?, ?)"""  # noqa: S608 - our own names


class History(Reading):
    """The open file. `read_only`: for everybody but the one who holds the lock."""

    def __init__(self, path: Path, read_only: bool = False, largest: int = LARGEST) -> None:
        """`largest`: bytes. Raises UserError, schema.DamagedError, sqlite3.Error (the last two: the writer only)."""
        super().__init__(path, schema.open_reader(path) if read_only else schema.open_writer(path), read_only)
        self._largest = largest

    def __enter__(self) -> "History":
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

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


def _remembered(memory: Memory) -> Iterator[tuple[str, str | None, str, str]]:
    for key, one in memory.known.items():
        yield key, one.told, json.dumps(one.recent), json.dumps(astuple(memory.about.get(key, About("?"))))

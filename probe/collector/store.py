"""The arrivals on disk: one SQLite file in WAL mode, bounded in rows, age and size. All reading and writing of it.

With `synchronous=NORMAL` a commit is in the kernel's hands when it returns: it survives the death of this process at
any moment (kill -9). A power cut may lose the last moments, never the file. What could not be written counts as lost.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path

from probe.collector import schema
from probe.documents import Arrival, Reachable
from probe.errors import UserError
from probe.model import Transport

ROWS = 100_000  # of one run
RETENTION = 7 * 86_400.0  # seconds after registration
SIZE = 1 << 30  # bytes of the file; its WAL adds a few MiB

_FIELDS = tuple(field.name for field in fields(Arrival))
_values = attrgetter(*_FIELDS)
_COLUMNS = ", ".join(f'"{name}"' for name in _FIELDS)
_INSERT = f"INSERT INTO arrivals (run, n, {_COLUMNS}) VALUES (?, ?{', ?' * len(_FIELDS)})"  # noqa: S608 - our own names
_SELECT = f"SELECT {_COLUMNS} FROM arrivals WHERE run = ? ORDER BY n"  # noqa: S608 - our own names
_COUNTED = "SELECT run_id, id, (SELECT coalesce(max(n) + 1, 0) FROM arrivals WHERE run = id) FROM runs"
_REGISTER = """INSERT INTO runs (run_id, key, registered, expires) VALUES (?, ?, ?, ?) ON CONFLICT (run_id)
  DO UPDATE SET expires = max(expires, excluded.expires), watched = 0 WHERE key = excluded.key"""
_REGISTERED = "SELECT id, key, expires FROM runs WHERE run_id = ?"
_WATCHED = "UPDATE runs SET watched = 1 WHERE watched = 0 AND expires <= ?"
_OLDEST = "SELECT id, run_id FROM runs WHERE watched = 1 AND registered < ? ORDER BY registered LIMIT 1"
_LOST = "UPDATE runs SET lost = lost + ? WHERE id = ?"
_SEEN = """INSERT INTO reachable VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET last = max(last, excluded.last)"""
_REACHABLE = "SELECT transport, version, port, last FROM reachable"


class StoreError(Exception):
    """The file could not be read or written just now; nothing was changed. It may work again later."""


@dataclass(frozen=True, slots=True)
class Story:
    """What the store holds of one run, and where valid tokens of whatever run have arrived."""

    registered: float
    arrivals: tuple[Arrival, ...]
    reachable: tuple[Reachable, ...]
    lost: int


@dataclass(slots=True)
class _Run:
    id: int
    rows: int


# Between recognising a token and storing its arrival, its run may be purged.
_PURGED = _Run(0, 0)


class Store:
    """The open file. Its methods may be called from any thread; one works at a time."""

    def __init__(
        self,
        path: Path,
        retention: float = RETENTION,
        rows: int = ROWS,
        size: int = SIZE,
        now: float | None = None,
        own: Collection[str] = (),
    ) -> None:
        """Open or make the file. Raises UserError for one that is not ours to use.

        `own`: addresses of this very host. What comes from there does not show that a port can be reached.

        A run that was not over when the last collector ended counts as having lost an arrival: nobody knows what was
        sent while nobody listened.
        """
        self._retention, self._rows, self._own = retention, rows, frozenset(own)
        self._mutex = threading.Lock()
        self._lost: dict[int, int] = {}  # by run; not on disk yet
        self._file = schema.lock_file(path)
        try:
            self._db = schema.open_database(path, size)
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.execute("UPDATE runs SET lost = lost + 1 WHERE watched = 0")
                self._db.execute(_WATCHED, (time.time() if now is None else now,))
            self._runs = {run_id: _Run(number, rows) for run_id, number, rows in self._db.execute(_COUNTED)}
        except sqlite3.Error as error:
            os.close(self._file)
            raise UserError(f"{path}: cannot be used as the collector's database: {error}") from None
        except UserError:
            os.close(self._file)
            raise

    def close(self) -> None:
        """Write the WAL back and let go of the file."""
        with self._mutex:
            self._db.close()
            os.close(self._file)

    def unexpired(self, now: float) -> list[tuple[str, bytes, float]]:
        """Run id, key and expiry of the runs that are not over. Raises StoreError."""
        with self._transaction() as database:
            return database.execute("SELECT run_id, key, expires FROM runs WHERE expires > ?", (now,)).fetchall()

    def key(self, run_id: str) -> bytes | None:
        """The key of a run, None for an unknown one. Raises StoreError."""
        with self._transaction() as database:
            row = database.execute("SELECT key FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        return None if row is None else bytes(row[0])

    def register(self, run_id: str, key: bytes, now: float, seconds: float) -> float | None:
        """When the run expires; None if it is known with another key. Raises StoreError."""
        expires = now + min(max(seconds, 0.0), self._retention)
        with self._transaction() as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute(_REGISTER, (run_id, key, now, expires))
            number, known, expires = database.execute(_REGISTERED, (run_id,)).fetchone()
        if known != key:
            return None
        self._runs.setdefault(run_id, _Run(number, 0))
        return float(expires)

    def append(self, arrivals: Sequence[tuple[str, Arrival]]) -> list[bool]:
        """Which of them were committed, in one transaction. One that was not counts as lost for its run."""
        with self._mutex:
            rows, grown, kept, seen = [], dict[str, int](), [], dict[tuple[str, int, int], float]()
            for run_id, arrival in arrivals:
                run = self._runs.get(run_id, _PURGED)
                n = grown.get(run_id, run.rows)
                kept.append(n < self._rows and run is not _PURGED)
                if kept[-1]:
                    rows.append((run.id, n, *_values(arrival)))
                    grown[run_id] = n + 1
                    if arrival.source not in self._own:
                        seen[_place(arrival)] = arrival.time
                else:
                    self._lost[run.id] = self._lost.get(run.id, 0) + 1
            if not self._write(rows, [(*place, last) for place, last in seen.items()]):
                for row in rows:
                    self._lost[row[0]] = self._lost.get(row[0], 0) + 1
                return [False] * len(kept)
            for run_id, n in grown.items():
                self._runs[run_id].rows = n
            return kept

    def read(self, run_id: str) -> Story | None:
        """What is known of a run, None for an unknown one. Raises StoreError."""
        with self._transaction() as database:
            database.execute("BEGIN")
            row = database.execute("SELECT id, registered, lost FROM runs WHERE run_id = ?", (run_id,)).fetchone()
            if row is None:
                return None
            number, registered, lost = row
            found = database.execute(_SELECT, (number,)).fetchall()
            ports = database.execute(_REACHABLE).fetchall()
            lost += self._lost.get(number, 0)
        # Made after the file was let go: a hundred thousand arrivals take longer to make than to read.
        arrivals = tuple(Arrival(*values) for values in found)
        return Story(registered, arrivals, tuple(Reachable(Transport(over), *rest) for over, *rest in ports), lost)

    def purge(self, now: float) -> None:
        """Note which runs are over, and forget those older than the retention. What fails is tried later."""
        with suppress(StoreError):
            with self._transaction() as database:
                database.execute(_WATCHED, (now,))
            while True:
                with self._mutex:
                    if not self._forget_oldest(now - self._retention):
                        return

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._mutex:
            try:
                with self._db:
                    yield self._db
            except sqlite3.Error as error:
                raise StoreError(str(error)) from None

    def _write(self, rows: Sequence[tuple[object, ...]], seen: Sequence[tuple[object, ...]]) -> bool:
        while True:
            try:
                with self._db:
                    self._db.execute("BEGIN IMMEDIATE")
                    self._db.executemany(_LOST, [(count, run) for run, count in self._lost.items()])
                    self._db.executemany(_INSERT, rows)
                    self._db.executemany(_SEEN, seen)
            except sqlite3.Error as error:
                full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
                if not full or not self._make_room({row[0] for row in rows}):
                    return False
            else:
                self._lost.clear()
                return True

    def _make_room(self, needed: Collection[object]) -> bool:
        # A full disk is not our doing: to purge for it would throw runs away and may help nobody.
        try:
            return schema.is_at_cap(self._db) and self._forget_oldest(float("inf"), needed)
        except sqlite3.Error:
            return False

    def _forget_oldest(self, before: float, needed: Collection[object] = ()) -> bool:
        # Never one that is still going on (nothing-arrived would be believed of it), nor one that is being written.
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                row = self._db.execute(_OLDEST, (before,)).fetchone()
                if row is None or row[0] in needed:
                    return False
                self._db.execute("DELETE FROM arrivals WHERE run = ?", row[:1])
                self._db.execute("DELETE FROM runs WHERE id = ?", row[:1])
        except sqlite3.Error:
            return False
        self._runs.pop(row[1], None)
        self._lost.pop(row[0], None)
        return True


def _place(arrival: Arrival) -> tuple[str, int, int]:
    transport = Transport.UDP if arrival.over == "udp" else Transport.TCP
    return transport.value, 6 if ":" in arrival.source else 4, arrival.at

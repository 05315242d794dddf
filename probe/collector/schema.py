"""The database file: its tables, its version, and which files are refused. SQL that shapes it stands only here."""

import fcntl
import os
import sqlite3
from pathlib import Path

from probe.errors import UserError

_APPLICATION = 0x65677072  # "egpr" in the file's header, so that no other program's database is taken for ours
_VERSION = 1
_PAGE = 4096
_WAL_LEFT = 16 << 20  # bytes that the WAL keeps after it was written back
_SLACK = 16  # pages: a tree that grows needs more than one at a time
_WAIT = 1.0  # seconds for somebody else's lock on the file (an operator's own query)

# `watched`: 1 when the collector listened until the run expired. `n` counts a run's rows, so that the primary key keeps
# a run's arrivals together in the order in which they came: no second index, and cheap to append, read and purge.
_TABLES = """
CREATE TABLE runs (
  id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL UNIQUE, key BLOB NOT NULL,
  registered REAL NOT NULL, expires REAL NOT NULL, watched INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE arrivals (
  run INTEGER NOT NULL REFERENCES runs (id), n INTEGER NOT NULL,
  "check" INTEGER NOT NULL, time REAL NOT NULL, channel TEXT NOT NULL, over TEXT NOT NULL, source TEXT NOT NULL,
  port INTEGER NOT NULL, at INTEGER NOT NULL, type TEXT, name TEXT, syn TEXT,
  PRIMARY KEY (run, n)
) WITHOUT ROWID;
CREATE TABLE reachable (
  transport TEXT NOT NULL, version INTEGER NOT NULL, port INTEGER NOT NULL, last REAL NOT NULL,
  PRIMARY KEY (transport, version, port)
) WITHOUT ROWID;
"""


def lock_file(path: Path) -> int:
    """A descriptor that keeps every other collector away from the file, made with mode 600. Raises UserError.

    It must be closed after the database: closing any descriptor of a file drops SQLite's own locks on it (fcntl(2)).
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UserError(f"{path}: the collector's database cannot be opened: {error.strerror}") from None
    problem = _problem(file)
    if problem is not None:
        os.close(file)
        raise UserError(f"{path}: {problem}")
    return file


def _problem(file: int) -> str | None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        header = os.pread(file, 100, 0)
        # Read without SQLite, which would write to whatever it opens in WAL mode. An empty file is new, zeros are what
        # a kill leaves while it is made; else the application id stands at offset 68. https://www.sqlite.org/fileformat.html
        ours = header.startswith(b"SQLite format 3\0") and header[68:72] == _APPLICATION.to_bytes(4, "big")
        if header.strip(b"\0") and not ours:
            return "is no database of the collector's (expected one that it made, or no file)"
        os.fchmod(file, 0o600)  # it holds keys; SQLite gives the WAL the same mode
    except BlockingIOError:
        return "another collector uses it"
    except OSError as error:
        return f"the collector's database cannot be used: {error.strerror}"
    return None


def open_database(path: Path, size: int) -> sqlite3.Connection:
    """The open database, at most `size` bytes. Raises UserError (a newer version) or sqlite3.Error."""
    database = sqlite3.connect(path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
    try:
        _set_up(database, path, size)
    except (sqlite3.Error, UserError):
        database.close()
        raise
    return database


def is_at_cap(database: sqlite3.Connection) -> bool:
    """Whether the file's own cap, not the disk, is what stops it from growing."""
    used, free, most = (
        database.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "freelist_count", "max_page_count")
    )
    return bool(used - free + _SLACK >= most)


def _set_up(database: sqlite3.Connection, path: Path, size: int) -> None:
    found = database.execute("PRAGMA user_version").fetchone()[0]
    if found > _VERSION:
        raise UserError(f"{path}: was made by a newer version (schema {found}, expected at most {_VERSION})")
    database.execute(f"PRAGMA page_size = {_PAGE}")
    if found == 0:  # before there is a WAL, so that our mark is in the file itself however soon this process is killed
        mark = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_VERSION};"
        database.executescript(f"BEGIN IMMEDIATE; {mark} {_TABLES} COMMIT;")
    if database.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise UserError(f"{path}: its file system cannot do what SQLite's WAL needs")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute(f"PRAGMA journal_size_limit = {_WAL_LEFT}")
    database.execute(f"PRAGMA max_page_count = {max(1, size // _PAGE)}")

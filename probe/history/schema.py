"""The history file: its tables, its version, which files are refused, and how a damaged one is set aside.

SQL that shapes the file stands only here.
"""

import os
import sqlite3
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from probe.errors import UserError

_APPLICATION: Final = 0x65677063  # "egpc" in the file's header: no other program's database is taken for ours
VERSION: Final = 1
WAIT: Final = 3.0  # seconds for somebody else's lock on the file (an operator's own query)
_DAMAGE: Final = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BESIDE: Final = ("-wal", "-shm")

# `number` orders the runs: a clock may step. `body`: the report, packed with `dictionary`; NULL where there was no run.
_TABLES: Final = """
CREATE TABLE runs (
  number INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT, started REAL NOT NULL, seconds REAL NOT NULL,
  exit_code INTEGER NOT NULL, complete INTEGER NOT NULL, good INTEGER NOT NULL, problem TEXT,
  conforms INTEGER NOT NULL, leak INTEGER NOT NULL, overblocked INTEGER NOT NULL, unproven INTEGER NOT NULL,
  undeclared INTEGER NOT NULL, not_run INTEGER NOT NULL,
  dictionary INTEGER REFERENCES dictionaries (id), body BLOB
);
CREATE INDEX runs_by_id ON runs (run_id);
CREATE TABLE dictionaries (id INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL);
CREATE TABLE paths (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE);
CREATE TABLE verdicts (
  run INTEGER NOT NULL, path INTEGER NOT NULL, letter TEXT NOT NULL, PRIMARY KEY (run, path)
) WITHOUT ROWID;
CREATE TABLE known (key TEXT PRIMARY KEY, told TEXT, recent TEXT NOT NULL, about TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE alerts (id INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, kind TEXT NOT NULL,
  alert TEXT NOT NULL);
CREATE TABLE deliveries (
  alert INTEGER NOT NULL REFERENCES alerts (id), channel TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0, error TEXT,
  PRIMARY KEY (alert, channel)
) WITHOUT ROWID;
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class DamagedError(Exception):
    """The file is ours, and SQLite cannot read it."""


def open_writer(path: Path) -> sqlite3.Connection:
    """The open file, made where there is none. Raises UserError, DamagedError (ours, but unreadable), sqlite3.Error."""
    check_header(path)
    _check_ours_alone(path)
    database = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
    try:
        found = database.execute("PRAGMA user_version").fetchone()[0]
        _check_version(path, found)
        if found == 0:
            mark = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {VERSION};"
            database.executescript(f"BEGIN IMMEDIATE; {mark} {_TABLES} COMMIT;")
        path.chmod(0o600)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")  # one transaction per run: a power cut may not lose it either
    except (sqlite3.Error, UserError, OSError) as error:
        database.close()
        raise damaged(error) from None
    return database


def open_reader(path: Path) -> sqlite3.Connection:
    """The file for reading only, also on a read-only disk. Raises UserError."""
    if not path.exists():
        raise UserError(f"{path}: there is no history yet (egress-probe canary run)")
    try:
        check_header(path)
        database = _connect_to_read(path)
        found = database.execute("PRAGMA user_version").fetchone()[0]
        _check_version(path, found)
        if found == 0:
            database.close()
            raise UserError(f"{path}: there is no history yet (egress-probe canary run)")
    except DamagedError as error:
        raise UserError(f"{path}: the history is damaged: {error} (the next `canary run` sets it aside)") from None
    except (sqlite3.Error, OSError) as error:
        raise UserError(f"{path}: the history cannot be read: {error}") from None
    return database


def _connect_to_read(path: Path) -> sqlite3.Connection:
    address = f"file:{_quoted(path)}?mode=ro"
    database = sqlite3.connect(address, uri=True, timeout=WAIT, isolation_level=None)
    try:
        database.execute("SELECT count(*) FROM sqlite_schema")
    except sqlite3.OperationalError:
        # A WAL needs a shared-memory file beside it. Without a WAL nobody writes, and the file may be taken as it is.
        database.close()
        if any(Path(f"{path}{end}").exists() for end in _BESIDE):
            raise
        return sqlite3.connect(f"{address}&immutable=1", uri=True, isolation_level=None)
    except sqlite3.DatabaseError as error:
        database.close()
        raise damaged(error) from None
    return database


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(os.fsencode(path.absolute()))


def check_header(path: Path) -> None:
    """Raises UserError where the file is not ours to use, DamagedError where it was ours.

    Read without SQLite, which would write to whatever it opens. https://www.sqlite.org/fileformat.html
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{path}: is no plain file")
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{path}: the history cannot be opened: {error.strerror}") from None
    if not header.strip(b"\0"):
        return  # new, or what a kill left while it was made
    sqlite = header.startswith(b"SQLite format 3\0")
    if sqlite and header[68:72] == _APPLICATION.to_bytes(4, "big"):
        return
    # A lock file of ours beside it shows that a history was here before.
    if sqlite or not lock_path(path).exists():
        raise UserError(f"{path}: is no history of a canary's (expected one that it made, or no file)")
    raise DamagedError("its header is not a database's")


def _check_ours_alone(path: Path) -> None:
    """What somebody else may write could say that everything was told already. Raises UserError."""
    try:
        found, folder = os.lstat(path), os.stat(path.parent)
    except FileNotFoundError:
        found, folder = None, os.stat(path.parent)
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path}: is not a plain file (a link is not followed)")
    if found is not None and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
        raise UserError(f"{path}: others may write it (user {found.st_uid}, mode {stat.S_IMODE(found.st_mode):o})")
    if folder.st_uid not in (os.geteuid(), 0) or (folder.st_mode & 0o022 and not folder.st_mode & stat.S_ISVTX):
        raise UserError(f"{path.parent}: others may write there: expected a folder of your own for a history")


def _check_version(path: Path, found: int) -> None:
    if found > VERSION:
        raise UserError(f"{path}: was made by a newer version (schema {found}, expected at most {VERSION})")


def damaged(error: BaseException) -> BaseException:
    """`error`, as DamagedError where SQLite says that the file is malformed."""
    code = getattr(error, "sqlite_errorcode", None)
    # Without a code: text that is no UTF-8. SQLITE_ERROR: a table is not there, or is where none should be.
    odd = code is None and type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError)
    return DamagedError(str(error)) if odd or (code is not None and code & 0xFF in _DAMAGE) else error


def lock_path(path: Path) -> Path:
    """The file whose lock makes one writer."""
    return Path(f"{path}.lock")


def set_aside(path: Path) -> Path:
    """Rename a damaged file, with what lies beside it; where to. Raises OSError."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    for number in range(1000):
        target = Path(f"{path}.damaged-{now}" + (f"-{number}" if number else ""))
        if not target.exists():
            break
    for end in ("", *_BESIDE):
        if os.path.lexists(f"{path}{end}"):
            os.rename(f"{path}{end}", f"{target}{end}")
    return target

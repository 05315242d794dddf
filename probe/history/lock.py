"""One canary at a time: a lock that ends with its process, however that ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from probe.errors import UserError
from probe.history.schema import DamagedError, check_header, lock_path


class LockError(UserError):
    """The lock cannot be had: a matter of the disk, not of the command line."""


class BusyError(UserError):
    """Another run of the same canary is going on: this one proved nothing."""


class Held(NamedTuple):
    """The lock. `kept`: a run was stored here before."""

    file: int
    kept: bool

    def note_kept(self) -> None:
        """A run is stored now: should the history be gone at the next one, that can be said."""
        _write(self.file, _KEPT)


_KEPT: Final = "a run was stored here\n"


@contextmanager
def locked(path: Path) -> Iterator[Held]:
    """Hold the lock of the history at `path`. Raises BusyError, UserError (also where that file is not a history)."""
    where = lock_path(path)
    # Before the lock's file is made: it is what tells a damaged history from somebody else's file.
    with suppress(DamagedError):
        check_header(path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(where, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise LockError(f"{where}: cannot be opened: {error.strerror}") from None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = _read(file).partition("\n")[0] or "somebody"
            raise BusyError(f"{path}: another run of this canary is going on ({who})") from None
        except OSError as error:
            raise LockError(f"{where}: cannot be locked: {error.strerror}") from None
        kept = _KEPT in _read(file)
        _write(file, f"pid {os.getpid()} since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n" + (_KEPT if kept else ""))
        yield Held(file, kept)
    finally:
        os.close(file)


def _read(file: int) -> str:
    try:
        return os.pread(file, 200, 0).decode("ascii", "replace")
    except OSError:  # a pipe
        return ""


def _write(file: int, text: str) -> None:
    """For the next one's messages; the lock itself needs no bytes."""
    try:
        if text != _KEPT:
            os.ftruncate(file, 0)
            os.lseek(file, 0, os.SEEK_SET)
        elif _KEPT in _read(file):
            return
        os.write(file, text.encode())
    except OSError:
        return  # a full disk

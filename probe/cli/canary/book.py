"""The history of one scheduled run, or what is done without it: trouble with the disk is said, and costs no report."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from probe.alert import Alert, Change
from probe.alerts.base import Channel
from probe.canary import (
    NOTHING,
    Assembled,
    Past,
    Schedule,
    alerts_of,
    failed_alerts,
    keep_failure,
    keep_run,
    look_back,
)
from probe.errors import UserError
from probe.history.lock import LockError, locked
from probe.history.schema import DamagedError, set_aside
from probe.history.store import History
from probe.telling import tell_now, tell_pending
from reports.style import clean

TROUBLE = 2  # the exit code where the run itself gave no leak
_DISK = (sqlite3.Error, OSError, DamagedError)


def say(words: str) -> None:
    """One line on stderr."""
    click.echo(f"egress-probe: {clean(words)}", err=True)


@contextlib.contextmanager
def held(path: Path) -> Iterator[str | None]:
    """The canary's lock, and what is wrong where it cannot be had: a disk's trouble stops no run.

    Raises BusyError; UserError where the file is not ours.
    """
    with contextlib.ExitStack() as stack:
        trouble = None
        try:
            stack.enter_context(locked(path))
        except LockError as error:
            trouble = str(error)
        yield trouble


@dataclass
class Book:
    """One run's. `noticed`: what is to be told of the history itself; `trouble`: why it cannot be used."""

    path: Path
    schedule: Schedule
    channels: tuple[Channel, ...]
    trouble: str | None = None
    history: History | None = None
    past: Past = NOTHING
    noticed: tuple[Change, ...] = ()
    late: tuple[Change, ...] = ()  # noticed after the run was assembled
    stored: bool = False

    def __enter__(self) -> "Book":
        """Raises UserError where the file is not ours to use."""
        if self.trouble is None:
            self._open()
        else:
            self._cannot_be_used(self._read_only())
        self.noticed, self.late = self.late, ()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def keep(self, done: Assembled, began: float, seconds: float) -> None:
        """Store a run. Trouble is said."""
        self._store(lambda history: keep_run(history, done, self.schedule, began, seconds))

    def failed(self, problem: str, began: float) -> None:
        """Store that no run could be made, and tell it."""
        alerts = failed_alerts(self.past, self.schedule, problem, self.noticed, began)
        self._store(lambda history: keep_failure(history, alerts, self.schedule, problem, began, TROUBLE))
        self.tell(alerts)

    def tell(self, alerts: Sequence[Alert]) -> None:
        """Send what is new and what waits; each new line on stderr as well. Nothing is raised: the run is over."""
        late = alerts_of(self.late, self.schedule.name, alerts[0].run_id if alerts else None, "late")
        for alert in (*alerts, *late):
            say(f"{self.schedule.name}: {alert.change.line}")
        problems = tell_now(late if self.stored else (*alerts, *late), self.channels, self.path)
        if self.history is not None:
            try:
                problems += tell_pending(self.history, self.channels)
            except _DISK as error:
                problems.append(f"{self.path}: {_words(error, self.path)}")
        for problem in problems:
            say(f"alert: {problem}")

    # --- the file -----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            try:
                self.history = History(self.path)
                self.past = look_back(self.history)
            except DamagedError as error:
                self._begin_anew(str(error))
        except _DISK as error:
            self.trouble = f"{self.path}: {_words(error, self.path)}"
            self._cannot_be_used(self._read_only())

    def _read_only(self) -> Past:
        """A disk that takes nothing may still give what it has: then what changed is told all the same."""
        try:
            with History(self.path, read_only=True) as history:
                return look_back(history)
        except (*_DISK, UserError):
            return NOTHING

    def _store(self, write: Callable[[History], None]) -> None:
        if self.history is None:
            return
        try:
            try:
                write(self.history)
            except DamagedError as error:
                self._begin_anew(str(error))
                write(self.history)
            self.stored = True
        except _DISK as error:
            self.trouble = f"{self.path}: {_words(error, self.path)}"
            self._cannot_be_used(self.past)

    def _begin_anew(self, problem: str) -> None:
        """The damaged file is kept beside a new one, and said."""
        self._close()
        target = set_aside(self.path)
        self.late += (
            Change("damaged", f"damaged: the history could not be read ({problem}): it lies in {target} now"),
        )
        self.history, self.past = History(self.path), NOTHING

    def _cannot_be_used(self, past: Past) -> None:
        self._close()
        self.past = past
        self.late += (Change("damaged", f"damaged: the history cannot be used: {self.trouble}"),)

    def _close(self) -> None:
        if self.history is not None:
            self.history.__exit__()
        self.history = None


def _words(error: Exception, path: Path) -> str:
    """SQLite says "disk I/O error" for most things; the disk itself says more."""
    said = str(error.strerror) if isinstance(error, OSError) else str(error)
    with contextlib.suppress(OSError):
        disk = os.statvfs(path.parent)
        said += " (the disk is read-only)" if disk.f_flag & os.ST_RDONLY else ""
        said += " (the disk is full)" if not disk.f_bavail or not disk.f_favail else ""
    return said

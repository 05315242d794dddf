"""The history of one scheduled run, or what is done without it: trouble with the disk is said, and costs no report."""

import contextlib
import os
import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from probe.alert import Alert, Change
from probe.canary import (
    NOTHING,
    Assembled,
    Past,
    Schedule,
    alerts_of,
    assemble,
    failed_alerts,
    keep_failure,
    keep_run,
    look_back,
)
from probe.cli.options import point_nowhere
from probe.errors import UserError
from probe.history.lock import Held, LockError, locked
from probe.history.schema import DamagedError, set_aside
from probe.history.store import History
from probe.report import Report
from probe.standing import stamp
from probe.telling import tell_now, tell_pending
from reports.style import clean

if TYPE_CHECKING:
    from probe.alerts.base import Channel

# User names, passwords, paths and queries of URLs.
_USER = re.compile(r"([a-z][a-z0-9+.-]*://)[^\s/@]*@", re.IGNORECASE)
_URL = re.compile(r"([a-z][a-z0-9+.-]*://[^\s/?#]+)[/?#][^\s]*[^\s:]", re.IGNORECASE)
TROUBLE = 2  # the exit code where the run itself gave no leak
_DISK = (sqlite3.Error, OSError, DamagedError)


def say(words: str) -> None:
    """One line on stderr, if that takes it: a log whose disk is full ends nothing."""
    try:
        click.echo(f"egress-probe: {clean(words, 2000)}", err=True)
    except OSError:
        point_nowhere(sys.stderr)


@contextlib.contextmanager
def held(path: Path) -> Iterator[Held | str]:
    """The canary's lock, or what is wrong where it cannot be had: a disk's trouble stops no run.

    Raises BusyError; UserError where the file is not ours.
    """
    with contextlib.ExitStack() as stack:
        lock: Held | str
        try:
            lock = stack.enter_context(locked(path))
        except LockError as error:
            lock = str(error)
        yield lock


class Book:
    """One run's. `past`: what it is compared with; `noticed`: what is to be told beside it; `troubles`: what failed."""

    def __init__(
        self,
        path: Path,
        schedule: Schedule,
        channels: tuple["Channel", ...],
        lock: Held | str,
        broken: Sequence[str] = (),
    ) -> None:
        """`broken`: channels that cannot be had, in words: told on the others."""
        self.path, self.schedule, self._channels, self._lock = path, schedule, channels, lock
        self.past = NOTHING
        self.noticed = tuple(
            Change("failed", f"failed: an alert channel cannot be used: {problem}") for problem in broken
        )
        self.troubles = list(broken)
        self._late: tuple[Change, ...] = ()  # noticed after the run was assembled
        self._history: History | None = None
        self._stored = False

    def __enter__(self) -> "Book":
        """Raises UserError where the file is not ours to use."""
        for problem in self.troubles:
            say(problem)
        self._open()
        self.noticed, self._late = (*self.noticed, *self._late), ()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def keep(self, report: Report, began: float, seconds: float) -> Assembled:
        """Compare a run and store it. Trouble is said. In a history that begins anew nothing was told yet."""
        done: Assembled | None = None

        def write(history: History) -> None:
            nonlocal done
            done = assemble(report, self.past, self.schedule, self.noticed)
            keep_run(history, done, self.schedule, began, seconds)

        self._store(write)
        return done or assemble(report, self.past, self.schedule, self.noticed)

    def failed(self, problem: str, began: float) -> None:
        """Store that no run could be made, and tell it; of a URL in the problem only what is no secret."""
        problem = _URL.sub(r"\1…", _USER.sub(r"\1…@", problem))
        alerts = failed_alerts(self.past, self.schedule, problem, self.noticed, began)
        self._store(
            lambda history: keep_failure(history, alerts, self.past, self.schedule, problem, began, self.noticed)
        )
        self.tell(alerts)

    def tell(self, alerts: Sequence[Alert]) -> None:
        """Send what is new and what waits; each new line on stderr as well. Nothing is raised: the run is over."""
        run_id = alerts[0].run_id if alerts else None
        late = alerts_of(self._late, self.schedule.name, run_id, stamp(time.time()), len(alerts) + 1)
        problems = tell_now(late if self._stored else (*alerts, *late), self._channels, self.path)
        if self._history is not None:
            try:
                problems += tell_pending(self._history, self._channels)
            except _DISK as error:
                problems.append(f"{self.path}: {_words(error, self.path)}")
        for alert in (*alerts, *late):
            say(f"{self.schedule.name}: {alert.change.line}")
        for problem in problems:
            say(f"alert: {problem}")

    def attempt(self, act: Callable[[], object]) -> None:
        """Something that may fail without costing the rest. What failed is said."""
        try:
            act()
        except UserError as error:
            self.troubles.append(str(error))
            say(str(error))

    # --- the file -----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if isinstance(self._lock, str):
            self._cannot_be_used(self._lock, self._read_only())
            return
        if self._lock.kept and not (self.path.exists() and self.path.stat().st_size):
            self._late += (Change("damaged", f"damaged: the history {self.path} is gone: a new one begins"),)
        try:
            try:
                self._history = History(self.path)
                self.past = look_back(self._history)
            except DamagedError as error:
                self._begin_anew(str(error))
        except _DISK as error:
            self._cannot_be_used(f"{self.path}: {_words(error, self.path)}", self._read_only())

    def _read_only(self) -> Past:
        """A disk that takes nothing may still give what it has: then what changed is told all the same."""
        try:
            with History(self.path, read_only=True) as history:
                return look_back(history)
        except (*_DISK, UserError):
            return NOTHING

    def _store(self, write: Callable[[History], None]) -> None:
        if self._history is None:
            return
        try:
            try:
                write(self._history)
            except DamagedError as error:
                self._begin_anew(str(error))
                write(self._history)
            self._stored = True
            if isinstance(self._lock, Held):
                self._lock.note_kept()
        except _DISK as error:
            self._cannot_be_used(f"{self.path}: {_words(error, self.path)}", self.past)

    def _begin_anew(self, problem: str) -> None:
        """The damaged file is kept beside a new one, and said."""
        self._close()
        target = set_aside(self.path)
        line = f"damaged: the history could not be read ({problem}): it lies in {target} now"
        self._late += (Change("damaged", line),)
        self._history, self.past = History(self.path), NOTHING

    def _cannot_be_used(self, trouble: str, past: Past) -> None:
        """What changed is told all the same, by what could be read."""
        self._close()
        self.troubles.append(trouble)
        self._late += (Change("damaged", f"damaged: the history cannot be used: {trouble}"),)
        self.past = past

    def _close(self) -> None:
        if self._history is not None:
            self._history.__exit__()
        self._history = None


def _words(error: Exception, path: Path) -> str:
    """SQLite says "disk I/O error" for most things; the disk itself says more."""
    said = str(error.strerror) if isinstance(error, OSError) else str(error)
    with contextlib.suppress(OSError):
        disk = os.statvfs(path.parent)
        said += " (the disk is read-only)" if disk.f_flag & os.ST_RDONLY else ""
        said += " (the disk is full)" if not disk.f_bavail or not disk.f_favail else ""
    return said

"""What is to be scheduled: the values that every scheduler shares, and what is refused for all of them."""

import math
import os.path
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from probe.errors import UserError

# The first line of every file that we write: without it a file is somebody else's.
MARKER: Final = "# Written by egress-probe. Changes made here are lost when it is written again."

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")  # part of file names, of a unit's and of a history's
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")
_SHORTEST, _LONGEST = 60, 31 * 86400


@dataclass(frozen=True, slots=True)
class Job:
    """One scheduled canary. Times are seconds.

    `words`: the whole command line, without `--splay`; `folder`: where its relative paths start. `via`: the target or
    the launcher that the agent is started through; None: in place. `writes`: files that the run writes, besides the
    history in its usual place. `splay`: random delay before each run; None: a tenth of `every`, at most 15 minutes.
    `limit`: a run that takes longer is ended; None: as long as `every`, but between 10 minutes and an hour.
    `user`: who runs it; None: whose schedule it is. `own`: for the user's own service manager, not the system's.
    """

    words: Sequence[str]
    name: str
    every: float
    folder: str = "/"
    via: str | None = None
    writes: Sequence[str] = ()
    splay: float | None = None
    limit: float | None = None
    user: str | None = None
    own: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """A job without anything open: whole seconds, absolute paths."""

    words: tuple[str, ...]
    name: str
    every: int
    folder: str
    via: str | None
    writes: tuple[str, ...]
    splay: int
    limit: int
    user: str | None
    own: bool


def checked(job: Job) -> Checked:
    """Raises UserError."""
    if not _NAME.fullmatch(job.name):
        raise UserError(f"--name {job.name}: expected at most 64 letters, digits, dots, dashes and underscores")
    if job.user is not None and not _USER.fullmatch(job.user):
        raise UserError(f"user {job.user}: expected a user's name: letters, digits, dots, dashes and underscores")
    if job.user is not None and job.own:
        raise UserError(f"user {job.user}: a user's own unit always runs as that user")
    every = _seconds("--every", job.every, _SHORTEST, _LONGEST)
    splay = min(every // 10, 900) if job.splay is None else _seconds("--splay", job.splay, 0, every - 1)
    limit = min(max(every, 600), 3600) if job.limit is None else _seconds("--limit", job.limit, 1, _LONGEST)
    folder = _path(job.folder, "/")
    for word in job.words:
        _text(word)
    if not job.words or not job.words[0].startswith("/"):
        raise UserError("the program to schedule: expected its absolute path")
    writes = tuple(dict.fromkeys(_path(path, folder) for path in job.writes))
    return Checked(tuple(job.words), job.name, every, folder, job.via, writes, splay, limit, job.user, job.own)


def _seconds(option: str, value: float, least: int, most: int) -> int:
    if not math.isfinite(value) or not least <= value <= most:
        raise UserError(f"{option} {value:g} s: expected {least} to {most} seconds")
    return round(value)


def _path(path: str, start: str) -> str:
    _text(path)
    found = os.path.normpath(os.path.join(start, path))
    if not found.startswith("/") or "\n" in found or found != found.strip() or found.endswith("\\"):
        raise UserError(f"{path!r}: such a path cannot stand in a schedule")
    return "/" + found.lstrip("/")  # POSIX lets two slashes mean something else


def _text(word: str) -> None:
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:  # a byte that is no text, as Python hands it over
        raise UserError(f"{word!r}: not UTF-8 text, which a schedule must be") from None
    if "\0" in word:
        raise UserError(f"{word!r}: no command line can hold a NUL")

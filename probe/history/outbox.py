"""What is still to be told: it lies beside the runs until a channel took it, or goes to the dead letters' file."""

import json
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from probe.alert import Alert
from probe.codec import DecodeError, decode, encode, parse_json
from probe.errors import UserError
from probe.history.store import History

MOST_TRIES: Final = 10  # deliveries, at most one per run


class Pending(NamedTuple):
    """One alert that one channel has not taken yet."""

    number: int
    alert: Alert
    channel: str
    tries: int


def pending(history: History) -> tuple[list[Pending], list[tuple[int, str, str]]]:
    """Leaks first, then oldest first: what a channel does not take must not hold up a leak.

    Beside them what cannot be read (number, text, channel): a later version's, or damaged. It must hold up nothing.
    """
    rows = history.rows(
        "SELECT a.id, a.alert, d.channel, d.tries FROM deliveries d JOIN alerts a ON a.id = d.alert "
        "ORDER BY a.kind != 'leak', a.id"
    )
    good, odd = [], []
    for number, text, channel, tries in rows:
        try:
            good.append(Pending(number, decode(Alert, parse_json(str(text), "alert")), channel, tries))
        except (DecodeError, UserError):
            odd.append((number, str(text), channel))
    return good, odd


def give_up_unreadable(history: History, odd: Sequence[tuple[int, str, str]], now: str) -> None:
    """To the dead letters as they are. Raises OSError, sqlite3.Error."""
    lines = [json.dumps({"time": now, "channel": channel, "unreadable": text}) for _, text, channel in odd]
    append(dead_letters(history.path), lines)
    with history.writing() as database:
        _forget(database, [(number, channel) for number, _, channel in odd])


def dead_letters(path: Path) -> Path:
    """The file beside the history that holds what no channel took."""
    return Path(f"{path}.dead-letters.jsonl")


def buried(path: Path) -> int:
    """How many dead letters there are."""
    try:
        with dead_letters(path).open("rb") as file:
            return sum(1 for _ in file)
    except OSError:
        return 0


class Failure(NamedTuple):
    """Why an alert was not delivered. `again`: it may be sent again; `tried`: it was sent at all."""

    words: str
    again: bool
    tried: bool = True


def settle(history: History, delivered: Sequence[Pending], failed: Mapping[Pending, Failure], now: str) -> int:
    """Note what was delivered and what failed; how many gave up.

    What was delivered is noted first; what gives up is in the dead letters' file before it leaves the history.
    Raises OSError, sqlite3.Error.
    """
    given_up = {p: one.words for p, one in failed.items() if not one.again or p.tries + one.tried >= MOST_TRIES}
    with history.writing() as database:
        _forget(database, [(one.number, one.channel) for one in delivered])
        kept = [(one.tried, one.words, p.number, p.channel) for p, one in failed.items()]
        database.executemany("UPDATE deliveries SET tries = tries + ?, error = ? WHERE alert = ? AND channel = ?", kept)
    if given_up:
        bury(dead_letters(history.path), given_up, now)
        with history.writing() as database:
            _forget(database, [(one.number, one.channel) for one in given_up])
    return len(given_up)


def _forget(database: sqlite3.Connection, gone: Iterable[tuple[int, str]]) -> None:
    database.executemany("DELETE FROM deliveries WHERE alert = ? AND channel = ?", gone)


def bury(path: Path, given_up: Mapping[Pending, str], now: str) -> None:
    """Append to the dead letters. Raises OSError."""
    lines = [
        json.dumps({"time": now, "channel": p.channel, "error": words, "tries": p.tries + 1, "alert": encode(p.alert)})
        for p, words in given_up.items()
    ]
    append(path, lines)


def append(path: Path, lines: Sequence[str]) -> None:
    """On disk when this returns. Raises OSError."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as out:
        out.write("".join(line + "\n" for line in lines))
        out.flush()
        os.fsync(out.fileno())

"""Which canary is meant: its name, and where its history lies. Options that its commands share."""

import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from probe.cli.options import stack
from probe.damping import Damping
from probe.errors import UserError

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT = "default"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_SPAN = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

place_options: Callable[[F], F] = stack(
    click.option("--name", default=DEFAULT, show_default=True, metavar="NAME", help="Which canary."),
    click.option("--history", metavar="FILE",
                 help="Its history (default: $XDG_STATE_HOME/egress-probe/canary/NAME.sqlite)."),
)  # fmt: skip


def place(name: str, history: str | None, environment: Mapping[str, str] | None = None) -> Path:
    """Where the history lies. Raises UserError."""
    checked_name(name)
    if history is not None:
        if "\0" in history or not history:
            raise UserError(f"--history {history}: expected a file's name")
        return Path(history).expanduser().absolute()
    known = os.environ if environment is None else environment
    state = known.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # the XDG base directory specification: relative ones are to be ignored
        home = known.get("HOME") or os.path.expanduser("~")
        state = os.path.join(home, ".local", "state")
    return Path(state) / "egress-probe" / "canary" / f"{name}.sqlite"


def checked_name(name: str) -> str:
    """The name, if it may be one. Raises UserError."""
    if not _NAME.fullmatch(name):
        raise UserError(f"--name {name}: expected up to 64 letters, digits, or any of _ . - (and no . or - first)")
    return name


def span(text: str, option: str) -> float:
    """`15m`, `7d` in seconds. Raises UserError."""
    found = _SPAN.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise UserError(f"{option} {text}: expected a span such as 90s, 15m, 6h, 7d or 2w")
    return timedelta(**{_UNITS[found[2]]: int(found[1])}).total_seconds()


def damping(text: str, blind: int) -> Damping:
    """`3/4`: three of the last four runs. Raises UserError."""
    k, _, n = text.partition("/")
    if not (k.isascii() and k.isdigit() and n.isascii() and n.isdigit() and 1 <= int(k) <= int(n) <= 20):
        raise UserError(f"--damp {text}: expected K/N, such as 3/4: K of the last N runs (at most 20)")
    if 2 * int(k) <= int(n) + (int(n) % 2) and int(n) > 1:
        least = (int(n) + 1) // 2 + 1
        raise UserError(f"--damp {text}: what alternates would be told every time; of {n} expected at least {least}")
    return Damping(int(k), int(n), blind)

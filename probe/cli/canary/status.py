"""`egress-probe canary status`: how it stands, from the history alone."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import click

from probe.cli.canary.history import result
from probe.cli.canary.place import place, place_options
from probe.codec import encode
from probe.errors import UserError
from probe.history.reading import Run
from probe.history.store import History
from probe.standing import Standing, stamp, standing
from reports.style import clean

UNPROVEN = 3
_MOST = 5  # names in a line


@click.command(short_help="How it stands: last run, leaks, blindness, undelivered alerts.")
@place_options
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def status(name: str, history: str | None, form: str) -> int:
    """How the canary stands, from its history alone. The exit code is the last run's; 3 where that was 0 and runs
    are missing.

    \b
    Examples:
      egress-probe canary status
      egress-probe canary status --name box --format json
    """
    path = place(name, history)
    with History(path, read_only=True) as file:
        found = standing(file, name)
    if found.last is None:
        raise UserError(f"{path}: holds no run yet (egress-probe canary run)")
    click.echo(json.dumps(encode(found), indent=1) if form == "json" else _text(found, path))
    # A canary that no longer runs proves nothing, whatever it last said.
    return found.last.exit_code or (UNPROVEN if found.overdue is not None else 0)


def _text(found: Standing, path: Path) -> str:
    assert found.last is not None
    lines = [
        f"canary {found.name} · {found.runs} runs · {clean(path)} ({found.bytes / 1e6:.1f} MB)",
        f"last run   {_when(found.last)} · {result(found.last)} · exit {found.last.exit_code}",
    ]
    if found.good is not None and found.good.number != found.last.number:
        lines.append(f"last good  {_when(found.good)} · {result(found.good)}")
    elif found.good is None:
        lines.append("last good  none yet")
    if found.overdue is not None:
        lines.append("overdue    three times as long as it was between runs: is it still scheduled?")
    lines += _named("leaking", found.leaking) + _named("blind", found.blind)
    if found.undelivered:
        lines.append(f"alerts     {found.undelivered} not delivered yet: {clean(found.error or 'not tried')}")
    if found.dead_letters:
        lines.append(f"alerts     {found.dead_letters} given up: {clean(path)}.dead-letters.jsonl")
    return "\n".join(lines)


def _named(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return [f"{what:10} {clean(', '.join(names[:_MOST]))}{more}"]


def _when(run: Run) -> str:
    return f"{stamp(run.started)} ({_ago(run.started)})"


def _ago(moment: float) -> str:
    """A clock may step: what lies ahead is said to."""
    seconds = time.time() - moment
    if seconds < 0:
        return "in the future: a clock was set"
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"

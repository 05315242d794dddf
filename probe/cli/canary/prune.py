"""`egress-probe canary prune`: forget old runs."""

import sqlite3
import time

import click

from probe.cli.canary.place import place, place_options, span
from probe.errors import UserError
from probe.history.lock import locked
from probe.history.schema import DamagedError
from probe.history.store import History
from reports.style import clean


@click.command(short_help="Forget old runs.")
@place_options
@click.option("--keep", type=click.IntRange(1, 1_000_000), metavar="N", help="Keep the newest N runs.")
@click.option("--older-than", metavar="SPAN", help="Forget what started earlier than 30d, 6w … ago.")
def prune(name: str, history: str | None, keep: int | None, older_than: str | None) -> int:
    """Forget old runs and give the disk their space back. The last known good run stays.

    `canary run --keep N` does the first by itself.

    \b
    Examples:
      egress-probe canary prune --keep 500
      egress-probe canary prune --older-than 30d
    """
    if keep is None and older_than is None:
        raise UserError("prune: expected --keep N or --older-than SPAN")
    before = None if older_than is None else time.time() - span(older_than, "--older-than")
    path = place(name, history)
    History(path, read_only=True).__exit__()  # one that is not there is not made
    try:
        with locked(path), History(path) as file:
            count = file.prune(keep, before)
    except (sqlite3.Error, DamagedError, OSError) as error:
        raise UserError(f"{path}: {error.strerror if isinstance(error, OSError) else error}") from None
    click.echo(f"{clean(path)}: {count} runs forgotten, {path.stat().st_size / 1e6:.1f} MB left")
    return 0

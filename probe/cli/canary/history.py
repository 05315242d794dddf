"""`egress-probe canary history`: the runs, one line each."""

import json
import time

import click
from tabulate import tabulate

from probe.cli.canary.place import place, place_options, span
from probe.codec import encode
from probe.history.reading import Run
from probe.history.store import History
from probe.standing import stamp
from reports.style import clean

_VERDICTS = ("leak", "overblocked", "unproven", "undeclared", "not_run", "conforms")


@click.command(short_help="The runs, one line each.")
@place_options
@click.option("--since", metavar="SPAN", help="Only those of the last 7d, 12h …")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def history(name: str, history: str | None, since: str | None, form: str) -> int:
    """The stored runs, oldest first.

    \b
    Examples:
      egress-probe canary history --since 7d
      egress-probe canary history --name box --format json
    """
    begin = 0.0 if since is None else time.time() - span(since, "--since")
    with History(place(name, history), read_only=True) as file:
        runs = file.runs(since=begin)
    if form == "json":
        click.echo(json.dumps([encode(run) for run in runs], indent=1))
    else:
        click.echo(tabulate([_row(run) for run in runs], ["run", "started", "id", "exit", "took", "result"]))
    return 0


def _row(run: Run) -> list[object]:
    return [run.number, stamp(run.started), run.run_id or "", run.exit_code, f"{run.seconds:.1f} s", result(run)]


def result(run: Run) -> str:
    """`3 leak · 12 conforms`, or why there was no run."""
    if run.problem is not None:
        return clean(f"no run: {run.problem}", 60)
    counts = " · ".join(f"{number} {word.replace('_', ' ')}" for word in _VERDICTS if (number := getattr(run, word)))
    return (counts or "no rows") + ("" if run.complete else " · incomplete")

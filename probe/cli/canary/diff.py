"""`egress-probe canary diff RUN RUN`: what changed between two stored runs."""

import json

import click

from probe.cli.canary.place import place, place_options
from probe.codec import encode
from probe.conditions import conditions
from probe.damping import unstable
from probe.drift import compare
from probe.history.store import History
from probe.standing import stored_report
from reports.style import clean


@click.command(short_help="What changed between two runs.")
@click.argument("before")
@click.argument("after")
@place_options
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def diff(before: str, after: str, name: str, history: str | None, form: str) -> int:
    """What changed from one stored run to another, one line each: paths, enforcers, policy, place, config findings.

    A run: its number, its id or the beginning of it, `last`, or `last~1` for the one before.

    \b
    Examples:
      egress-probe canary diff last~1 last
      egress-probe canary diff 01JD3K 01JD4M --format json

    Exit codes: 0 nothing changed, 1 something did, 2 usage or configuration.
    """
    with History(place(name, history), read_only=True) as file:
        old, new = (conditions(stored_report(file, file.find(word))) for word in (before, after))
        changes = compare(old, new, unstable(file.memory().known))
    if form == "json":
        click.echo(json.dumps([encode(change) for change in changes], indent=1))
    else:
        click.echo("\n".join(clean(change.line) for change in changes) or "nothing changed")
    return int(bool(changes))

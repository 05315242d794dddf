"""`egress-probe canary show RUN`: one stored run."""

import click

from probe.cli.canary.place import place, place_options
from probe.cli.options import check_outputs, print_report, report_options
from probe.history.store import History
from probe.standing import compared, stored_report


@click.command(short_help="One stored run.")
@click.argument("run", default="last")
@place_options
@report_options
def show(run: str, name: str, history: str | None, form: str, outputs: tuple[str, ...]) -> int:
    """The report of a stored run, compared with the last known good one before it. The exit code is the report's own.

    RUN: its number, its id or the beginning of it, `last`, or `last~1` for the one before.

    \b
    Examples:
      egress-probe canary show
      egress-probe canary show 01JD3K --format json
      egress-probe canary show last~1 -o report.html
    """
    check_outputs(form, outputs)
    with History(place(name, history), read_only=True) as file:
        found = file.find(run)
        report = compared(stored_report(file, found), file, found, name)
    return print_report(report, form, outputs)

"""`egress-probe canary report`: the last run, with a timeline of the runs before it."""

import time

import click

from probe.cli.canary.place import place, place_options, span
from probe.cli.options import check_outputs, print_report, report_options
from probe.errors import UserError
from probe.history.store import History
from probe.standing import compared, stored_report, with_timeline, without_runs

MOST = 200


@click.command(short_help="The last run, and a timeline of runs per path.")
@place_options
@click.option("--runs", type=click.IntRange(1, MOST), default=50, show_default=True, help="Runs in the timeline.")
@click.option("--since", metavar="SPAN", help="Only those of the last 7d, 12h …")
@report_options
def report(name: str, history: str | None, runs: int, since: str | None, form: str, outputs: tuple[str, ...]) -> int:
    """The last run's report, with a timeline of runs per path. The exit code is the report's own.

    \b
    Examples:
      egress-probe canary report -o paths.html
      egress-probe canary report --since 7d --format html > paths.html
    """
    check_outputs(form, outputs)
    begin = 0.0 if since is None else time.time() - span(since, "--since")
    with History(place(name, history), read_only=True) as file:
        found = file.runs(runs, begin)
        shown = next((run for run in reversed(found) if run.problem is None), None)
        if shown is None:
            raise UserError(f"{file.path}: no run with a report{'' if since is None else f' in the last {since}'}")
        made = compared(stored_report(file, shown), file, shown, name)
        made = with_timeline(made, file, found, name)
    status = print_report(without_runs(made, found), form, outputs)
    return status if found[-1].problem is None else found[-1].exit_code

"""`egress-probe scenarios`: list them, show one, validate one of your own."""

import click
from tabulate import tabulate

from probe.files import load_scenarios, parse_scenario_file, read_text, scenario_text
from reports.style import clean


@click.group(short_help="List, show or validate exfiltration scenarios.")
def scenarios() -> None:
    """The exfiltration scenarios that `run` tries."""


@scenarios.command("list")
def list_all() -> int:
    """One line per scenario."""
    rows = [[s.id, s.title, ", ".join(s.attack), s.opt_in or ""] for s in load_scenarios(())]
    click.echo(tabulate(rows, ["id", "title", "ATT&CK", "needs"], maxcolwidths=[None, 44, None, None]))
    return 0


@scenarios.command()
@click.argument("name", metavar="ID")
def show(name: str) -> int:
    """The scenario's file."""
    click.echo(scenario_text(name), nl=False)
    return 0


@scenarios.command()
@click.argument("file")
def validate(file: str) -> int:
    """Check a scenario file of your own."""
    found = parse_scenario_file(file, read_text(file))
    click.echo(clean(f"{file}: ok ({len(found.check)} checks)"))
    return 0

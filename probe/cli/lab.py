"""`egress-probe lab`: the main job in the embedded lab, world after world, against each world's stated truth."""

from dataclasses import replace

import click
from tabulate import tabulate

from probe.cli.options import check_outputs, print_report
from probe.cli.planning import Request, plan_with
from probe.codec import decode
from probe.documents import Plan
from probe.lab.namespaces import in_isolation
from probe.lab.stage import play
from probe.lab.world import World, load_world, misses, world_names
from probe.model import Policy
from probe.report import Report


@click.command(short_help="The same job in an embedded network lab.")
@click.argument("worlds", nargs=-1, metavar="[WORLD]...")
@click.option("--list", "listed", is_flag=True, help="List the worlds.")
@click.option("--format", "form", default="table", show_default=True, metavar="NAME", help="As for `run`.")
@click.option("-o", "--output", "outputs", multiple=True, metavar="FILE", help="As for `run`; one world only.")
def lab(worlds: tuple[str, ...], listed: bool, form: str, outputs: tuple[str, ...]) -> int:
    """Run the main job in an embedded network lab: sandbox, gateway and internet in namespaces without an uplink.

    Needs no network, sends nothing outside, and works as root or where user namespaces are allowed.

    \b
    Examples:
      egress-probe lab --list
      egress-probe lab no-network open
      egress-probe lab ipv6-forgotten --format markdown

    Exit codes: 0 every verdict equals the world's truth, 1 one does not, 2 usage or configuration.
    """
    check_outputs(form, outputs)
    if outputs and len(worlds) != 1:
        raise click.UsageError("-o takes exactly one world")
    if listed:
        known = [load_world(name) for name in world_names()]
        click.echo(tabulate([[w.id, w.shows, w.exit_code] for w in known], ["world", "shows", "exit"]))
        return 0
    wrong = [name for name in worlds or world_names() if not _one(load_world(name), form, outputs)]
    return int(bool(wrong))


def _one(world: World, form: str, outputs: tuple[str, ...]) -> bool:
    """Play one world, print its report, and say whether every verdict is true."""
    report = play_world(world)
    click.echo(f"=== {world.id}: {world.title} ===", err=form != "table")
    print_report(report, form, outputs)
    found = misses(world, report)
    for miss in found:
        click.echo(f"egress-probe: lab {world.id}: {miss}", err=True)
    told = f"{len(found)} differences from the truth" if found else "every verdict is the truth"
    click.echo(f"Lab: {world.id}: {told}\n", err=form != "table")
    return not found


def play_world(world: World) -> Report:
    """The report of a world, from a run in its own namespaces. Raises UserError where they cannot be made."""

    def make(policies: tuple[Policy, ...]) -> Plan:
        request = Request(scenarios=world.run.scenarios, controls=world.run.control, witnesses=world.run.witness)
        return plan_with(policies, replace(request, zone=world.run.zone), default_witness=False)

    return decode(Report, in_isolation(lambda: play(world, make)))

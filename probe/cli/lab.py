"""`egress-probe lab`: the main job in the embedded lab, world after world, against each world's stated truth."""

from dataclasses import replace

import click
from tabulate import tabulate

from probe.cli.options import check_outputs, print_report
from probe.cli.planning import Request, plan_with
from probe.codec import decode
from probe.documents import Collector, Plan
from probe.lab.cgroup_bpf import own_cgroup
from probe.lab.confine import cannot
from probe.lab.namespaces import in_isolation
from probe.lab.servers import missing
from probe.lab.stage import play
from probe.lab.world import KIND, World, load_world, misses, world_names
from probe.model import Policy
from probe.report import Report


@click.command(short_help="The same job in an embedded network lab.")
@click.argument("worlds", nargs=-1, metavar="[WORLD]...")
@click.option("--list", "listed", is_flag=True, help="List the worlds.")
@click.option("--all", "every", is_flag=True, help="Every world, those of one enforcement each (kind-…) included.")
@click.option("--format", "form", default="table", show_default=True, metavar="NAME", help="As for `run`.")
@click.option("-o", "--output", "outputs", multiple=True, metavar="FILE", help="As for `run`; one world only.")
def lab(worlds: tuple[str, ...], listed: bool, every: bool, form: str, outputs: tuple[str, ...]) -> int:
    """Run the main job in an embedded network lab: sandbox, gateway and internet in namespaces without an uplink.

    Needs no network, sends nothing outside, and works as root or where user namespaces are allowed.
    Without WORLD: every world that shows more than one way to enforce.

    \b
    Examples:
      egress-probe lab --list
      egress-probe lab no-network open
      egress-probe lab ipv6-forgotten --format markdown

    Exit codes: 0 every verdict equals the world's truth, 1 one does not, 2 usage or configuration, 3 none differs, but
    a world cannot be played here.
    """
    check_outputs(form, outputs)
    if outputs and len(worlds) != 1:
        raise click.UsageError("-o takes exactly one world")
    known = [load_world(name) for name in world_names()]
    if listed:
        click.echo(_listing(known))
        return 0
    chosen = [load_world(name) for name in worlds] or [w for w in known if every or not w.id.startswith(KIND)]
    played = [_one(world, form, outputs) for world in chosen]
    if False in played:
        return 1
    return 3 if None in played else 0


def _listing(known: list[World]) -> str:
    """The worlds, and then those of one enforcement each."""
    kinds = [world for world in known if world.id.startswith(KIND)]
    others = [[world.id, world.shows, world.exit_code] for world in known if world not in kinds]
    rows = [[world.id, world.title, world.exit_code] for world in kinds]
    head = "One way to enforce each (docs/accuracy.md has what is observed there):"
    return "\n".join(
        [tabulate(others, ["world", "shows", "exit"]), "", head, "", tabulate(rows, ["world", "enforcement", "exit"])]
    )


def _one(world: World, form: str, outputs: tuple[str, ...]) -> bool | None:
    """Play one world, print its report, and say whether every verdict is true; None where it cannot be played."""
    problem = cannot(world.sandbox.confine) or missing(world)
    if problem is not None:
        click.echo(f"Lab: {world.id}: skipped: {problem}", err=form != "table")
        return None
    report = play_world(world)
    click.echo(f"=== {world.id}: {world.title} ===", err=form != "table")
    print_report(report, form, outputs)
    found = misses(world, report)
    for miss in found:
        click.echo(f"egress-probe: lab {world.id}: {miss}", err=True)
    told = f"{len(found)} differences from the truth" if found else "every verdict is the truth"
    click.echo(f"Lab: {world.id}: {told}\n", err=form != "table")
    return not found


def play_world(world: World, concurrency: int = 0) -> Report:
    """The report of a world, from a run in its own namespaces. Raises UserError where they cannot be made.

    `concurrency`: destinations at the same time; 0 = no cap.
    """

    def make(policies: tuple[Policy, ...], far: Collector | None) -> Plan:
        run = world.run
        request = Request(
            scenarios=run.scenarios,
            controls=run.control,
            witnesses=run.witness,
            zone=run.zone,
            resolvers=run.resolver,
            collector=far,
        )
        return plan_with(policies, replace(request, concurrency=concurrency), default_witness=False)

    with own_cgroup(any(word.startswith("cgroup-") for word in world.sandbox.confine)):
        return decode(Report, in_isolation(lambda: play(world, make)))

"""`egress-probe plan`: every destination and every kind of bytes that `run` would send. Sends nothing."""

import json
import os
import textwrap
from typing import Any

import click
from tabulate import tabulate

from probe import latch
from probe.cli.far import from_url
from probe.cli.options import check_writable, policy_options, scenario_options
from probe.cli.planning import Request, plan_for
from probe.cli.running import write_plan
from probe.codec import encode, to_line
from probe.documents import Check, Plan
from probe.errors import UserError
from probe.files import write_text
from probe.model import Purpose
from probe.orders import make_orders
from probe.timing import SAMPLES
from probe.tokens import new_key
from reports.style import clean


@click.command(short_help="List everything that `run` would send.")
@policy_options
@scenario_options
@click.option("--orders-out", metavar="FILE", help="Write what an agent is told, for `agent.pyz` or a skill.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def plan(form: str, plan_out: str | None, orders_out: str | None, collector: str | None, **options: Any) -> int:
    """List what `run` would send: destination, technique, bytes, and what the policy declares. Sends nothing.

    \b
    Examples:
      egress-probe plan --policy egress-policy.toml
      egress-probe plan --policy openclaw.json --scenario dns-txt-exfiltration --format json
      egress-probe plan --policy p.toml --plan-out plan.json --orders-out orders.json
    """
    if orders_out is not None and collector is not None:
        raise UserError("--orders-out: the collector must know the run: use `run --collector … --via …`")
    for path in (plan_out, orders_out):
        if path is not None:
            check_writable(path)
    made = plan_for(Request(**options, collector=None if collector is None else from_url(collector)))
    if plan_out is not None:
        write_plan(made, plan_out)
    if orders_out is not None:
        orders = make_orders(made, new_key(), latch.from_environment(os.environ))
        write_text(orders_out, to_line(orders) + "\n")
    click.echo(json.dumps(encode(made), indent=1) if form == "json" else _table(made))
    return 0


_AGAIN = "Any of these may be tried again, alone."
_WALKS = (
    "A TCP destination may also get SYNs with hop limits 1 to 30, and a datagram with the nonce beside it; a control "
    f"that answers gets {SAMPLES} more SYNs."
)


def _table(made: Plan) -> str:
    rows = [
        [check.technique, _where(check), check.declared.action.value, check.packets, clean(check.sends)]
        for check in made.checks
    ]
    lines = [
        tabulate(
            rows,
            ["technique", "destination", "declared", "packets", "sends"],
            disable_numparse=True,
            maxcolwidths=[None, 32, None, None, 36],
        ),
        "",
        *(f"Note: {clean(note)}" for note in made.notes),
        textwrap.fill(f"{_AGAIN} {_WALKS}" if made.settings.walk else _AGAIN, 100),
        (
            f"{len(made.checks)} rows, at most {made.budget.packets} packets that we start (SYNs, datagrams, writes), "
            f"at most {made.budget.seconds:g} s"
        ),
    ]
    return "\n".join(lines)


def _where(check: Check) -> str:
    """The destination, with what it is for."""
    kind = f" {check.self_test.value}" if check.self_test else ""
    purpose = f" ({check.purpose.value}{kind})" if check.purpose is not Purpose.POLICY else ""
    return clean(f"{check.destination}{purpose}")

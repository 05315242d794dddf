"""`egress-probe run`: plan, attempt, judge, print."""

import os
import sys
from contextlib import ExitStack
from typing import Any, TextIO

import click
import trio

from probe import latch
from probe.cli.options import (
    check_outputs,
    check_writable,
    output_options,
    policy_options,
    print_report,
    scenario_options,
)
from probe.cli.planning import Request, plan_for
from probe.cli.progress import Progress
from probe.codec import encode
from probe.documents import Plan
from probe.errors import UserError, first_user_error
from probe.evidence import Reader
from probe.files import write_text
from probe.judge import judge
from probe.orders import make_orders
from probe.report import Report
from probe.tokens import new_key


@click.command()
@policy_options
@scenario_options
@click.option("--evidence-out", metavar="FILE", help="Write the raw evidence, one JSON line per check.")
@output_options
def run(form: str, outputs: tuple[str, ...], fail_on: str, plan_out: str | None, evidence_out: str | None,
        **options: Any) -> int:  # fmt: skip
    """Try the planned paths from inside this sandbox, and say for each whether the declared policy holds.

    \b
    Examples:
      egress-probe run --policy egress-policy.toml --control api.example.com:443
      egress-probe run --policy openclaw.json --scenario documentation-ranges --format json
      egress-probe run --policy p.toml --plan-out plan.json --evidence-out evidence.jsonl

    Exit codes: 0 every check conforms, 1 a leak or an over-block, 2 usage or configuration, 3 something that should be
    proven was not.
    """
    check_outputs(form, outputs)
    for path in (plan_out, evidence_out):
        if path is not None:
            check_writable(path)
    forbid = latch.from_environment(os.environ)
    latch.check(forbid)
    plan = plan_for(Request(**options))
    if plan_out is not None:
        write_plan(plan, plan_out)
    return print_report(_attempt(plan, forbid, evidence_out, fail_on), form, outputs)


def write_plan(plan: Plan, path: str) -> None:
    """The plan as JSON."""
    import json

    write_text(path, json.dumps(encode(plan), indent=1) + "\n")


def _attempt(plan: Plan, forbid: str | None, evidence_out: str | None, fail_on: str) -> Report:
    from probe.run import run_in_place

    orders = make_orders(plan, new_key(), forbid)
    reader = Reader(plan)
    with ExitStack() as stack:
        copy = _open(stack, evidence_out)
        progress = stack.enter_context(Progress(len(orders.orders), sys.stderr))

        def sink(line: str) -> None:
            reader.feed(line)
            progress.line(line)
            if copy is not None:
                copy.write(line + "\n")

        try:
            trio.run(run_in_place, orders, sink, plan.budget.seconds)
        except BaseExceptionGroup as group:
            raise first_user_error(group) or group from None
    return judge(plan, reader.done(), fail_on)


def _open(stack: ExitStack, path: str | None) -> TextIO | None:
    if path is None:
        return None
    try:
        return stack.enter_context(open(path, "w", encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None

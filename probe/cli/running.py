"""One run as its options say it: plan, attempt, judge. What is done with the report is its callers' business."""

import functools
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple, TextIO

import click
import trio

from probe import latch
from probe.cli.far import TOKEN_VARIABLE, FarSide, far_end
from probe.cli.options import Finite, check_writable, policy_options, scenario_options, stack
from probe.cli.planning import Request, plan_for
from probe.cli.progress import Progress
from probe.cli.signals import noticed
from probe.codec import encode, to_line
from probe.documents import Evidence, FarEnd, Orders, Plan
from probe.errors import UserError, first_user_error, one_line
from probe.evidence import Reader
from probe.farclient import GRACE, wait_and_read
from probe.files import write_text
from probe.judge import IN_PLACE, Shipped, judge
from probe.orders import make_orders
from probe.report import Report
from probe.run import Ended, Sink, run_in_place, run_process
from probe.shipping import cache, ship
from probe.shipping.archive import Archive
from probe.targets import Launch, launch
from probe.tokens import new_key
from reports.style import clean

# Seconds beyond its budget and the grace for which a run stays registered at the collector.
_GRACE = 120.0

run_options = stack(
    policy_options,
    scenario_options,
    click.option("--evidence-out", metavar="FILE", help="Write the raw evidence, one JSON line per check."),
    click.option("--arrivals-out", metavar="FILE", help="Write what the collector saw, for `judge --arrivals`."),
    click.option("--grace", type=Finite(0, 86_400), default=GRACE, show_default=True, metavar="SECONDS",
                 help="How long late arrivals at the collector are waited for."),
    click.option("--collector-token-file", metavar="FILE",
                 help="The collector's bearer token (default: the variable EGRESS_PROBE_COLLECTOR_TOKEN)."),
    click.option("--via", metavar="TARGET",
                 help="Run the agent inside a sandbox: docker:CONTAINER, bwrap, srt … (see `run --help`)."),
    click.option("--python", default=ship.PYTHON, show_default=True, help="The Python inside (3.11 or newer)."),
    click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND…]"),
)  # fmt: skip


class Performed(NamedTuple):
    """The report, and what must be called once it is printed: writes what is left; raises UserError."""

    report: Report
    finish: Callable[[], None]


def check_files(options: Mapping[str, Any]) -> None:
    """Before anything is sent: what is to be written can be. Raises UserError."""
    for name in ("plan_out", "evidence_out", "arrivals_out"):
        if options[name] is not None:
            check_writable(options[name])


def perform(
    options: Mapping[str, Any],
    fail_on: str,
    default_witness: bool = True,
    sending: Callable[[], object] = lambda: None,
) -> Performed:
    """The run that the options of `run_options` name. `sending`: called when it begins to send. Raises UserError."""
    return _perform(fail_on=fail_on, default_witness=default_witness, sending=sending, **options)


def _perform(fail_on: str, default_witness: bool, sending: Callable[[], object], plan_out: str | None,
             evidence_out: str | None, arrivals_out: str | None, grace: float, via: str | None, python: str,
             command: tuple[str, ...], collector: str | None, collector_token_file: str | None,
             **options: Any) -> Performed:  # fmt: skip
    forbid = latch.from_environment(os.environ)
    launcher = _launcher(via, command)
    if launcher is None and python != ship.PYTHON:
        raise UserError(f"--python {python}: there is no launcher whose Python it could be (--via, or -- COMMAND)")
    if launcher is None:
        latch.check(forbid)  # a launcher may lead elsewhere: there the agent itself checks, before its first packet
    far = None if collector is None else far_end(collector, collector_token_file, os.environ)
    if arrivals_out is not None and far is None:
        raise UserError(f"--arrivals-out {arrivals_out}: there is no --collector whose arrivals could be written")
    plan = plan_for(Request(**options, collector=far.collector if far else None), default_witness)
    if plan_out is not None:
        write_plan(plan, plan_out)
    key = new_key()
    if far is not None:
        far.client.register(plan.run_id, key, plan.budget.seconds + grace + _GRACE, far.collector)
    copy = EvidenceFile(evidence_out)
    orders, shipped = make_orders(plan, key, forbid), IN_PLACE
    sending()
    if launcher is None:
        evidence = _attempt(plan, orders, copy, functools.partial(run_in_place, orders))
    else:
        agent = cache.get()
        # Of a command line of the user's only its first word: the others may hold secrets.
        shipped = Shipped(one_line(via or command[0]), agent.sha256)
        evidence = _attempt(plan, orders, copy, functools.partial(_launched, launcher, python, agent, orders))
    seen = None if far is None else _await_arrivals(key, far, grace)

    def finish() -> None:
        if arrivals_out is not None:
            write_text(arrivals_out, to_line(seen) + "\n", private=True)
        copy.check()

    return Performed(judge(plan, evidence, fail_on, seen, shipped), finish)


def _await_arrivals(key: bytes, far: FarSide, grace: float) -> FarEnd:
    if sys.stderr.isatty():
        click.echo(f"waiting {grace:g} s for late arrivals at the collector …", err=True)
    with noticed() as stop:
        found = wait_and_read(far.client, key, grace, lambda: math.inf if stop.came else time.monotonic())
    # What arrived has arrived; that nothing else did was not waited for.
    return replace(found, problem="the wait for late arrivals was cut short") if stop.came else found


class EvidenceFile:
    """Evidence lines as they come. A disk that fills up must not cost the report: it is said afterwards."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._problem: OSError | None = None
        self._file: TextIO | None = None
        if path is not None:
            try:
                self._file = open(path, "w", encoding="utf-8", buffering=1)  # noqa: SIM115 - closed by write or close
            except OSError as error:
                raise UserError(f"{path}: cannot be written: {error.strerror}") from None

    def write(self, line: str) -> None:
        """One line."""
        if self._file is not None:
            self._guarded(lambda file: file.write(line + "\n"))

    def check(self) -> None:
        """Close. Raises UserError if something was not written."""
        if self._file is not None:
            self._guarded(lambda file: file.close())
        if self._problem is not None:
            raise UserError(f"{self._path}: cannot be written: {self._problem.strerror}")

    def _guarded(self, act: Callable[[TextIO], object]) -> None:
        assert self._file is not None
        try:
            act(self._file)
        except OSError as error:
            self._problem = error
            with suppress(OSError):
                self._file.close()
            self._file = None


def write_plan(plan: Plan, path: str) -> None:
    """The plan as JSON."""
    import json

    write_text(path, json.dumps(encode(plan), indent=1) + "\n")


def _launcher(via: str | None, command: tuple[str, ...]) -> Launch | None:
    """What starts the agent; None: it runs in place. Raises UserError."""
    if via is not None:
        return launch(via, command)
    return Launch(command) if command else None


def _names(plan: Plan, orders: Orders) -> dict[int, str]:
    """What the progress line calls the checks; nobody sees it off a terminal."""
    ordered = {order.n for order in orders.orders} if sys.stderr.isatty() else ()
    return {c.n: clean(f"{c.channel.value} {c.destination}") for c in plan.checks if c.n in ordered}


def _attempt(plan: Plan, orders: Orders, copy: EvidenceFile, play: Callable[[Sink], Ended | None]) -> Evidence:
    reader = Reader(plan)
    with Progress(_names(plan, orders), plan.budget.seconds, sys.stderr) as progress:

        def sink(line: str) -> bool:
            more = reader.feed(line)
            progress.line(line)
            copy.write(line)
            return more

        try:
            ended = play(sink)
        except BaseExceptionGroup as group:
            raise first_user_error(group) or group from None
    if ended is not None:
        reader.explain(ended.problem())
    return reader.done()


def _launched(launcher: Launch, python: str, agent: Archive, orders: Orders, sink: Sink) -> Ended:
    """The collector's bearer token stays outside: the collector is a witness against the inside."""
    words = launcher.command(ship.argv(python))
    return trio.run(run_process, words, orders, sink, ship.payload(agent), TOKEN_VARIABLE, launcher.cleanup)

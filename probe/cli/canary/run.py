"""`egress-probe canary run`: one scheduled run."""

import contextlib
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from probe.canary import Schedule
from probe.cli.canary.book import TROUBLE, Book, held, say
from probe.cli.canary.place import damping, place, place_options
from probe.cli.options import (
    Finite,
    check_formats,
    check_outputs,
    check_writable,
    output_options,
    print_report,
    stack,
)
from probe.cli.running import check_files, perform, run_options
from probe.cli.signals import noticed
from probe.errors import UserError
from probe.history.lock import BusyError
from probe.history.store import KEEP
from probe.telling import unique

if TYPE_CHECKING:
    from probe.alerts.base import Channel

LEAK, UNPROVEN = 1, 3

canary_options = stack(
    place_options,
    click.option("--alert", "alerts", multiple=True, metavar="CHANNEL=VALUE",
                 help="Tell changes there: webhook, slack, syslog, journald, command (docs/canary.md)."),
    click.option("--damp", default="3/4", show_default=True, metavar="K/N",
                 help="Tell a change when K of the last N runs show it; a leak is told at once."),
    click.option("--blind", type=click.IntRange(1, 100), default=3, show_default=True, metavar="N",
                 help="Tell a path that was unproven in N runs in a row."),
    click.option("--keep", type=click.IntRange(1, 1_000_000), default=KEEP, show_default=True, metavar="N",
                 help="Runs that the history holds."),
    click.option("--metrics", metavar="FILE",
                 help="Write Prometheus metrics there, for node_exporter's textfile collector."),
    click.option("--splay", type=Finite(0, 86_400), default=0.0, metavar="SECONDS",
                 help="Wait a random time first, at most so long."),
)  # fmt: skip


@click.command(short_help="One scheduled run.")
@run_options
@canary_options
@output_options
def run(form: str, outputs: tuple[str, ...], fail_on: str, name: str, history: str | None, alerts: tuple[str, ...],
        damp: str, blind: int, keep: int, metrics: str | None, splay: float, **options: Any) -> int:  # fmt: skip
    """One run as `egress-probe run` makes it: stored, compared with the last known good run, told where it changed.

    One at a time: a second one ends with 3. Without --witness none is used. Random addresses are the same in every run
    (--seed: the canary's name), so that runs can be compared.

    \b
    Examples:
      egress-probe canary run --policy egress-policy.toml --control api.example.com:443
      egress-probe canary run --name box --policy p.toml --via docker:box --alert slack=@slack.url
      egress-probe canary run --policy p.toml --alert syslog=local --metrics /var/lib/node_exporter/probe.prom

    Exit codes: 0 every check conforms, 1 a leak or an over-block, 2 usage, configuration or a disk that is full, 3
    something that should be proven was not, or another run is going on.
    """
    check_formats(form, outputs)
    channels, problems = make_channels(alerts)
    path = place(name, history)
    names = tuple(channel.name for channel in channels)
    schedule = Schedule(name, damping(damp, blind), keep, names, broken=bool(problems))
    options["seed"] = options["seed"] or name
    time.sleep(random.uniform(0, splay))
    files = Files(form, outputs, metrics)
    try:
        with held(path) as lock, Book(path, schedule, channels, lock, problems) as book:
            return _scheduled(book, options, fail_on, files)
    except BusyError as error:
        say(str(error))
        return UNPROVEN


class Files(NamedTuple):
    """What is written beside the history."""

    form: str
    outputs: tuple[str, ...]
    metrics: str | None

    def check(self, options: dict[str, Any]) -> None:
        """Before anything is sent. Raises UserError."""
        check_files(options)
        check_outputs(self.form, self.outputs)
        if self.metrics is not None:
            check_writable(self.metrics)


def _scheduled(book: Book, options: dict[str, Any], fail_on: str, files: Files) -> int:
    """A leak is stored and told before anything else can fail, and its exit code stands whatever does."""
    began, clock = time.time(), time.monotonic()
    # From the first packet on SIGTERM waits until what was found is told; that is bounded. The agent hears it too.
    with contextlib.ExitStack() as held_back:
        try:
            files.check(options)
            # A canary never asks a host of a third party without being told to.
            report, finish = perform(options, fail_on, False, lambda: held_back.enter_context(noticed()))
        except UserError as error:
            held_back.enter_context(noticed())
            book.failed(str(error), began)
            book.attempt(lambda: _write_metrics(book, files))
            raise
        done = book.keep(report, began, time.monotonic() - clock)
        book.tell(done.alerts)
    book.attempt(lambda: print_report(done.report, files.form, files.outputs))
    book.attempt(finish)
    book.attempt(lambda: _write_metrics(book, files))
    status = done.report.summary.exit_code
    return LEAK if status == LEAK else TROUBLE if book.troubles else status


def make_channels(given: Sequence[str]) -> tuple[tuple["Channel", ...], tuple[str, ...]]:
    """`slack=@FILE` … as channels, and what is wrong with those that cannot be had: the others are told.

    Raises UserError for a word that is no channel. No value is repeated: it may be a secret.
    """
    if not given:
        return (), ()
    from probe.alerts import CHANNELS  # a run that tells nobody need not load them

    found, problems = [], []
    for text in given:
        kind, equals, value = text.partition("=")
        if kind not in CHANNELS or not (equals or kind == "journald"):
            raise UserError(f"--alert: expected CHANNEL=VALUE, with one of {', '.join(CHANNELS)}")
        try:
            found.append(CHANNELS[kind](value or "local"))
        except UserError as error:
            problems.append(str(error))
    return unique(found), tuple(problems)


def checked_channels(given: Sequence[str]) -> None:
    """The same, where nothing is told yet: one that cannot be had is the user's mistake. Raises UserError."""
    for problem in make_channels(given)[1]:
        raise UserError(problem)


def _write_metrics(book: Book, files: Files) -> None:
    """From what the history says now."""
    if files.metrics is not None:
        from probe.figures import figures
        from probe.metrics import write_textfile

        write_textfile(figures(book.schedule.name, book.path), files.metrics)

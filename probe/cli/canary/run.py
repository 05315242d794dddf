"""`egress-probe canary run`: one scheduled run."""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from probe.alerts import CHANNELS
from probe.alerts.base import Channel
from probe.canary import Schedule, assemble
from probe.cli.canary.book import TROUBLE, Book, held
from probe.cli.canary.place import checked_name, damping, place, place_options
from probe.cli.options import Finite, check_outputs, output_options, print_report, stack
from probe.cli.running import check_files, perform, run_options
from probe.errors import UserError
from probe.history.lock import BusyError
from probe.history.store import KEEP
from probe.telling import unique

LEAK, UNPROVEN = 1, 3

canary_options = stack(
    place_options,
    click.option("--alert", "alerts", multiple=True, metavar="CHANNEL=VALUE",
                 help=f"Tell changes there: {', '.join(CHANNELS)} (docs/canary.md)."),
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
    check_outputs(form, outputs)
    check_files(options)
    path = place(name, history)
    channels = make_channels(alerts)
    schedule = Schedule(checked_name(name), damping(damp, blind), keep, tuple(channel.name for channel in channels))
    options["seed"] = options["seed"] or name
    time.sleep(random.uniform(0, splay))
    try:
        with held(path) as trouble, Book(path, schedule, channels, trouble) as book:
            return _scheduled(book, options, fail_on, form, outputs)
    except BusyError as error:
        click.echo(f"egress-probe: {error}", err=True)
        return UNPROVEN
    finally:
        if metrics is not None:
            _write_metrics(name, path, metrics)


def _scheduled(book: Book, options: dict[str, Any], fail_on: str, form: str, outputs: tuple[str, ...]) -> int:
    began, clock = time.time(), time.monotonic()
    try:
        # A canary never asks a host of a third party without being told to.
        report, finish = perform(options, fail_on, default_witness=False)
    except UserError as error:
        book.failed(str(error), began)
        raise
    done = assemble(report, book.past, book.schedule, book.noticed)
    book.keep(done, began, time.monotonic() - clock)
    status = print_report(done.report, form, outputs)
    book.tell(done.alerts)
    finish()
    return LEAK if status == LEAK else TROUBLE if book.trouble else status


def make_channels(given: Sequence[str]) -> tuple[Channel, ...]:
    """`slack=@FILE` … as channels. Raises UserError, which never repeats a value: it may be a secret."""
    found = []
    for text in given:
        kind, equals, value = text.partition("=")
        if kind not in CHANNELS or not (equals or kind == "journald"):
            raise UserError(f"--alert: expected CHANNEL=VALUE, with one of {', '.join(CHANNELS)}")
        found.append(CHANNELS[kind](value))
    return unique(found)


def _write_metrics(name: str, path: Path, target: str) -> None:
    """From what the history says now."""
    from probe.figures import figures
    from probe.metrics import write_textfile

    write_textfile(figures(name, path), target)

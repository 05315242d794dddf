"""`egress-probe canary watch`: scheduled runs from one long-running process."""

import random
import time
from pathlib import Path
from typing import Any

import click
import trio

from probe.canary import Schedule
from probe.cli.again import OURSELVES, words_again
from probe.cli.canary.book import Book, held, say
from probe.cli.canary.place import damping, place, span
from probe.cli.canary.run import canary_options, checked_channels, make_channels
from probe.cli.options import check_outputs, output_options
from probe.cli.running import check_files, run_options
from probe.errors import UserError
from probe.watching import Pace, run_child, until_signal
from probe.watching import watch as watching

_OWN = ("every", "jitter", "limit", "listen")
SHORTEST = 30.0


@click.command(short_help="Scheduled runs from one long-running process.")
@click.option("--every", required=True, metavar="SPAN", help="15m, 6h …: from the start of one run to the next.")
@click.option("--jitter", metavar="SPAN", help="Each run begins up to so much later (default: a tenth of --every).")
@click.option("--limit", default="1h", show_default=True, metavar="SPAN", help="A run that takes longer is ended.")
@click.option("--listen", metavar="ADDRESS:PORT", help="Serve Prometheus metrics there: 127.0.0.1:9799.")
@run_options
@canary_options
@output_options
@click.pass_context
def watch(context: click.Context, /, every: str, jitter: str | None, limit: str, listen: str | None, name: str,
          history: str | None, alerts: tuple[str, ...], damp: str, blind: int, keep: int, form: str,
          outputs: tuple[str, ...], **options: Any) -> int:  # fmt: skip
    """`canary run` again and again. It outlives suspend, clock steps, a full disk and a sandbox that is gone.

    Each run is a process of its own. After a suspend one run begins at once: what was missed is not made up for.
    SIGTERM ends it; a run that is going on stores what it has. Where systemd or cron is, `canary install` is simpler.

    \b
    Examples:
      egress-probe canary watch --every 15m --policy egress-policy.toml --alert syslog=local
      egress-probe canary watch --every 1h --listen 127.0.0.1:9799 --policy p.toml --via docker:box

    Exit codes: 0 ended by SIGTERM or SIGINT, 2 usage or configuration.
    """
    check_outputs(form, outputs)
    check_files(options)
    damping(damp, blind)
    checked_channels(alerts)
    path = place(name, history)
    pace, longest = _pace(every, jitter), span(limit, "--limit")
    command = (*OURSELVES, "canary", "run", *words_again(context, _OWN))
    metrics = _serve(listen, name, path) if listen is not None else None

    async def once() -> None:
        status = await run_child(command, longest)
        if isinstance(status, str):
            # It could not say so itself. In a thread, because alerts have an event loop of their own.
            await trio.to_thread.run_sync(record, status)
        else:
            say(f"{name}: the run ended with {status}")

    def record(problem: str) -> None:
        channels, _ = make_channels(alerts)
        schedule = Schedule(name, damping(damp, blind), keep, tuple(channel.name for channel in channels))
        try:
            with held(path) as lock, Book(path, schedule, channels, lock) as book:
                book.failed(problem, time.time())
        except UserError as error:
            say(f"{name}: {problem}; {error}")

    async def work() -> None:
        await watching(pace, once, random.random)

    say(f"{name}: a run every {every}; its history is {path}")
    try:
        trio.run(until_signal, work)
    finally:
        if metrics is not None:
            metrics.close()
    return 0


def _pace(every: str, jitter: str | None) -> Pace:
    seconds = span(every, "--every")
    if seconds < SHORTEST:
        raise UserError(f"--every {every}: expected at least {SHORTEST:g}s")
    late = seconds / 10 if jitter is None else span(jitter, "--jitter")
    if late >= seconds:
        raise UserError(f"--jitter {jitter}: expected less than --every {every}")
    return Pace(seconds, late)


def _serve(listen: str, name: str, path: Path) -> Any:
    from probe.figures import figures
    from probe.metrics import serve

    return serve(listen, lambda: figures(name, path))

"""A canary's history as figures for metrics."""

from pathlib import Path
from typing import cast, get_args

from probe import __version__
from probe.alert import Kind
from probe.history.reading import Run
from probe.history.store import History
from probe.metrics import Figures, LastRun
from probe.model import Verdict
from probe.standing import standing


def figures(name: str, path: Path) -> Figures:
    """What the history says now. Raises UserError where there is none, or it cannot be read."""
    with History(path, read_only=True) as history:
        found = standing(history, name)
    return Figures(
        canary=name,
        version=__version__,
        last=None if found.last is None else _last(found.last),
        good=None if found.good is None else found.good.started + found.good.seconds,
        made=0 if found.last is None else found.last.number,
        runs=found.exits,
        alerts={cast("Kind", kind): number for kind, number in found.alerts.items() if kind in get_args(Kind)},
        undelivered=found.undelivered,
        given_up=found.dead_letters,
        size=found.bytes,
    )


def _last(run: Run) -> LastRun:
    verdicts = {verdict: int(getattr(run, verdict.value)) for verdict in Verdict}
    return LastRun(run.started, run.started + run.seconds, run.exit_code, run.complete, verdicts)

"""The phase that measures the network: the controls' round trips, and how many of their first tries were missed."""

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from probe.attempting import Attempting
from probe.documents import Attempt, Calibration
from probe.engine import Connect, connect_many
from probe.timing import LONGEST, SAMPLES, Deadlines, estimate, lost_answer, tries_for

_GAP = 0.02
_ONE_TRY = Deadlines(LONGEST, LONGEST, 1)


@dataclass(slots=True)
class _Samples:
    elapsed: list[float] = field(default_factory=list)  # of those that were answered
    tried: int = 0
    missed: int = 0  # … whose first SYN was not answered in time


async def calibrate(run: Attempting, targets: int) -> Calibration:
    """Sets the run's deadlines for `targets` rows. Loopback says nothing of the network and is not sampled."""
    found, answered = _Samples(), _answered_controls(run)
    for attempt in answered:
        found.elapsed.append(attempt.elapsed)
        found.tried += 1
        found.missed += attempt.tries > 1
    await _sample(run, answered, found)
    tries = tries_for(targets, found.tried, found.missed, run.settings.tries)
    run.deadlines = run.held_for(run.settings.deadline or estimate(found.elapsed), tries)
    lost = lost_answer(run.deadlines, found.tried, found.missed)
    total = round(run.deadlines.total, 6)
    return Calibration(total, found.tried, found.missed, tries, None if lost is None else round(lost, 9))


def _answered_controls(run: Attempting) -> list[Attempt]:
    return [
        attempt
        for order, attempts in run.held.values()
        for attempt in attempts
        if order.early and attempt.step == "connect" and attempt.result == "connected"
        if attempt.address != attempt.source
    ]


async def _sample(run: Attempting, answered: list[Attempt], found: _Samples) -> None:
    """Further connects, one try each, a little apart: a share of lost first tries needs more than one sample."""

    def done(target: Connect) -> None:
        found.tried += target.result != "error"
        if target.result == "connected":
            found.elapsed.append(target.elapsed)
        elif target.result == "silent":
            found.missed += 1

    async with trio.open_nursery() as nursery:
        for attempt in answered:
            for index in range(SAMPLES):
                target = Connect(attempt.address or "", attempt.port or 0)
                nursery.start_soon(_later, index * _GAP, target, run, done)


async def _later(seconds: float, target: Connect, run: Attempting, done: Callable[[Connect], None]) -> None:
    await trio.sleep(seconds)
    await connect_many([target], _ONE_TRY, run.pace, done, 1)

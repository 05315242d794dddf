"""When the next run is due, and starting it: each run is a process of its own, so that one that hangs or dies is over.

Time is CLOCK_BOOTTIME: it goes on during suspend and never steps. What was missed is not made up for: one run, at once.
"""

import math
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

# Monotonic time stands still during suspend, so that a long sleep would end too late.
_NAP: Final = 10.0
_GRACE: Final = 40.0  # seconds that a run gets to end and store what it has


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds. `jitter`: each run begins up to so much later than it is due."""

    every: float
    jitter: float


def boottime() -> float:
    """Seconds since the machine started, suspend included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def next_due(due: float, now: float, every: float) -> float:
    """When the run after the one that was due at `due` is due. Whole intervals that passed are left out."""
    return due + every * max(1, math.ceil((now - due) / every))


async def watch(
    pace: Pace,
    start: Callable[[], Awaitable[object]],
    random: Callable[[], float],
    clock: Callable[[], float] = boottime,
) -> None:
    """Call `start` again and again, until it is cancelled. `random`: from 0 up to 1."""
    due = clock()
    while True:
        await _sleep_until(due + random() * pace.jitter, clock)
        await start()
        due = next_due(due, clock(), pace.every)


async def _sleep_until(moment: float, clock: Callable[[], float]) -> None:
    while (left := moment - clock()) > 0:
        await trio.sleep(min(left, _NAP))


async def until_signal(work: Callable[[], Awaitable[None]]) -> None:
    """`work`, until SIGTERM or SIGINT comes: then it is cancelled, and this returns."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def stop() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(stop)
            await work()


async def run_child(command: Sequence[str], limit: float = math.inf, grace: float = _GRACE) -> int | str:
    """The command's exit status; or why it has none of its own. Where it is ended it gets SIGTERM, then SIGKILL.

    `limit`: seconds; it is ended after that. So it is where this is cancelled.
    """

    async def ask_to_end(process: trio.Process) -> None:
        with suppress(ProcessLookupError):
            process.terminate()
        with trio.move_on_after(grace, shield=True):
            await process.wait()
        with suppress(ProcessLookupError):
            process.kill()

    with trio.move_on_after(limit):
        try:
            done: subprocess.CompletedProcess[bytes] = await trio.run_process(
                command, check=False, stdin=subprocess.DEVNULL, deliver_cancel=ask_to_end, start_new_session=True
            )
        except OSError as error:
            return f"it could not be started: {error.strerror}"
        return done.returncode if done.returncode >= 0 else f"it was ended by signal {-done.returncode}"
    return f"it was ended after {limit:g} s"

"""The inside half: orders in, one JSON line of evidence per check out. It knows no policy and judges nothing.

The phases of a run stand in phases.py; here are its doors: stdin and stdout, the latch, the hard deadline. trio is
imported only where it can start: a filter may refuse what its loop needs, and then loopless.py answers.
"""

import math
import os
import signal
import sys
from contextlib import suppress

from probe import latch, loopless
from probe.codec import DecodeError, decode, parse_json, to_line
from probe.documents import Orders
from probe.errors import UserError, first_user_error
from probe.loopless import Emit

# Seconds that a loop which no longer turns is given after its deadline.
_HARD = 10.0
# … and seconds for the orders to come: a connection that was lost keeps stdin open.
_PATIENCE = 60.0


async def run_orders(orders: Orders, emit: Emit) -> None:
    """Attempt everything that is ordered. `emit` gets Start, Calibration, Records and End. Raises LatchError."""
    from probe.phases import run

    latch.check(orders.forbid_netns, latch.from_environment(os.environ))
    await run(orders, emit)


def attempt(orders: Orders, emit: Emit, reader: int | None = None) -> None:
    """Everything that is ordered, with an event loop or, where none can start, without; until a signal or the deadline.

    `reader`: a descriptor; when nobody reads it any more, the run is over. Raises LatchError.
    """
    latch.check(orders.forbid_netns, latch.from_environment(os.environ))
    if loopless.problem() is not None:
        loopless.run(orders, emit)
        return
    import trio

    from probe.supervised import supervised

    trio.run(supervised, orders, emit, reader)


def read_orders(text: str) -> Orders:
    """One line of orders. Raises UserError."""
    try:
        return decode(Orders, parse_json(text, "orders"))
    except DecodeError as error:
        raise UserError(f"orders: {error}") from None


def main() -> int:
    """Orders as one line on stdin, evidence lines on stdout. Exit 0, or 2 with one line on stderr."""

    def emit(line: object) -> None:
        sys.stdout.write(to_line(line) + "\n")
        sys.stdout.flush()

    if sys.stdin is None or sys.stdout is None:
        print("egress-probe agent: stdin and stdout are needed: orders in, evidence out", file=sys.stderr)
        return 2
    status = 0
    _end_by_force(_PATIENCE)
    try:
        orders = read_orders(sys.stdin.readline())
        _end_by_force(orders.seconds)
        attempt(orders, emit, sys.stdout.fileno())
    except* UserError as errors:
        print(f"egress-probe agent: {first_user_error(errors)}", file=sys.stderr)
        status = 2
    except* BrokenPipeError:
        status = 1  # nobody reads the evidence any more, and Python must not say so at exit
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except* (OSError, ImportError) as errors:
        # A sandbox that refuses what the probe itself needs, a descriptor say: one line, and no verdict comes of it.
        status = 1
        print(f"egress-probe agent: refused what it needs itself: {_first(errors)}", file=sys.stderr)
    return status


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _end_by_force(seconds: float | None) -> None:
    """Whoever ends `docker exec`, `ssh` or `kubectl` ends the client only: the agent must end by itself, always.

    A handler of our own, because the first process of a PID namespace ignores signals that have none.
    """
    if seconds is not None:
        signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})  # a launcher may have blocked it
        signal.alarm(math.ceil(seconds + _HARD))


if __name__ == "__main__":
    sys.exit(main())

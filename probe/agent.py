"""The inside half: orders in, one JSON line of evidence per check out. It knows no policy and judges nothing.

The phases of a run stand in phases.py; here are its doors: stdin and stdout, the latch, signals.
"""

import os
import signal
import sys

import trio

from probe import latch
from probe.attempting import Emit
from probe.codec import DecodeError, decode, parse_json, to_line
from probe.documents import Orders
from probe.errors import UserError, first_user_error
from probe.phases import run


async def run_orders(orders: Orders, emit: Emit) -> None:
    """Attempt everything that is ordered. `emit` gets Start, Calibration, Records and End. Raises LatchError."""
    latch.check(orders.forbid_netns, latch.from_environment(os.environ))
    await run(orders, emit)


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

    async def until_stopped(orders: Orders) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:

                async def work() -> None:
                    await run_orders(orders, emit)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(work)
                async for _ in signals:
                    nursery.cancel_scope.cancel()
                    break

    status = 0
    try:
        trio.run(until_stopped, read_orders(sys.stdin.readline()))
    except* UserError as errors:
        print(f"egress-probe agent: {first_user_error(errors)}", file=sys.stderr)
        status = 2
    except* BrokenPipeError:
        status = 1  # nobody reads the evidence any more
    return status


if __name__ == "__main__":
    sys.exit(main())

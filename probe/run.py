"""The controller's side of a run: orders to an agent, evidence lines back. In place, or in a process of its own.

Both ways pass the same two documents as text, so that nothing can slip past the boundary between the halves.
"""

import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from probe.agent import run_orders
from probe.codec import to_line
from probe.documents import Orders
from probe.errors import UserError
from probe.evidence import LONGEST_LINE

Sink = Callable[[str], object]
_STOPS = (signal.SIGINT, signal.SIGTERM)
# Seconds beyond its own budget that an agent is given before it is ended.
_GRACE = 15.0


@asynccontextmanager
async def _until_stopped() -> AsyncIterator[trio.CancelScope]:
    """A scope that SIGINT and SIGTERM cancel: what was done until then is still reported."""
    with trio.open_signal_receiver(*_STOPS) as signals:
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                async for _ in signals:
                    scope.cancel()

            with trio.CancelScope() as scope:
                nursery.start_soon(wait)
                yield scope
            nursery.cancel_scope.cancel()


async def run_in_place(orders: Orders, sink: Sink, seconds: float) -> None:
    """Play the agent in this process. `sink` gets every evidence line. Raises LatchError."""
    async with _until_stopped() as scope:
        scope.deadline = trio.current_time() + seconds + _GRACE

        def emit(line: object) -> None:
            sink(to_line(line))

        await run_orders(orders, emit)


async def run_process(command: Sequence[str], orders: Orders, sink: Sink, seconds: float) -> None:
    """Start `command`, give it the orders on stdin, take its lines until it ends. Raises UserError where it cannot."""
    async with _until_stopped() as scope, trio.open_nursery() as nursery:
        scope.deadline = trio.current_time() + seconds + _GRACE
        try:
            process = await trio.lowlevel.open_process(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise UserError(f"{command[0]}: cannot be started: {error.strerror}") from None
        try:
            nursery.start_soon(_give, process, to_line(orders) + "\n")
            await _take(process, sink)
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()


async def _give(process: trio.Process, text: str) -> None:
    assert process.stdin is not None
    async with process.stdin:
        try:
            await process.stdin.send_all(text.encode())
        except trio.BrokenResourceError:
            return  # it left before it read its orders: the missing evidence says so


async def _take(process: trio.Process, sink: Sink) -> None:
    """Lines, each at most so long that a flood cannot fill the memory: the rest of a longer one is dropped."""
    assert process.stdout is not None
    pending = bytearray()
    async for part in process.stdout:
        pending += part
        while (end := pending.find(b"\n")) >= 0:
            sink(pending[:end].decode("utf-8", "replace"))
            del pending[: end + 1]
        del pending[LONGEST_LINE + 1 :]
    if pending:
        sink(pending.decode("utf-8", "replace"))

"""The controller's side of a run: orders to an agent, evidence lines back. In place, or in a process of its own.

Both ways pass the same two documents as text, so that nothing can slip past the boundary between the halves.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import trio

from probe.agent import attempt
from probe.codec import to_line
from probe.documents import Orders
from probe.errors import UserError, one_line
from probe.evidence import LONGEST_LINE

# Takes one evidence line. False: enough, the rest need not be read.
Sink = Callable[[str], object]
_STOPS = (signal.SIGINT, signal.SIGTERM)
# Seconds beyond the agent's own deadline: a launcher may start slowly.
_GRACE = 30.0
# … and what is left to a launcher to end after the agent's last line.
_FAREWELL = 3.0
_MOST_SAID = 4096  # bytes that are kept of what a launcher says on stderr


@dataclass(frozen=True, slots=True)
class Ended:
    """How a launcher ended. `status`: as of subprocess, None where we ended it; `said`: the end of its stderr."""

    status: int | None
    said: str = ""

    def problem(self) -> str | None:
        """What a reader must know of it: a plain sentence; None where it ended well."""
        if self.status == 0:
            return None
        how = (
            "had to be ended"
            if self.status is None
            else f"ended with status {self.status}"
            if self.status > 0
            else f"was ended by signal {-self.status}"
        )
        # A traceback of several exceptions is framed.
        lines = [line.strip("|+- \t") for line in self.said.splitlines() if line.strip("|+- \t")]
        return f"the launcher {how}" + (f": {one_line(lines[-1])[:200]}" if lines else "")


def run_in_place(orders: Orders, sink: Sink) -> None:
    """Play the agent in this process. `sink` gets every evidence line. Raises LatchError."""

    def emit(line: object) -> None:
        sink(to_line(line))

    attempt(orders, emit)


async def run_process(
    command: Sequence[str],
    orders: Orders,
    sink: Sink,
    before: bytes = b"",
    without: str | None = None,
    cleanup: Sequence[str] = (),
    grace: float = _GRACE,
) -> Ended:
    """Start `command`, give it the orders on stdin, take its lines until it ends. Raises UserError where it cannot.

    `before`: what goes ahead of the orders: the agent itself. `without`: a variable that it does not inherit. The
    process group is ended in any case, `grace` seconds after the agent's own deadline at the latest; `cleanup`: a
    command for what lives on after that.
    """
    said = bytearray()
    status = None
    try:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != without},
        )
    except OSError as error:
        raise UserError(f"{command[0]}: cannot be started: {error.strerror}") from None
    try:
        async with trio.open_nursery() as nursery:
            scope = nursery.cancel_scope
            scope.deadline = trio.current_time() + (orders.seconds or 0.0) + grace
            nursery.start_soon(_give, process, before + to_line(orders).encode() + b"\n")
            nursery.start_soon(_overhear, process, said)
            nursery.start_soon(_pass_on, process, scope)
            nursery.start_soon(_until_ended, process, scope)
            await _take(process, sink, scope)
            _hurry(scope)
            await process.wait()
            scope.cancel()
        status = process.returncode
    finally:
        _signal(process, signal.SIGKILL)  # the whole group: a launcher's helpers, and what it left running
        with trio.move_on_after(_FAREWELL, shield=True):  # what runs as another user may not be ours to end
            await process.wait()
        if cleanup and status != 0:
            await _clean_up(cleanup)
    return Ended(status, said.decode("utf-8", "replace"))


async def _clean_up(command: Sequence[str]) -> None:
    """Whatever it says: mostly that there is nothing to clean up."""
    with trio.move_on_after(4 * _FAREWELL, shield=True), suppress(OSError):
        await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)


def _hurry(scope: trio.CancelScope) -> None:
    scope.deadline = min(scope.deadline, trio.current_time() + _FAREWELL)


async def _until_ended(process: trio.Process, scope: trio.CancelScope) -> None:
    """A launcher that died may leave a child that waits for it, and holds the pipe open."""
    await process.wait()
    _hurry(scope)


async def _pass_on(process: trio.Process, scope: trio.CancelScope) -> None:
    """A signal to stop is passed on, so that an agent which gets it can still say what was done."""
    with trio.open_signal_receiver(*_STOPS) as signals:
        async for _ in signals:
            _signal(process, signal.SIGTERM)
            _hurry(scope)


def _signal(process: trio.Process, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # PermissionError: what is left of it runs as another user
        os.killpg(process.pid, number)


async def _give(process: trio.Process, data: bytes) -> None:
    assert process.stdin is not None
    async with process.stdin:
        try:
            await process.stdin.send_all(data)
        except trio.BrokenResourceError:
            return  # it left before it read its orders: the missing evidence says so


async def _overhear(process: trio.Process, said: bytearray) -> None:
    """The end of what it says on stderr; a flood of it is read and forgotten."""
    assert process.stderr is not None
    async for part in process.stderr:
        said += part
        del said[:-_MOST_SAID]


async def _take(process: trio.Process, sink: Sink, scope: trio.CancelScope) -> None:
    """Lines, each at most so long that a flood cannot fill the memory: the rest of a longer one is dropped."""
    assert process.stdout is not None
    pending = bytearray()
    async for part in process.stdout:
        pending += part
        while (end := pending.find(b"\n")) >= 0:
            if b'"kind":"end"' in pending[:end]:
                _hurry(scope)  # something that lives on may hold the pipe open
            if sink(pending[:end].decode("utf-8", "replace")) is False:
                return
            del pending[: end + 1]
        del pending[LONGEST_LINE + 1 :]
    if pending:
        sink(pending.decode("utf-8", "replace"))

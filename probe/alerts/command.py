"""Channel `command`: a program of the user's own gets the alert as JSON on stdin.

Value: its command line, which no shell reads. It takes the alert by exiting with 0. What it writes goes nowhere: it may
hold secrets of its own.
"""

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping

import trio

from probe import latch
from probe.alert import Alert
from probe.alerts.base import Channel, DeliveryError, system_words
from probe.alerts.words import MOST_LINE, short
from probe.codec import to_line
from probe.errors import UserError, one_line

OPTION = "--alert command"
DEADLINE = 30.0  # seconds
_PREFIX = "EGRESS_PROBE_"


def make(value: str, deadline: float = DEADLINE) -> Channel:
    """The channel; `deadline` in seconds. Raises UserError, which shows the program at most, never its arguments."""
    try:
        words = shlex.split(value)
    except ValueError:  # an open quotation
        words = []
    if not words or "\0" in value:
        raise UserError(f"{OPTION}: expected PROGRAM ARGUMENTS…, with every quotation closed")
    if "=" in words[0]:
        raise UserError(f"{OPTION}: starts with VARIABLE=…, and no shell runs it: expected a program, such as env")
    program = shutil.which(words[0])
    if program is None:
        raise UserError(f"{OPTION}: {words[0]}: no program of that name can be run")

    async def send(alert: Alert) -> None:
        stdin = to_line(alert).encode("ascii") + b"\n"
        await _run((program, *words[1:]), stdin, environment(os.environ, alert), deadline)

    return Channel(f"command {one_line(os.path.basename(words[0]))}", send)


def environment(inherited: Mapping[str, str], alert: Alert) -> dict[str, str]:
    """What the program gets: everything inherited except our own variables, which hold secrets; and the alert's."""
    # The latch stays: the program may be one of ours.
    kept = {name: value for name, value in inherited.items() if not name.startswith(_PREFIX) or name == latch.VARIABLE}
    told = {
        "ALERT": alert.id,
        "CANARY": alert.canary,
        "KIND": alert.change.kind,
        "LINE": alert.change.line,
        "RUN_ID": alert.run_id or "",
        "SEVERITY": alert.severity,
    }
    return kept | {_PREFIX + name: short(value, MOST_LINE) for name, value in told.items()}


async def _run(words: tuple[str, ...], stdin: bytes, variables: dict[str, str], deadline: float) -> None:
    try:
        # A session of its own: a group that can be ended as a whole, and no terminal to ask at.
        process = await trio.lowlevel.open_process(
            words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=variables, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise DeliveryError(f"it cannot be started: {system_words(error)}", again=True) from None
    try:
        with trio.fail_after(deadline):
            status = await _fed(process, stdin)
    except trio.TooSlowError:
        raise DeliveryError(f"it did not end within {deadline:g} s", again=True) from None
    finally:
        await _ended(process)
    if status:
        how = f"signal {-status}" if status < 0 else f"status {status}"
        raise DeliveryError(f"it ended with {how}", again=True)


async def _fed(process: trio.Process, stdin: bytes) -> int:
    """Its status. It need not read what it is given."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_feed, process, stdin)
        status = await process.wait()
        nursery.cancel_scope.cancel()
    return status


async def _feed(process: trio.Process, stdin: bytes) -> None:
    assert process.stdin is not None
    try:
        async with process.stdin:
            await process.stdin.send_all(stdin)
    except trio.BrokenResourceError:
        pass


async def _ended(process: trio.Process) -> None:
    """Ends the whole group, where the program has not ended by itself. Until it is waited for, its id is its own."""
    assert process.stdin is not None
    with trio.CancelScope(shield=True):
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        await process.stdin.aclose()

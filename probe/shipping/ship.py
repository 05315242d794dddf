"""What starts the agent inside, and what it is sent: a short boot line as argument, everything else on stdin.

The boot line has no quote of either kind but its own, no `$`, no backslash and no newline, so that it survives shells.
"""

from pathlib import Path

from probe.shipping.archive import Archive

PYTHON = "python3"
# The alarm ends it where nothing is ever sent and stdin stays open.
BOOT = "import signal,sys;signal.alarm(99);b=sys.stdin.buffer;exec(b.read(int(b.readline())))"


def argv(python: str = PYTHON) -> tuple[str, ...]:
    """What is appended to a launcher's own words."""
    return (python, "-I", "-B", "-c", BOOT)


def payload(agent: Archive) -> bytes:
    """What goes before the line of orders: the loader and the archive, each behind its length."""
    loader = Path(__file__).with_name("loader.py").read_bytes()
    return b"".join(b"%d\n%b" % (len(part), part) for part in (loader, agent.data))

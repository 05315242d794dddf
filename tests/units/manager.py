"""A real service manager: systemd as PID 1 of namespaces of its own, which runs one service and ends with its status.

Nothing of the machine's own services is started; what a service writes below /run and /var lies in memory, and its
network has a loopback and what the test adds.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SYSTEMD = "/lib/systemd/systemd"
UNITS = "/run/units"  # where the files lie, for the service too
_SECONDS = 90
# What every unit waits for, reached at once.
_TARGETS = ("sysinit", "basic", "shutdown", "timers", "time-set", "time-sync", "network-online")

# Covered before systemd starts. One /proc and nothing below it: what systemd covers there is then all that is covered.
_BOOT = f"""
set -e
mount --make-rprivate /
for folder in /run /var/lib /var/cache /var/tmp /sys/fs/cgroup; do mount -t tmpfs -o mode=755 tmpfs $folder; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
while umount --recursive --lazy /proc 2>/dev/null; do :; done
mount -t proc proc /proc
ip link set lo up
eval "$3"
mkdir -m 755 {UNITS}
cp -r "$1"/. {UNITS}
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=test SYSTEMD_UNIT_PATH={UNITS} SYSTEMD_LOG_LEVEL=warning \\
  SYSTEMD_LOG_TARGET=console "$2" --system --unit=default.target --show-status=no
"""

# The manager ends as the service did. It opens `file:` itself, so it may be where the service cannot write.
_DROP_IN = """
[Unit]
SuccessAction=exit-force
FailureAction=exit-force
[Service]
StandardOutput=file:{0}/out
StandardError=file:{0}/err
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How the service ended, and what it and the manager said."""

    status: int
    out: str
    err: str
    manager: str


def cannot() -> str | None:
    """Why no manager can be started here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    if not os.path.exists(SYSTEMD):
        return "systemd is not installed"
    return None if _parent() else "no cgroup2 to write to"


def _parent() -> Path | None:
    places = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")]
    return next((p for p in places if (p / "cgroup.procs").exists() and os.access(p, os.W_OK)), None)


@contextmanager
def _group() -> Iterator[Path]:
    """A control group for the manager: in its namespace it is the root."""
    parent = _parent()
    assert parent is not None
    group = Path(tempfile.mkdtemp(prefix="egress-probe-test-", dir=parent))
    try:
        yield group
    finally:
        _remove(group)


def _remove(group: Path) -> None:
    """What was killed takes a moment to leave its group."""
    for _ in range(50):
        folders = sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True)
        for folder in (*folders, group):
            with suppress(OSError):
                folder.rmdir()
        if not group.exists():
            return
        time.sleep(0.1)


def start(files: Mapping[str, str], service: str, more: str = "", network: str = "", by: str | None = None) -> Ended:
    """Runs `service`, one of `files`: at once, or when the unit `by` starts it.

    `more`: a drop-in's text; `network`: sh, for what is there.
    """
    with tempfile.TemporaryDirectory() as scratch, _group() as group:
        units, said = Path(scratch, "units"), Path(scratch, "said")
        drop_ins = units / f"{service}.d"
        drop_ins.mkdir(parents=True)
        said.mkdir()
        for name, text in files.items():
            (units / name).write_text(text, encoding="utf-8")
        (drop_ins / "test.conf").write_text(_DROP_IN.format(said))
        (drop_ins / "zz-more.conf").write_text(more)
        for name in _TARGETS:
            (units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        (units / "default.target").write_text(f"[Unit]\nDefaultDependencies=no\nWants={by or service}\n")
        words = "unshare --mount --net --pid --cgroup --uts --ipc --fork --kill-child --mount-proc sh -c".split()
        into = ["sh", "-c", 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"', "sh", str(group)]
        done = subprocess.run(
            [*into, *words, _BOOT, "sh", str(units), SYSTEMD, network],
            capture_output=True, text=True, check=False, timeout=_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        out, err = (p.read_bytes().decode() if p.exists() else "" for p in (said / "out", said / "err"))
        return Ended(done.returncode, out, err, done.stdout + done.stderr)

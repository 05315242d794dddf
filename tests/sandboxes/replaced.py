"""A drift world with a real engine: the container that a canary looks into is replaced by another of the same name.

As a program: prints what two scheduled runs said, as JSON. Everything happens in namespaces of its own.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from probe.lab.namespaces import SCRATCH, in_isolation
from tests.sandboxes import real
from tests.sandboxes.rootfs import PYTHON

CANARY = (sys.executable, "-I", "-m", "probe", "canary", "run")


def scheduled(policy: Path, history: Path) -> dict[str, Any]:
    """One run into the container `box`."""
    words = [
        *CANARY, "--history", str(history), "--policy", str(policy), "--scenario", "documentation-ranges", "--format", "json",
        "--via", "podman:box", "--python", PYTHON,
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    if not done.stdout:
        return {"failed": done.stderr}
    report = json.loads(done.stdout)
    return {
        "exit": done.returncode,
        "id": report["run"]["vantage"]["container_id"],
        "lines": [change["line"] for change in report["canary"]["changes"]],
        "told": done.stderr.splitlines(),
    }


def start() -> str:
    """A new container `box` without a network; its id."""
    words = ("run", "-d", "--rm", *real.IN_A_GROUP, "--network", "none", "--read-only", "--name", "box")
    words = ("podman", *words, "localhost/box:1", *real.SLEEP)
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def work() -> dict[str, Any]:
    """Twice into one container, then into its successor. Runs inside in_isolation()."""
    real.into_own_folders()
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
    policy, history = real.TMP / "p.toml", Path(SCRATCH, "h.sqlite")
    policy.write_text('default = "deny"\n')
    real.podman()
    try:
        ids = [start()]
        runs = [scheduled(policy, history), scheduled(policy, history)]
        subprocess.run(["podman", "rm", "-f", "-t", "0", "box"], check=True, capture_output=True)
        ids.append(start())
        return {"ids": ids, "runs": [*runs, scheduled(policy, history)]}
    finally:
        real.podman_tidy()


if __name__ == "__main__":
    print(json.dumps(in_isolation(work)))

"""The canary's budgets: its history on disk, how soon it answers, and what a scheduled run costs beyond a plain one."""

import resource
import sqlite3
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.test_budgets import PROBE, in_sandbox, show

pytestmark = pytest.mark.benchmark
CHECKS, RUNS = 200, 2000
REAL = 3  # real runs, of which the others are copies


def spent(words: list[str]) -> tuple[float, int]:
    """CPU seconds of a command with its children, and its exit status."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode in (0, 1, 3), done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.returncode


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A history of real runs of 200 checks each in the lab, and the CPU of plain and scheduled ones in turn."""
    folder = tmp_path_factory.mktemp("canary")
    policy, history = folder / "p.toml", folder / "h.sqlite"
    policy.write_text('default = "deny"\n')
    options = [
        "--policy",
        str(policy),
        "--scenario",
        "random-public",
        "--random-public",
        str(CHECKS),
        "--seed",
        "x",
        "--witness",
        "198.51.100.7:443",
    ]
    canary = [*PROBE, "canary", "run", "--history", str(history), *options]

    def work() -> dict[str, Any]:
        plain, scheduled = [], []
        for _ in range(REAL):
            plain.append(spent([*PROBE, "run", *options])[0])
            scheduled.append(spent(canary)[0])
        # The least of each: another process can only add to what a run costs.
        return {"plain": min(plain), "scheduled": min(scheduled)}

    found: dict[str, Any] = in_sandbox("dead-sandbox", work)
    return {**found, "history": history}


def fill(path: Path) -> None:
    """Copies of the real runs, with a dictionary per hundred as the canary makes them, up to RUNS."""
    database = sqlite3.connect(path)
    columns = "run_id, started, seconds, exit_code, complete, good, problem, conforms, leak, overblocked, unproven, undeclared, not_run"
    for number in range(REAL + 1, RUNS + 1):
        source = (number - 1) % (REAL - 1) + 2  # not the first: it is its own dictionary
        if number % 100 == 1:
            database.execute("INSERT INTO dictionaries (body) SELECT body FROM dictionaries WHERE id = 1")
        database.execute(
            f"INSERT INTO runs ({columns}, dictionary, body) SELECT {columns}, (SELECT max(id) FROM dictionaries), body FROM runs WHERE number = ?",
            (source,),
        )
        database.execute(f"INSERT INTO verdicts SELECT {number}, path, letter FROM verdicts WHERE run = ?", (source,))
    database.commit()
    database.close()


def wall(*words: str) -> float:
    """The median of three."""
    times = []
    for _ in range(3):
        began = time.monotonic()
        done = subprocess.run([*PROBE, "canary", *words], capture_output=True, text=True)
        times.append(time.monotonic() - began)
        assert done.returncode in (0, 1, 3), done.stderr
    return statistics.median(times)


def test_a_scheduled_run_against_a_plain_one(measured: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    ratio = measured["scheduled"] / measured["plain"]
    show(
        capfd,
        f"a canary run of {CHECKS} checks: {measured['scheduled']:.2f} s of CPU, a plain one {measured['plain']:.2f} s: "
        f"{ratio:.2f} x (at most 1.3)",
    )
    assert ratio <= 1.3


def test_a_long_history(measured: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    path = measured["history"]
    fill(path)
    size = path.stat().st_size / 1e6 / (RUNS / 1000)
    place = ("--history", str(path))
    status, diff = wall("status", *place), wall("diff", "3", "1990", *place)
    bare = subprocess.run([sys.executable, "-c", "pass"], check=True).returncode
    assert bare == 0
    show(
        capfd,
        f"history of {RUNS} runs of {CHECKS} checks: {size:.1f} MB per 1,000 runs (at most 25); status {status:.2f} s, "
        f"diff {diff:.2f} s (at most 0.5 each)",
    )
    assert size <= 25
    assert status <= 0.5
    assert diff <= 0.5

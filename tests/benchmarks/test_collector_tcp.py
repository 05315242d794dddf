"""The collector's streams under load on loopback: it on one core, who loads it on the other. The figures are printed.

The floor of 2,000 arrivals a second is the contract's; it stands here as a ratio to it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.test_budgets import show
from tests.collector.process import Running, running

pytestmark = pytest.mark.benchmark
FLOOR = 2000.0  # arrivals per second
FORGED = 100_000 / 60  # per second
MOST_SLOWER = 0.2
COUNT = 4000


def on_first_core(far: Running) -> None:
    if (os.cpu_count() or 1) > 1:
        for task in os.listdir(f"/proc/{far.process.pid}/task"):
            os.sched_setaffinity(int(task), {0})


def load(count: int, rate: float = 0.0, *words: str) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-m",
        "tests.collector.tcp_load",
        "127.0.0.1",
        "4444",
        str(count),
        "64",
        str(rate),
        *words,
    ]
    made = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent.parent)
    assert made.stdout is not None
    assert made.stdout.readline() == "ready\n"
    return made


def told(process: "subprocess.Popen[str]") -> tuple[int, float]:
    """Receipts and seconds."""
    answered, seconds = process.communicate()[0].split()
    return int(answered), float(seconds)


def slower(rate: float) -> float:
    """How many times as long valid tokens take while forged ones come too."""
    alone, beside = [], []
    for _ in range(3):  # in turn, so that whatever else this machine does meets both
        alone.append(told(load(COUNT, rate))[1])
        forging = load(100_000, FORGED, "forged")
        beside.append(told(load(COUNT, rate))[1])
        forging.kill()
        forging.communicate()
    return min(beside) / min(alone)


def size(state: Path) -> int:
    return sum(path.stat().st_size for path in state.glob("arrivals.sqlite*"))


def test_arrivals_per_second_and_none_that_was_acknowledged_is_lost(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with running(tmp_path) as far:
        on_first_core(far)
        read = far.register()
        answered, seconds = told(load(COUNT * 2))
        kept = far.arrivals(read)["arrivals"]
    rate = answered / seconds
    show(
        capfd, f"collector, TCP: {rate:.0f} arrivals/s (connect, token, receipt, close), {rate / FLOOR:.1f} × the floor"
    )
    show(capfd, f"collector, TCP: {answered} receipts, {len(kept)} arrivals stored")
    assert answered == COUNT * 2
    assert {each["check"] for each in kept} == set(range(COUNT * 2))
    assert rate >= FLOOR


def test_forged_tokens_neither_slow_the_valid_ones_nor_fill_the_disk(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with running(tmp_path) as far:
        on_first_core(far)
        far.register()
        before = size(tmp_path)
        refused, _ = told(load(COUNT, 0.0, "forged"))
        after = size(tmp_path)
        ratio = slower(FLOOR)
        show(capfd, f"collector, TCP: beside 100,000 forged tokens a minute {FLOOR:.0f}/s take {ratio:.2f} × the time")
        full = slower(0)
        show(capfd, f"collector, TCP: … and as many as it can take {full:.2f} × (no bound: another's load shows here)")
    show(capfd, f"collector, TCP: {COUNT} forged tokens grow the database by {after - before} bytes")
    assert refused == 0
    assert after == before
    assert ratio <= 1 / (1 - MOST_SLOWER)

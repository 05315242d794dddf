"""The collector's DNS under load, on loopback: how many it answers, and what a flood of forged tokens does to them.

Bounds stand only here. The collector, who asks it and who floods it are processes of their own; the figures are printed.
"""

import os
import statistics
from pathlib import Path

import pytest

from probe.collector.store import Store
from tests.benchmarks.test_budgets import show
from tests.collector.dns_load import RUN_ID, Load, ask, flooded, queries, served

pytestmark = pytest.mark.benchmark
FORGED = 100_000 // 60  # a second


def stored(path: Path) -> int:
    """How many different checks the file has an arrival of."""
    store = Store(path)
    story = store.read(RUN_ID)
    store.close()
    assert story is not None
    return len({arrival.check for arrival in story.arrivals})


def size(path: Path) -> int:
    """Bytes on disk, the WAL's included."""
    return sum(file.stat().st_size for file in path.parent.iterdir())


def rate(load: Load) -> float:
    """Answers a second."""
    return len(load.answered) / load.seconds


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def timed(port: int, packets: list[bytes], pid: int, pace: float) -> tuple[float, float]:
    """Answers a second, and the collector's CPU seconds per answer."""
    before = cpu(pid)
    # A loader that sleeps has room in its socket for so many answers.
    load = ask(port, packets, flight=64 if pace else 256, pace=pace)
    assert len(load.answered) == len(packets)
    return rate(load), (cpu(pid) - before) / len(packets)


def test_questions_answered_and_stored_per_second(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Contract: at least 5,000 a second, and every answered one is in the file after kill -9."""
    packets = queries(range(40_000))
    with served(tmp_path / "a") as (port, process):
        load = ask(port, packets)
        process.kill()
    show(capfd, f"DNS questions answered and stored: {rate(load):,.0f} a second (at least 5,000)")
    assert len(set(load.answered)) == stored(tmp_path / "a") == 40_000
    assert rate(load) >= 5000


@pytest.mark.parametrize("pace", [5000.0, 0.0])
def test_forged_tokens_do_not_slow_valid_ones(pace: float, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Contract: 100,000 forged ones a minute slow valid ones by at most a fifth.

    Bounded at the load that the contract names, 5,000 a second. At the most that it can take, forged ones are a tenth of
    all the work, and who floods takes a CPU from who asks: that figure is printed, and it says what a stranger costs.
    """
    packets = queries(range(10_000))  # eight times, and a run has room for 100,000
    shares, rates = [], []
    with served(tmp_path / "a") as (port, process):
        ask(port, packets[:1000])  # the first ones pay for what is loaded late
        for _ in range(3):
            alone, cost = timed(port, packets, process.pid, pace)
            with flooded(port, FORGED):
                beside, more = timed(port, packets, process.pid, pace)
            shares.append(cost / more)
            rates.append(beside / alone)
    seen, share = statistics.median(rates), statistics.median(shares)
    load, bound = (f"{pace:,.0f} valid ones a second", " (at least 0.8)") if pace else ("as many as it can take", "")
    show(
        capfd,
        f"{load}, beside {FORGED * 60:,} forged a minute: {seen:.2f} x the rate{bound}, {share:.2f} x per CPU second",
    )
    assert seen >= 0.8 or not pace


def test_forged_tokens_do_not_fill_the_disk(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Contract: nothing of them is stored, however many come."""
    with served(tmp_path / "a") as (port, _):
        ask(port, queries(range(100)))
        before = size(tmp_path / "a")
        with flooded(port, 6 * FORGED):
            # Who has no token waits for nobody: half a second of silence is half a second of flood.
            assert ask(port, queries(range(10), key=b"x" * 32), flight=10, patience=0.5).sent == 10
        after = size(tmp_path / "a")
        load = ask(port, queries(range(100, 200)))
    show(capfd, f"disk before and after a flood of forged tokens: {before:,} and {after:,} bytes (the same)")
    assert after == before
    assert len(load.answered) == 100
    assert stored(tmp_path / "a") == 200

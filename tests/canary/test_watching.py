"""When the next run is due, on a virtual clock: jitter, suspend, clock steps, runs that take too long; and stopping."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio
import trio.testing

from probe.watching import Pace, next_due, run_child, until_signal, watch

PROBE = (sys.executable, "-I", "-m", "probe")


@pytest.mark.parametrize(
    ("due", "now", "expected"),
    [
        (0.0, 5.0, 900.0),
        (0.0, 899.0, 900.0),
        (0.0, 900.0, 900.0),  # it took the whole interval: the next one is due now
        (0.0, 901.0, 1800.0),
        (0.0, 10_000.0, 10_800.0),  # suspended: what was missed is not made up for
        (900.0, 0.0, 1800.0),
    ],
)
def test_the_next_run_is_due(due: float, now: float, expected: float) -> None:
    assert next_due(due, now, 900.0) == expected


class Starts:
    """Notes when it is called; each run takes `takes` seconds."""

    def __init__(self, *takes: float) -> None:
        self.at: list[float] = []
        self._takes = list(takes)

    async def __call__(self) -> None:
        self.at.append(trio.current_time())
        await trio.sleep(self._takes.pop(0) if self._takes else 1.0)


async def during(seconds: float, pace: Pace, starts: Starts, random: float = 0.0, skew: "list[float] | None" = None) -> list[float]:  # fmt: skip
    """When runs were started within so many seconds. `skew`: seconds that the clock is ahead, as a suspend leaves it."""
    began = trio.current_time()
    ahead = skew or [0.0]
    with trio.move_on_after(seconds):
        await watch(pace, starts, lambda: random, lambda: trio.current_time() + ahead[0])
    return [round(at - began, 3) for at in starts.at]


async def test_a_run_every_interval(autojump_clock: trio.testing.MockClock) -> None:
    assert await during(3000, Pace(900, 0), Starts()) == [0, 900, 1800, 2700]


async def test_jitter_moves_each_run_and_not_the_schedule(autojump_clock: trio.testing.MockClock) -> None:
    assert await during(3000, Pace(900, 100), Starts(), random=0.5) == [50, 950, 1850, 2750]


async def test_a_run_that_takes_longer_than_the_interval_is_not_overtaken(
    autojump_clock: trio.testing.MockClock,
) -> None:
    assert await during(4000, Pace(900, 0), Starts(1000, 1.0)) == [0, 1800, 2700, 3600]


async def test_after_a_suspend_one_run_begins_at_once(autojump_clock: trio.testing.MockClock) -> None:
    skew = [0.0]
    starts = Starts()

    async def suspend() -> None:
        await trio.sleep(100)
        skew[0] = 5000.0  # the machine slept; CLOCK_BOOTTIME went on

    async with trio.open_nursery() as nursery:
        nursery.start_soon(suspend)
        found = await during(1200, Pace(900, 0), starts, skew=skew)
    # Due at 900 of the schedule's time: it is noticed within a nap of ten seconds, and then goes on every 900.
    assert len(found) == 3
    assert 100 <= found[1] <= 111
    assert found[2] == pytest.approx(400, abs=11)


async def test_a_child_that_is_ended_may_say_goodbye(tmp_path: Path) -> None:
    code = "import signal,sys,time; signal.signal(15, lambda *_: (open(sys.argv[1],'w').write('bye'), sys.exit(0))); print(1, flush=True); open(sys.argv[1]+'.up','w'); time.sleep(60)"
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_child, [sys.executable, "-c", code, str(tmp_path / "said")])
            while not (tmp_path / "said.up").exists():
                await trio.sleep(0.01)
            scope.cancel()
    assert (tmp_path / "said").read_text() == "bye"


async def test_a_child_that_does_not_listen_is_killed() -> None:
    code = "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
    assert await run_child([sys.executable, "-c", code], limit=0.5, grace=0.1) == "it was ended after 0.5 s"


async def test_what_cannot_be_started_is_no_crash() -> None:
    assert await run_child(["/nowhere/program"]) == "it could not be started: No such file or directory"
    assert await run_child(["sh", "-c", "exit 3"]) == 3
    assert await run_child(["sh", "-c", "kill -9 $$"]) == "it was ended by signal 9"


async def test_a_signal_ends_the_work() -> None:
    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await trio.sleep_forever()

    await until_signal(work)


def test_watch_runs_serves_figures_and_stops_cleanly(tmp_path: Path) -> None:
    """The real command: a first run at once, /metrics meanwhile, SIGTERM to an end with 0 and the run stored."""
    import urllib.request

    policy, history = tmp_path / "p.toml", tmp_path / "h.sqlite"
    policy.write_text('default = "deny"\n')
    words = [
        *PROBE, "canary", "watch", "--every", "1h", "--jitter", "1s", "--listen", "127.0.0.1:9799", "--history", str(history),
        "--policy", str(policy), "--scenario", "documentation-ranges", "--format", "jsonl", "--", "env",
    ]  # fmt: skip
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = [process.stderr.readline() for _ in range(2)]
    assert "a run every 1h" in said[0]
    assert "the run ended with 0" in said[1], said
    with urllib.request.urlopen("http://127.0.0.1:9799/metrics", timeout=10) as answer:
        page = answer.read().decode()
    assert 'egress_probe_last_run_exit_code{canary="default"} 0.0' in page
    assert 'egress_probe_runs_total{canary="default"} 1.0' in page
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert '"kind":"summary"' in out


def test_watch_stops_a_run_that_is_going_on_and_what_it_has_is_stored(tmp_path: Path) -> None:
    policy, history = tmp_path / "p.toml", tmp_path / "h.sqlite"
    policy.write_text('default = "deny"\n')
    up = tmp_path / "up"
    words = [
        *PROBE, "canary", "watch", "--every", "1h", "--jitter", "1s", "--history", str(history), "--policy", str(policy),
        "--", "sh", "-c", f"touch {up}; exec sleep 600",
    ]  # fmt: skip
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not up.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    listed = subprocess.run([*PROBE, "canary", "history", "--history", str(history)], capture_output=True, text=True)
    assert "incomplete" in listed.stdout


def test_a_run_that_hangs_is_ended_stored_and_told(tmp_path: Path) -> None:
    """A policy that is a pipe: nobody ever writes to it."""
    policy, history, told = tmp_path / "p.toml", tmp_path / "h.sqlite", tmp_path / "told"
    os.mkfifo(policy)
    words = [
        *PROBE, "canary", "watch", "--every", "1h", "--jitter", "1s", "--limit", "2s", "--history", str(history),
        "--policy", str(policy), "--alert", f"command=tee -a {told}",
    ]  # fmt: skip
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = [process.stderr.readline() for _ in range(2)]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    problem = "failed: the run could not be made: it was ended by signal 15"
    assert problem in said[1] or "it was ended after 2 s" in said[1], said
    assert json.loads(told.read_text())["change"]["kind"] == "failed"
    listed = subprocess.run([*PROBE, "canary", "history", "--history", str(history)], capture_output=True, text=True)
    assert "no run: it was ended" in listed.stdout


def test_a_log_that_is_full_ends_nothing(tmp_path: Path) -> None:
    policy, history = tmp_path / "p.toml", tmp_path / "h.sqlite"
    policy.write_text('default = "deny"\n')
    words = [
        *PROBE,
        "canary",
        "watch",
        "--every",
        "1h",
        "--jitter",
        "1s",
        "--history",
        str(history),
        "--policy",
        str(policy),
    ]
    with open("/dev/full", "w") as full:
        process = subprocess.Popen([*words, "--", "env"], stdout=full, stderr=full)
        while not history.exists() and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0

"""Budgets as ratios of two things measured in the same run, in the lab's own namespaces. The figures are printed.

Bounds stand only here. They are the contract's floors, not this machine's best.
"""

import os
import resource
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from probe.engine import Connect, connect_many
from probe.lab.namespaces import enter, in_isolation
from probe.lab.topology import build
from probe.lab.world import load_world
from probe.sockets import raise_file_limit
from probe.techniques.base import Pace
from probe.timing import deadlines

pytestmark = pytest.mark.benchmark
PROBE = [sys.executable, "-I", "-m", "probe"]


def show(capfd: pytest.CaptureFixture[str], line: str) -> None:
    with capfd.disabled():
        print(f"\n  benchmark: {line}")


def in_sandbox(world: str, work: Callable[[], Any]) -> Any:
    """`work()` in the sandbox of a world, without its internet's servers."""

    def inside() -> Any:
        networks = build(load_world(world))
        enter(networks.sandbox)
        return work()

    return in_isolation(inside)


def addresses(count: int) -> list[str]:
    return [f"198.{18 + (i >> 16)}.{i >> 8 & 255}.{i & 255}" for i in range(1, count + 1)]


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def bare(targets: list[str], deadline: float, burst: int = 128) -> tuple[float, float, int]:
    """The least that Python can do: non-blocking connects and one epoll. Wall, CPU, answers."""
    raise_file_limit()
    began, used, answers = time.monotonic(), cpu(), 0
    epoll, sockets = select.epoll(), {}
    for index, address in enumerate(targets):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.connect_ex((address, 80))
        sockets[sock.fileno()] = sock
        epoll.register(sock.fileno(), select.EPOLLOUT)
        if index % burst == 0:
            for fd, _ in epoll.poll(0):
                sockets.pop(fd).close()
                answers += 1
    until = time.monotonic() + deadline
    while sockets and (left := until - time.monotonic()) > 0:
        for fd, _ in epoll.poll(left):
            sock = sockets.pop(fd)
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            sock.close()
            answers += 1
    for sock in sockets.values():
        sock.close()
    return time.monotonic() - began, cpu() - used, answers


def engine(targets: list[str], deadline: float, rate: float = 0, tries: int = 1) -> tuple[float, float, int]:
    """Ours over the same targets. Wall, CPU, answers."""
    done: list[Connect] = []

    async def go() -> None:
        pace = Pace(rate, 10**9, "")
        await connect_many([Connect(a, 80) for a in targets], deadlines(deadline, tries), pace, done.append, 18_000)

    raise_file_limit()
    began, used = time.monotonic(), cpu()
    trio.run(go)
    assert len(done) == len(targets)
    return time.monotonic() - began, cpu() - used, sum(target.result != "silent" for target in done)


def test_engine_cpu_against_a_bare_epoll_loop(capfd: pytest.CaptureFixture[str]) -> None:
    """Contract: at most 3 times the CPU per attempt."""

    def work() -> list[list[float]]:
        targets = addresses(10_000)
        return [[bare(targets, 1.0)[1], engine(targets, 1.0)[1]] for _ in range(3)]

    for world, kind in (("dead-sandbox", "silent"), ("open", "reset by the target")):
        pairs = in_sandbox(world, work)
        ratio = statistics.median(ours / theirs for theirs, ours in pairs)
        show(capfd, f"10,000 {kind}: CPU {ratio:.2f} x a bare epoll loop (at most 3)")
        assert ratio <= 3


def test_65000_mixed_attempts(capfd: pytest.CaptureFixture[str]) -> None:
    """Contract: at most 10 s, engine alone."""
    targets = [f"198.{18 + (i & 1)}.{i >> 8 & 255}.{i & 255}" for i in range(1, 65_001)]
    wall, used, _ = in_sandbox("open", lambda: engine(targets, 1.0))
    show(capfd, f"65,000 attempts: {wall:.1f} s wall, {used:.1f} s CPU (at most 10 s)")
    assert wall <= 10


@pytest.mark.real("nmap")
def test_a_thousand_silent_destinations_against_nmap(capfd: pytest.CaptureFixture[str]) -> None:
    """Contract: at least 20 times faster than `nmap -sT -T5` in the same lab."""
    targets = addresses(1000)

    def work() -> list[float]:
        began = time.monotonic()
        done = subprocess.run(
            ["nmap", "-sT", "-T5", "-n", "-Pn", "-p", "80", "-iL", "-"],
            input="\n".join(targets), text=True, capture_output=True, check=False,
        )  # fmt: skip
        assert "1000 hosts up" in done.stdout, done.stdout[-500:] + done.stderr
        nmap = time.monotonic() - began
        return [nmap, engine(targets, 1.0, tries=2)[0]]

    nmap, ours = in_sandbox("dead-sandbox", work)
    show(
        capfd,
        f"1,000 silent destinations: nmap -sT -T5 {nmap:.1f} s, ours {ours:.2f} s: {nmap / ours:.0f} x faster (at least 20)",
    )
    assert nmap / ours >= 20


POLICY = 'default = "deny"\n'


def probe_run(*arguments: str) -> tuple[float, int]:
    began = time.monotonic()
    done = subprocess.run([*PROBE, "run", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1, 3), done.stderr
    return time.monotonic() - began, done.returncode


def test_a_whole_run_of_200_silent_checks(capfd: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    """Contract: at most 2.5 x max(slowest deadline, 1 s), and one calibration round."""
    policy = tmp_path / "p.toml"
    policy.write_text(POLICY)

    def work() -> float:
        return probe_run(
            "--policy",
            str(policy),
            "--scenario",
            "random-public",
            "--random-public",
            "200",
            "--seed",
            "s",
            "--witness",
            "198.51.100.7:443",
        )[0]

    wall = in_sandbox("dead-sandbox", work)
    silent = deadlines(1.0, 2).total
    bound = 2.5 * silent + silent
    show(
        capfd,
        f"whole run, 200 silent checks: {wall:.2f} s (at most 2.5 x {silent} s + one calibration round = {bound:.2f} s)",
    )
    assert wall <= bound


def test_memory_of_10000_checks(capfd: pytest.CaptureFixture[str]) -> None:
    """Contract: at most 150 MB, in a process of its own: orders, engine, evidence and judgement."""
    code = """
import resource, sys
import trio
from probe.agent import run_orders
from probe.codec import to_line
from probe.documents import Settings
from probe.evidence import Reader
from probe.judge import judge
from probe.orders import make_orders
from tests.make import check, plan
made = plan(*[check(f"198.18.{i >> 8}.{i & 255}", n=i + 1, id=str(i)) for i in range(10_000)],
            settings=Settings(rate=0, deadline=0.5))
from dataclasses import replace
made = replace(made, budget=replace(made.budget, packets=10**6))
reader = Reader(made)
orders = make_orders(made, b"k" * 32, None)
trio.run(run_orders, orders, lambda line: reader.feed(to_line(line)))
report = judge(made, reader.done())
assert report.summary.unproven == 10_000, report.summary
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""

    def work() -> int:
        environment = {**os.environ, "PYTHONPATH": os.getcwd()}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return int(done.stdout)

    megabytes = in_sandbox("dead-sandbox", work)
    show(capfd, f"10,000 checks: {megabytes} MB at the peak (at most 150)")
    assert megabytes <= 150


def test_start_up(capfd: pytest.CaptureFixture[str]) -> None:
    """Contract: `--version` at most 6 times `python3 -c pass`."""

    def median(command: list[str]) -> float:
        times = []
        for _ in range(9):
            began = time.monotonic()
            subprocess.run(command, check=True, capture_output=True)
            times.append(time.monotonic() - began)
        return statistics.median(times)

    pairs = median([sys.executable, "-I", "-c", "pass"]), median([*PROBE, "--version"])
    show(capfd, f"--version: {pairs[1] / pairs[0]:.1f} x python3 -c pass (at most 6)")
    assert pairs[1] / pairs[0] <= 6


def test_the_agents_archive(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Contract: at most 2.5 MB, and the first line of evidence at most 0.6 s after the start. As a file and through stdin."""
    from probe.shipping import archive, cache, ship
    from tests.shipping.test_archive import LINE

    path = tmp_path / "agent.pyz"
    path.write_bytes(archive.build().zipapp)
    python = [sys.executable, "-I", "-B"]

    def first_line(command: list[str], before: bytes) -> float:
        times = []
        for _ in range(7):
            began = time.monotonic()
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(before + LINE)
                process.stdin.close()
                assert b"egress-probe.evidence/1" in process.stdout.readline()
                times.append(time.monotonic() - began)
                process.stdout.read()
        return statistics.median(times)

    bare = []
    for _ in range(7):
        began = time.monotonic()
        subprocess.run([*python, "-c", "pass"], check=True)
        bare.append(time.monotonic() - began)
    as_file, shipped = (
        first_line([*python, str(path), "agent"], b""),
        first_line([*python, "-c", ship.BOOT], ship.payload(cache.get())),
    )
    size = len(archive.build().zipapp) / 1e6
    ratio = max(as_file, shipped) / statistics.median(bare)
    show(
        capfd,
        f"agent: {size:.2f} MB (at most 2.5); first evidence after {as_file:.2f} s as a file, {shipped:.2f} s through stdin "
        f"(at most 0.6), {ratio:.0f} x python3 -c pass",
    )
    assert size <= 2.5
    assert max(as_file, shipped) <= 0.6


def test_through_bubblewrap(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Contract: `run --via bwrap` takes at most 1.5 times as long as a plain `run` in the same place."""
    policy = tmp_path / "p.toml"
    policy.write_text('default = "deny"\n')

    def median(*more: str) -> float:
        times = []
        for _ in range(5):
            began = time.monotonic()
            subprocess.run([*PROBE, "run", "--policy", str(policy), *more], check=False, capture_output=True)
            times.append(time.monotonic() - began)
        return statistics.median(times)

    plain, via = median(), median("--via", "bwrap", "--", *"--ro-bind / / --dev /dev --proc /proc".split())
    show(capfd, f"run --via bwrap: {via / plain:.2f} x a plain run, {via:.2f} s against {plain:.2f} s (at most 1.5)")
    assert via <= 1.5 * plain

"""Launchers that die, hang, flood, chat, lie and live on: bounded, never green, and said in one line. Real processes."""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from probe.codec import to_line
from probe.documents import End, Orders, Plan, Settings, Start
from probe.errors import UserError
from probe.evidence import Reader
from probe.judge import judge
from probe.run import Ended, run_process
from tests.make import RUN_ID, VANTAGE, check, plan

START = to_line(Start("egress-probe.evidence/1", RUN_ID, VANTAGE))
END = to_line(End(0, True, 0.1))
ORDERS = Orders("egress-probe.orders/1", RUN_ID, Settings(), 10, (), seconds=20.0)


def launcher(code: str) -> list[str]:
    """A process that has read its orders and then does `code`."""
    before = f"import os, sys, time, subprocess\nstart, end = {START!r}, {END!r}\nsys.stdin.read()\nsay = lambda *lines: print(*lines, sep='\\n', flush=True)\n"
    return [sys.executable, "-I", "-c", before + code]


async def played(code: str, made: Plan | None = None, orders: Orders = ORDERS) -> tuple[Ended, Reader]:
    reader = Reader(made or plan(check()))
    return await run_process(launcher(code), orders, reader.feed), reader


CASES = [
    # what the launcher does, and what is said of it
    ("sys.exit(3)", "no end record: the launcher ended with status 3"),
    ("print('bwrap: No permissions', file=sys.stderr); sys.exit(1)", "no end record: the launcher ended with status 1: bwrap: No permissions"),
    ("print('\\x1b[31mred\\nlast', file=sys.stderr); sys.exit(1)", "status 1: last"),
    ("print('a\\x1b[31mred', file=sys.stderr); sys.exit(1)", "status 1: a\\x1b[31mred"),
    ("os.kill(os.getpid(), 9)", "no end record: the launcher was ended by signal 9"),
    ("say(start); sys.exit(1)", "no end record: the launcher ended with status 1"),
    ("say(start)", "no end record: the agent died, or its output was cut"),
    ("say('Welcome to box!', start, end)", "evidence:1: not JSON"),
    ("say(start, 'goodbye', end)", "evidence:2: not JSON"),
    ("say(start, end, 'logout')", "evidence:3: not JSON"),
    ("say(start, start, end)", "evidence:2: a second start record"),
    ("say(start.replace('01J', '01K'), end)", "evidence:1: foreign: of run 01K"),
    ("say(end)", "a line before the start record"),
    ("sys.stdout.buffer.write(bytes(range(256)) * 8 + b'\\n'); say(start, end)", "evidence:1: not JSON"),
    ("say(start); sys.stdout.write('x' * (8 << 20)); say('', end)", "longer than 262144 characters"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "problem"), CASES, ids=[code[:40] for code, _ in CASES])
async def test_what_goes_wrong_is_said_and_never_green(code: str, problem: str) -> None:
    made = plan(check())
    ended, reader = await played(code, made)
    reader.explain(ended.problem())
    report = judge(made, reader.done())
    assert any(problem in said for said in report.problems), report.problems
    assert not any("\n" in said or "\x1b" in said for said in report.problems)
    assert report.summary.exit_code == 3
    assert {result.verdict.value for result in report.results} == {"unproven"}


async def test_all_is_well() -> None:
    ended, reader = await played("say(start, end); print('a warning', file=sys.stderr)")
    assert (ended.status, ended.problem(), ended.said) == (0, None, "a warning\n")
    assert reader.done().problems == ()


async def test_a_flood_is_not_read_to_its_end() -> None:
    begin = time.monotonic()
    ended, reader = await played("say(start)\nwhile True: say('{}' * 1000)")
    assert time.monotonic() - begin < 60  # a bound against hanging, no measurement
    assert any("far more than its rows need" in said for said in reader.done().problems)
    assert ended.status != 0


async def test_a_flood_on_stderr_fills_nothing() -> None:
    ended, reader = await played("for _ in range(2000): sys.stderr.write('x' * 10000 + '\\n')\nsay(start, end)")
    assert len(ended.said) <= 4096
    assert reader.done().problems == ()


@pytest.mark.parametrize(
    "code",
    [
        "time.sleep(600)",
        "say(start)\ntime.sleep(600)",
        "import signal; signal.signal(15, signal.SIG_IGN); time.sleep(600)",
    ],
)
async def test_what_hangs_is_ended(code: str) -> None:
    reader = Reader(plan(check()))
    ended = await run_process(launcher(code), replace(ORDERS, seconds=0.5), reader.feed, grace=1.0)
    assert ended.problem() == "the launcher had to be ended"
    reader.explain(ended.problem())
    assert "no end record: the launcher had to be ended" in reader.done().problems


LIVING_ON = "subprocess.Popen([sys.executable, '-I', '-c', 'import time; time.sleep(600)'])"


@pytest.mark.parametrize(
    "code",
    [f"{LIVING_ON}; say(start, end)", f"say(start, end); {LIVING_ON}; time.sleep(600)", f"{LIVING_ON}; sys.exit(5)"],
)
async def test_what_lives_on_is_ended_and_holds_nobody(code: str, tmp_path: Path) -> None:
    marked = code.replace("time.sleep(600)'", f"time.sleep(600) # {tmp_path}'")
    begin = time.monotonic()
    _, reader = await played(marked)
    assert time.monotonic() - begin < 60  # as above
    assert (reader.done().problems == ()) is ("sys.exit" not in code)
    with trio.fail_after(30):
        while any(str(tmp_path).encode() in _command(pid) for pid in os.listdir("/proc") if pid.isdigit()):
            await trio.sleep(0.05)


def _command(pid: str) -> bytes:
    try:
        return Path("/proc", pid, "cmdline").read_bytes()
    except OSError:
        return b""


async def test_a_launcher_that_is_not_there_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^/nonexistent/bwrap: cannot be started: No such file or directory$"):
        await run_process(["/nonexistent/bwrap"], ORDERS, lambda line: True)


async def test_a_signal_is_passed_on_and_what_was_done_is_kept() -> None:
    # The last line is said outside of the handler: the signal may come while the first one is still being written.
    code = "import signal\nsignal.signal(15, lambda *_: sys.exit(0))\ntry:\n say(start)\n time.sleep(600)\nfinally:\n say(end)"
    reader = Reader(plan(check()))

    def feed(line: str) -> bool:
        if '"start"' in line:
            os.kill(os.getpid(), signal.SIGTERM)
        return reader.feed(line)

    ended = await run_process(launcher(code), ORDERS, feed)
    assert ended.status == 0
    assert reader.done().end is not None


async def test_what_is_sent_comes_in_order_and_stdin_ends() -> None:
    code = "import sys\nsys.stdout.write(sys.stdin.read())"
    lines: list[str] = []
    await run_process([sys.executable, "-I", "-c", code], ORDERS, lines.append, b"before\n" * 100_000)
    assert len(lines) == 100_001
    assert json.loads(lines[-1])["run_id"] == RUN_ID


async def test_a_secret_of_the_controllers_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    monkeypatch.setenv("OTHER", "o")
    lines: list[str] = []
    code = "import os; print(os.environ.get('SECRET_TOKEN'), os.environ.get('OTHER'))"
    await run_process([sys.executable, "-I", "-c", code], ORDERS, lines.append, without="SECRET_TOKEN")
    assert lines == ["None o"]


@pytest.mark.parametrize(
    ("code", "cleaned"), [("sys.exit(1)", True), ("time.sleep(600)", True), ("say(start, end)", False)]
)
async def test_what_would_outlive_a_launcher_is_cleaned_up(code: str, cleaned: bool, tmp_path: Path) -> None:
    reader = Reader(plan(check()))
    cleanup = ["touch", str(tmp_path / "cleaned")]
    await run_process(launcher(code), replace(ORDERS, seconds=0.5), reader.feed, cleanup=cleanup, grace=1.0)
    assert (tmp_path / "cleaned").exists() is cleaned


async def test_evidence_that_fills_the_memory_is_not_read_to_its_end() -> None:
    """Each line would be kept: valid records, as long as they may be."""
    code = """
line = '{"check":1,"attempts":[' + ','.join(['{"t":0.1,"elapsed":0.1,"step":"connect","result":"silent","address":"192.0.2.1","port":443}'] * 2000) + '],"kind":"record"}'
say(start)
for _ in range(200): say(line)
say(end)
"""
    _, reader = await played(code)
    problems = reader.done().problems
    assert any("more attempts than one row can need" in said for said in problems)
    assert any("far more than its rows need" in said for said in problems)

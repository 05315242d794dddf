"""What may go wrong around a scheduled run, in real processes: nothing that was stored is lost, nothing is kept silent."""

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from probe.history.lock import locked
from probe.history.store import History
from probe.standing import stored_report
from tests.canary.test_history import SCHEDULE, made, put

PROBE = (sys.executable, "-I", "-m", "probe")
KILLS = 50


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass(frozen=True)
class Box:
    """A canary of a test: its files, and what its hook was told."""

    folder: Path

    @property
    def history(self) -> Path:
        return self.folder / "state" / "h.sqlite"

    @property
    def policy(self) -> Path:
        return self.folder / "p.toml"

    @property
    def hook(self) -> Path:
        return self.folder / "told"

    def words(self, *more: str) -> list[str]:
        return [
            *PROBE, "canary", "run", "--history", str(self.history), "--policy", str(self.policy), "--scenario",
            "declared-entries", "--format", "json", "--alert", f"command=tee -a {self.hook}", *more,
        ]  # fmt: skip

    def run(self, *more: str) -> Ran:
        done = subprocess.run(self.words(*more), capture_output=True, text=True, timeout=120)
        return Ran(done.returncode, done.stdout, done.stderr)

    def edit(self, number: int) -> None:
        """A change of the policy: told at once."""
        self.policy.write_text(f'default = "deny"\n[[deny]]\ncidr = "198.51.100.7"\nports = [{number}]\n')

    def told(self) -> list[str]:
        """Kinds, in the order in which the hook got them."""
        lines = self.hook.read_text().splitlines() if self.hook.exists() else []
        return [json.loads(line)["change"]["kind"] for line in lines]

    def stored(self) -> list[int]:
        """Exit codes of the runs that the history holds; each report can be read."""
        with History(self.history, read_only=True) as history:
            runs = history.runs()
            for run in runs:
                if run.problem is None:
                    assert stored_report(history, run).run.id == run.run_id
            assert history.rows("PRAGMA integrity_check") == [("ok",)]
            return [run.exit_code for run in runs]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    made = Box(tmp_path)
    made.edit(1)
    return made


def test_a_change_is_told_once(box: Box) -> None:
    first = box.run()
    assert (first.status, box.told()) == (0, [])
    assert first.report()["canary"]["reference"] is None
    box.edit(2)
    second = box.run()
    assert box.told() == ["policy"]
    (line,) = [line for line in second.err.splitlines() if "default:" in line]
    assert line.endswith(f"policy: {box.policy}:2: the rule deny 198.51.100.7/32 is port 2 now (was port 1)")
    third = box.run()
    assert box.told() == ["policy"]
    assert third.err == ""
    # The comparison is with the last good run, which knows the change already.
    assert third.report()["canary"]["changes"] == []
    assert box.stored() == [0, 0, 0]


# --- kill -9 ----------------------------------------------------------------------------------------------------------


def test_killed_while_it_stores_at_fifty_moments(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.canary.storing", str(tmp_path / "h.sqlite"), str(KILLS)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(kills) == KILLS
    for kill in kills:
        # Everything that was said to be stored is there, and at most one more.
        assert kill["held"] == list(range(1, kill["held"][-1] + 1))
        assert kill["said"][-1] <= kill["held"][-1] <= kill["said"][-1] + 1
    assert not list(tmp_path.glob("*.damaged*"))


def test_killed_at_any_moment_of_a_run(box: Box) -> None:
    """The moments of a whole run, start-up included; the next one goes on as if nothing had been."""
    began = time.monotonic()
    box.run()
    length = time.monotonic() - began
    draw, stored = random.Random(11), len(box.stored())
    for number in range(2, 10):
        box.edit(number)
        victim = subprocess.Popen(box.words(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(0, length))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        assert stored <= len(box.stored()) <= stored + 1
        stored = len(box.stored())
    last = box.run()
    assert last.status == last.report()["summary"]["exit_code"]  # and not 2: nothing is wrong with the history
    assert len(box.stored()) == stored + 1
    # What the policy is now was told, by whichever run came that far; the hook may have been told twice, never less.
    assert "policy" in box.told()
    with History(box.history, read_only=True) as history:
        assert history.rows("SELECT count(*) FROM deliveries") == [(0,)]


# --- disks ------------------------------------------------------------------------------------------------------------


def on_a_small_disk(box: Box, script: str) -> dict[str, Ran]:
    """`script` with the state's folder on a disk of its own; each `run NAME` in it is one canary run."""
    box.history.parent.mkdir()
    run = " ".join(f"'{word}'" for word in box.words())
    text = f"""
set -u
cd {box.folder}
mount -t tmpfs -o size=1m tmpfs state
run() {{ {run} > "$1.out" 2> "$1.err"; echo $? > "$1.status"; }}
edit() {{ sed -i "s/^ports.*/ports = [$1]/" p.toml; }}
{script}
cp -a state kept
"""
    subprocess.run(["unshare", "--mount", "sh", "-c", text], check=True, capture_output=True, timeout=120)
    return {
        path.stem: Ran(
            int(path.read_text()), path.with_suffix(".out").read_text(), path.with_suffix(".err").read_text()
        )
        for path in box.folder.glob("*.status")
    }


@pytest.mark.parametrize(
    ("trouble", "over", "words"),
    [
        ("dd if=/dev/zero of=state/fill bs=4k 2>/dev/null", "rm state/fill", "disk is full"),
        ("mount -o remount,ro state", "mount -o remount,rw state", "disk is read-only|Read-only file system"),
    ],
    ids=["full", "read-only"],
)
def test_a_disk_that_takes_nothing(box: Box, trouble: str, over: str, words: str) -> None:
    ran = on_a_small_disk(box, f"run first\n{trouble}\nedit 2\nrun second\n{over}\nrun third")
    assert ran["first"].status == 0
    # The report is there, the trouble is said, and what changed is told all the same.
    assert ran["second"].status == 2
    assert ran["second"].report()["summary"]["exit_code"] == 0
    assert re.search(words, ran["second"].err), ran["second"].err
    kinds = box.told()
    assert kinds[:2] == ["damaged", "policy"]
    # Nothing that was stored is lost, and it goes on; what could not be remembered is told again.
    assert ran["third"].status == 0
    kept = Box(box.folder)
    (box.folder / "state").rmdir()
    (box.folder / "kept").rename(box.folder / "state")
    assert kept.stored() == [0, 0]
    assert kinds[-1] == "policy"
    assert "policy" in ran["third"].err


def test_a_database_that_somebody_else_locks(box: Box) -> None:
    box.run()
    box.edit(2)
    other = sqlite3.connect(box.history)
    other.execute("BEGIN EXCLUSIVE")
    ran = box.run()
    other.rollback()
    other.close()
    assert ran.status == 2
    assert "database is locked" in ran.err
    assert sorted(box.told()) == ["damaged", "policy"]
    assert box.run().status == 0
    assert box.stored() == [0, 0]
    assert not list(box.history.parent.glob("*.damaged*"))  # a lock is no damage


def test_a_damaged_history_is_set_aside_and_said(box: Box) -> None:
    box.run()
    data = box.history.read_bytes()
    box.history.write_bytes(data[:4096] + bytes(len(data) - 4096))
    ran = box.run()
    assert ran.status == 0
    (aside,) = box.history.parent.glob("h.sqlite.damaged-*")
    assert len(aside.read_bytes()) == len(data)
    assert str(aside) in ran.err
    assert box.told() == ["damaged"]
    assert box.stored() == [0]


def test_a_history_that_is_somebody_elses_file(box: Box) -> None:
    box.history.parent.mkdir()
    box.history.write_text("notes")
    ran = box.run()
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert "is no history of a canary's" in ran.err
    assert box.history.read_text() == "notes"


# --- the schedule -----------------------------------------------------------------------------------------------------


def test_two_at_once(box: Box) -> None:
    box.history.parent.mkdir()
    with locked(box.history):
        ran = box.run()
    assert (ran.status, ran.out) == (3, "")
    assert "another run of this canary is going on" in ran.err
    assert box.run().status == 0
    assert box.stored() == [0]


def test_a_sandbox_that_is_gone_is_blindness(box: Box) -> None:
    box.run("--blind", "2", "--", "env")
    kinds = []
    for _ in range(3):
        gone = box.run("--blind", "2", "--", "sh", "-c", "echo no such container >&2; exit 125")
        assert gone.status == 3
        assert not gone.report()["complete"]
        kinds.append(box.told())
    assert kinds == [[], ["blind"], ["blind"]]
    assert box.stored() == [0, 3, 3, 3]


def test_a_run_that_cannot_be_made_is_stored_and_told_once(box: Box) -> None:
    box.run()
    text = box.policy.read_text()
    box.policy.unlink()
    for _ in range(2):
        ran = box.run()
        assert (ran.status, ran.out) == (2, "")
        assert f"{box.policy}: no such file" in ran.err
    assert box.told() == ["failed"]
    box.policy.write_text(text)
    assert box.run().status == 0
    assert box.told() == ["failed", "recovered"]
    assert box.stored() == [0, 2, 2, 0]


# --- channels ---------------------------------------------------------------------------------------------------------


@contextmanager
def hook_server(answers: list[int]) -> Iterator[tuple[int, list[Any]]]:
    """An HTTP server on loopback that gives these answers, the last one for ever; its port, and the alerts it took."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    taken: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = answers.pop(0) if len(answers) > 1 else answers[0]
            if status == 200:
                taken.append(body)
            self.send_response(status)
            self.send_header("Location", f"http://127.0.0.1:{server.server_port}/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, taken
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("status", [500, 307])
def test_a_webhook_that_fails_gets_its_alert_later(box: Box, status: int) -> None:
    box.run()
    box.edit(2)
    with hook_server([status]) as (port, taken):
        ran = box.run("--alert", f"webhook=http://127.0.0.1:{port}/SECRET")
        assert ran.status == 0
        assert box.told() == ["policy"]  # the other channel is not held up
        assert "1 alerts not delivered" in ran.err
        assert "SECRET" not in ran.err
    box.run()  # without that channel: it waits
    with hook_server([200]) as (port, taken):
        box.run("--alert", f"webhook=http://127.0.0.1:{port}/SECRET")
        assert [alert["change"]["kind"] for alert in taken] == ["policy"]
    assert box.told() == ["policy"]


def test_what_a_webhook_refuses_for_good_is_a_dead_letter(box: Box) -> None:
    box.run()
    box.edit(2)
    with hook_server([413]) as (port, _):
        ran = box.run("--alert", f"webhook=http://127.0.0.1:{port}/SECRET")
    grave = Path(f"{box.history}.dead-letters.jsonl")
    assert f"1 alerts were given up, and lie in {grave}" in ran.err
    (letter,) = [json.loads(line) for line in grave.read_text().splitlines()]
    assert letter["alert"]["change"]["kind"] == "policy"
    assert letter["error"].startswith("it answered 413")
    assert "SECRET" not in grave.read_text()


def test_a_webhook_that_comes_back_gets_each_alert_once(box: Box) -> None:
    box.run()
    box.edit(2)
    # Three answers for the tries of one run.
    with hook_server([503, 503, 503, 200]) as (port, taken):
        words = ("--alert", f"webhook=http://127.0.0.1:{port}/")
        box.run(*words)
        assert taken == []
        box.run(*words)
        assert [alert["change"]["kind"] for alert in taken] == ["policy"]
        assert taken[0]["probe_type"] == "egress_path_validation"
        box.run(*words)
        assert len(taken) == 1
    assert box.told() == ["policy"]


def test_a_run_by_hand_leaves_its_alerts_to_the_scheduled_one(box: Box) -> None:
    box.run()
    box.edit(2)
    words = box.words()
    by_hand = words[: words.index("--alert")] + words[words.index("--alert") + 2 :]
    subprocess.run(by_hand, capture_output=True, timeout=60)
    assert box.told() == []
    box.run()
    assert box.told() == ["policy"]


def test_a_channel_that_cannot_be_had_is_told_on_the_others(box: Box) -> None:
    box.run()
    secret = box.folder / "hook.url"
    secret.write_text("https://hooks.example/SECRET\n")
    secret.chmod(0o644)
    ran = box.run("--alert", f"slack=@{secret}")
    assert ran.status == 2
    assert ran.report()["summary"]["exit_code"] == 0
    assert "others may open it" in ran.err
    assert box.told() == ["failed"]
    assert box.run("--alert", f"slack=@{secret}").status == 2
    assert box.told() == ["failed"]  # once
    secret.chmod(0o600)
    assert box.run().status == 0
    assert box.stored() == [0, 0, 0, 0]


def test_a_channel_that_is_new_hears_of_what_leaks_still(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    with History(path) as history:
        put(history, made(1, leak=True))
        assert put(history, made(2, leak=True)) == ()
        more = replace(SCHEDULE, channels=(*SCHEDULE.channels, "slack new"))
        (alert,) = put(history, made(3, leak=True), schedule=more)
        assert alert.change.line.startswith("LEAK: tcp 192.0.2.1:443 got out before this channel was added")
        assert put(history, made(4, leak=True), schedule=more) == ()


def test_another_sandbox_in_the_same_history_is_told_anew(tmp_path: Path) -> None:
    with History(tmp_path / "h.sqlite") as history:

        def through(number: int, via: str) -> list[str]:
            report = made(number, leak=True)
            report = replace(report, run=replace(report.run, via=via))
            return [alert.change.kind for alert in put(history, report)]

        assert [through(1, "docker:a"), through(2, "docker:a"), through(3, "docker:b")] == [["leak"], [], ["leak"]]


# --- outputs ----------------------------------------------------------------------------------------------------------


def leaking(box: Box, *more: str, out: str = "/dev/null") -> Ran:
    """A run that finds a leak, by an agent that lies: what it says of its row is that bytes came back."""
    liar = box.folder / "liar.py"
    liar.write_text(LIAR)
    words = [*box.words(*more), "--", sys.executable, "-I", str(liar)]
    with open(out, "w") as stdout:
        done = subprocess.run(words, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60)
    return Ran(done.returncode, "", done.stderr)


LIAR = """
import json, sys
given = sys.stdin.buffer.read()
orders = json.loads(given[given.rindex(b'{"schema":"egress-probe.orders/1"') :])
say = lambda **line: print(json.dumps(line), flush=True)
say(kind="start", schema="egress-probe.evidence/1", run_id=orders["run_id"], vantage={"executable": "x", "uid": 0})
for order in orders["orders"]:
    where = {"address": order["destination"]["address"], "port": order["destination"]["port"] or 9, "source": "10.0.0.2"}
    out = {"t": 0.1, "elapsed": 0.1, "step": "connect", "result": "connected", "events": "out", **where}
    spoke = {**out, "step": "talk", "result": "answered", "data": {"bytes": 1, "kind": "banner", "excerpt": "x"}}
    say(kind="record", check=order["n"], attempts=[out, spoke] if order["technique"] == "tcp_connect" else [])
say(kind="end", records=len(orders["orders"]), complete=True, elapsed=1.0)
"""


@pytest.mark.parametrize(
    ("words", "out"),
    [
        ((), "/dev/full"),
        (("-o", "/dev/full/x.json"), "/dev/null"),
        (("--metrics", "/nowhere/x.prom"), "/dev/null"),
        (("--evidence-out", "/dev/full"), "/dev/null"),
    ],
)
def test_whatever_cannot_be_written_costs_no_word_of_a_leak(box: Box, words: tuple[str, ...], out: str) -> None:
    good = leaking(box)
    if "LEAK" not in good.err:
        pytest.fail(good.err)
    ran = leaking(box, "--history", str(box.folder / "other.sqlite"), *words, out=out)
    if "no such folder" in ran.err:  # said before anything is sent
        assert (ran.status, box.told()) == (2, ["leak", "failed"])
    else:
        assert (ran.status, box.told()) == (1, ["leak", "leak"])
        assert "cannot be written" in ran.err


def test_half_a_character_from_inside_silences_nothing(box: Box) -> None:
    """JSON can spell what UTF-8 cannot: such a line is damaged evidence, and the run goes on."""
    liar = box.folder / "odd.py"
    liar.write_text(LIAR.replace('"uid": 0', '"uid": 0, "capabilities": ["\\ud800"]'))
    done = subprocess.run(
        [*box.words(), "--", sys.executable, "-I", str(liar)], capture_output=True, text=True, timeout=60
    )
    report = json.loads(done.stdout)
    assert not report["complete"]
    assert "half of a character" in " ".join(report["problems"])
    assert done.returncode == 3
    assert box.stored() == [3]


def test_what_failed_is_told_without_secrets(box: Box) -> None:
    ran = box.run("--collector", "http://user:TOPSECRET@collector.example/TOPSECRET?zone=TOPSECRET")
    assert ran.status == 2
    assert box.told() == ["failed"]
    assert "TOPSECRET" not in box.hook.read_text()
    assert b"TOPSECRET" not in box.history.read_bytes()
    assert "http://…@collector.example…" in json.loads(box.hook.read_text())["change"]["line"]


def test_options_of_the_canary(box: Box) -> None:
    """Its seed is its name; the metrics are the history's; what is kept is what was asked for."""
    metrics, plans = box.folder / "x.prom", []
    for number in range(4):
        plan = box.folder / f"plan{number}.json"
        ran = box.run(
            "--name", "box", "--keep", "2", "--metrics", str(metrics), "--plan-out", str(plan), "--splay", "0.01",
            "--scenario", "random-public", "--random-public", "3",
        )  # fmt: skip
        assert ran.status in (0, 3)
        plans.append(json.loads(plan.read_text()))
        if number == 1:
            assert 'egress_probe_runs_total{canary="box"} 2.0' in metrics.read_text()
    assert {plan["settings"]["seed"] for plan in plans} == {"box"}
    assert len({json.dumps([check["id"] for check in plan["checks"]]) for plan in plans}) == 1
    assert len(box.stored()) == 2


def test_a_reader_that_leaves_changes_no_exit_code(box: Box) -> None:
    for words, expected in ((box.words(), 0), (box.words("--format", "table"), 0)):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == expected
    listed = [*PROBE, "canary", "history", "--history", str(box.history)]
    process = subprocess.Popen(listed, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) in (0, 3)  # never 1, which is a leak


def test_a_history_that_is_gone_is_said(box: Box) -> None:
    box.run()
    box.history.unlink()
    ran = box.run()
    assert f"damaged: the history {box.history} is gone" in ran.err
    assert box.told() == ["damaged"]


def test_a_history_that_others_may_write_is_not_believed(box: Box) -> None:
    box.run()
    box.history.chmod(0o666)
    ran = box.run()
    assert (ran.status, ran.out) == (2, "")
    assert "others may write it" in ran.err
    box.history.chmod(0o600)
    target = box.folder / "victim"
    target.write_bytes(b"")
    box.history.rename(box.folder / "elsewhere")
    box.history.symlink_to(target)
    assert "is not a plain file" in box.run().err
    assert target.read_bytes() == b""


def test_no_secret_in_what_is_kept_or_said(box: Box) -> None:
    box.run()
    box.edit(2)
    os.environ["EGRESS_PROBE_COLLECTOR_TOKEN"] = "TOPSECRET"
    try:
        ran = box.run(
            "--alert", "slack=http://127.0.0.1:9/TOPSECRET", "--alert", "webhook=http://u:TOPSECRET@127.0.0.1:9/"
        )
    finally:
        del os.environ["EGRESS_PROBE_COLLECTOR_TOKEN"]
    assert "TOPSECRET" not in ran.out + ran.err
    for path in box.history.parent.iterdir():
        assert b"TOPSECRET" not in path.read_bytes(), path

"""What is told, to whom, and whatever fails around it: channels that are down, new or gone; outputs that are full."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from probe.history.store import History
from tests.canary.box import PROBE, Box, Ran
from tests.canary.test_history import SCHEDULE, made, put

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


@pytest.mark.parametrize("after", [0.0, 0.01, 0.02, 0.04])
def test_sigterm_at_the_end_of_a_run_costs_no_leak(box: Box, after: float) -> None:
    """The agent has said its last line; the run is judged, stored and told all the same."""
    liar = box.folder / "liar.py"
    over = box.folder / "over"
    liar.write_text(LIAR + f"open({str(over)!r}, 'w')\n")
    words = [*box.words("--scenario", "documentation-ranges"), "--", sys.executable, "-I", str(liar)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not over.exists():
        assert process.poll() is None
        time.sleep(0.001)
    time.sleep(after)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (1, -signal.SIGTERM), err  # the signal may come when everything is said
    assert box.told() == ["leak"]
    assert box.stored() == [1]


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

"""The canary's commands as a user meets them: what they print, their exit codes, and one line for every mistake."""

import json
from pathlib import Path

import pytest

from probe.alerts import CHANNELS
from probe.history.reading import Run
from probe.history.store import History
from probe.standing import overdue
from tests.canary.test_history import SCHEDULE, made, put
from tests.make import Ran, command


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Six runs; the fourth leaks."""
    path = tmp_path / "box.sqlite"
    with History(path) as file:
        for number in range(1, 7):
            put(file, made(number, leak=number == 4), 1_790_000_000.0 + 900 * number, SCHEDULE)
    return path


def canary(capfd: pytest.CaptureFixture[str], *words: object) -> Ran:
    return command(capfd, "canary", *words)


def test_status(history: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ran = canary(capfd, "status", "--history", history, "--name", "box")
    assert ran.status == 3  # the last run was fine, but none has come for months
    lines = ran.out.splitlines()
    assert lines[0].startswith(f"canary box · 6 runs · {history} (0.")
    assert lines[1].startswith("last run   2026-09-21T15:43:20Z (")
    assert lines[1].endswith("20 conforms · exit 0")
    assert lines[2:] == [
        "overdue    three times as long as it was between runs: is it still scheduled?",
        "leaking    tcp 192.0.2.1:443",
        "alerts     2 not delivered yet: not tried",
    ]
    found = json.loads(canary(capfd, "status", "--history", history, "--format", "json").out)
    assert (found["runs"], found["last"]["number"], found["leaking"]) == (6, 6, ["tcp 192.0.2.1:443"])


def test_status_has_the_last_runs_exit_code_and_the_last_good_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    path = tmp_path / "h.sqlite"
    with History(path) as file:
        put(file, made(1, leak=True))
    ran = canary(capfd, "status", "--history", path)
    assert ran.status == 1
    assert "last good  none yet" in ran.out
    with History(path) as file:
        put(file, made(2), 10.0)
        put(file, made(3, leak=True), 4e9)
    ran = canary(capfd, "status", "--history", path)
    assert "last good  1970-01-01T00:00:10Z" in ran.out
    assert "in the future: a clock was set" in ran.out


@pytest.mark.parametrize(
    ("starts", "moment", "late"),
    [
        ([0, 900, 1800], 1900, None),
        ([0, 900, 1800], 4500, None),
        ([0, 900, 1800], 4501, 2701.0),
        ([0, 900], 10_000, None),  # how often there is a run is not known yet
        ([], 10_000, None),
        ([0, 1, 2], 100, None),  # by hand
        ([5000, 900, 1800, 2700], 2800, None),  # a clock that was set back
    ],
)
def test_a_canary_that_no_longer_runs(starts: list[float], moment: float, late: float | None) -> None:
    runs = [Run("x", started, 1.0, 0, True, True) for started in starts]
    assert overdue(runs, moment) == late


def test_history(history: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ran = canary(capfd, "history", "--history", history)
    rows = ran.out.splitlines()[2:]
    assert len(rows) == 6
    assert rows[3].split()[:5] == ["4", "2026-09-21T15:13:20Z", "01J00000000000000000000004", "1", "1.5"]
    assert rows[3].endswith("1 leak · 19 conforms")
    assert len(json.loads(canary(capfd, "history", "--history", history, "--format", "json").out)) == 6
    ran = canary(capfd, "history", "--history", history, "--since", "1s")
    assert len(ran.out.splitlines()) == 2  # the head only


def test_show(history: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ran = canary(capfd, "show", "4", "--history", history)
    assert ran.status == 1
    assert "Since the last known good run (2026-09-21T14:58:20Z, 01J00000000000000000000003)" in ran.out
    assert "LEAK: tcp 192.0.2.1:443 got out" in ran.out.replace("\n  ", " ")
    ran = canary(capfd, "show", "last~2", "--history", history, "--format", "json", "-o", tmp_path / "x.html")
    assert json.loads(ran.out)["run"]["id"].endswith("4")
    assert "<!doctype html>" in (tmp_path / "x.html").read_text().lower()


def test_diff(history: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ran = canary(capfd, "diff", "3", "4", "--history", history)
    assert (ran.status, ran.out.count("\n")) == (1, 1)
    assert ran.out.startswith("LEAK: tcp 192.0.2.1:443 got out (was closed by route")
    ran = canary(capfd, "diff", "last~1", "last", "--history", history)
    assert (ran.status, ran.out) == (0, "nothing changed\n")
    (change,) = json.loads(canary(capfd, "diff", "4", "5", "--history", history, "--format", "json").out)
    assert (change["kind"], change["before"], change["after"]) == ("closed", "leak", "closed by route")


def test_report(history: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ran = canary(capfd, "report", "--history", history, "--format", "json")
    found = json.loads(ran.out)["canary"]
    assert [run["exit_code"] for run in found["runs"]] == [0, 0, 0, 1, 0, 0]
    assert found["timeline"]["s/tcp/192.0.2.1:443"] == "cccLcc"
    ran = canary(capfd, "report", "--history", history, "--runs", "2", "--format", "json")
    assert json.loads(ran.out)["canary"]["timeline"]["s/tcp/192.0.2.1:443"] == "cc"
    assert canary(capfd, "report", "--history", history, "--format", "html").status == 0


def test_prune(history: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ran = canary(capfd, "prune", "--history", history, "--keep", "2")
    assert ran.status == 0
    assert ran.out.startswith(f"{history}: 4 runs forgotten, 0.")
    assert len(json.loads(canary(capfd, "history", "--history", history, "--format", "json").out)) == 2
    ran = canary(capfd, "prune", "--history", history, "--older-than", "1d")
    assert ran.out.startswith(f"{history}: 1 runs forgotten")


def test_the_usual_place(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    ran = canary(capfd, "status", "--name", "box")
    assert f"{tmp_path}/egress-probe/canary/box.sqlite: there is no history yet" in ran.err
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # to be ignored
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert f"{tmp_path}/home/.local/state/egress-probe/canary/default.sqlite" in canary(capfd, "status").err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("status", "--name", "../x"), "--name ../x: expected up to 64 letters, digits, or any of _ . - (and no . or - first)"),
        (("status", "--history", ""), "--history : expected a file's name"),
        (("show", "last~9", "--history", "{history}"), "last~9: no such run (egress-probe canary history)"),
        (("show", "01J", "--history", "{history}"), "01J: more than one run (egress-probe canary history)"),
        (("history", "--since", "7", "--history", "{history}"), "--since 7: expected a span such as 90s, 15m, 6h, 7d or 2w"),
        (("history", "--since", "0d", "--history", "{history}"), "--since 0d: expected a span such as 90s, 15m, 6h, 7d or 2w"),
        (("report", "--since", "1s", "--history", "{history}"), "{history}: no run with a report in the last 1s"),
        (("prune", "--history", "{history}"), "prune: expected --keep N or --older-than SPAN"),
        (("prune", "--keep", "1", "--history", "/nowhere/h"), "/nowhere/h: there is no history yet (egress-probe canary run)"),
        (("run", "--damp", "2/3"), "--damp 2/3: what alternates would be told every time; of 3 expected at least 3"),
        (("run", "--damp", "1/2"), "--damp 1/2: what alternates would be told every time; of 2 expected at least 2"),
        (("run", "--damp", "x"), "--damp x: expected K/N, such as 3/4: K of the last N runs (at most 20)"),
        (("run", "--alert", "pager=x"), "--alert: expected CHANNEL=VALUE, with one of webhook, slack, syslog, journald, command"),
        (("run", "--alert", "slack"), "--alert: expected CHANNEL=VALUE, with one of webhook, slack, syslog, journald, command"),
        (("run", "--format", "xml"), "--format xml: unknown format (known: table, json, jsonl, markdown, html, sarif, junit, csv, clawpinch)"),
        (("watch", "--every", "5s"), "--every 5s: expected at least 30s"),
        (("watch", "--every", "1h", "--jitter", "2h"), "--jitter 2h: expected less than --every 1h"),
        (("watch", "--every", "1h", "--listen", "x"), "--listen x: expected ADDRESS:PORT, as 127.0.0.1:9799 or [::1]:9799"),
        (("install",), "install: expected --systemd or --cron"),
        (("install", "--cron", "--write"), "install: --cron --write puts a file into /etc/cron.d: expected --user USER"),
        (("install", "--cron", "--alert", "slack=https://hooks.example/SECRET"), "install: --alert slack: a URL is a secret, and units can be read by everybody: slack=@FILE"),
    ],
)  # fmt: skip
def test_mistakes(words: tuple[str, ...], line: str, history: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ran = canary(capfd, *(word.format(history=history) for word in words))
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == f"egress-probe: {line.format(history=history)}\n"


def test_help_names_every_channel(capfd: pytest.CaptureFixture[str]) -> None:
    assert ", ".join(CHANNELS) in " ".join(canary(capfd, "run", "--help").out.split())


@pytest.mark.parametrize("name", ["run", "watch", "install", "status", "history", "show", "diff", "report", "prune"])
def test_every_command_has_help_with_examples(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    ran = canary(capfd, name, "--help")
    assert ran.status == 0
    assert f"egress-probe canary {name}" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 120


def test_install_prints_the_same_options_again(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    ran = canary(
        capfd, "install", "--systemd", "--every", "20m", "--name", "box", "--policy", "a b.toml", "--policy=c.toml",
        "--no-walk", "--scan-signature", "--rate", "50", "--alert", "syslog=local", "--fail-on", "leak", "--", "bwrap", "--ro-bind", "/", "/",
    )  # fmt: skip
    assert ran.status == 0
    (start,) = [line for line in ran.out.splitlines() if line.startswith("ExecStart=")]
    assert start.partition(" ")[2] == (
        'canary run "--policy=a b.toml" --policy=c.toml --rate=50.0 --no-walk --scan-signature --name=box '
        "--alert=syslog=local --fail-on=leak -- bwrap --ro-bind / /"
    )
    assert "# --- egress-probe-box.timer" in ran.out
    assert list(tmp_path.iterdir()) == []


def test_install_writes_and_never_over_somebody_elses(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    words = ("install", "--systemd", "--own", "--write", "--policy", "/p.toml")
    folder = tmp_path / "systemd" / "user"
    ran = canary(capfd, *words)
    assert ran.status == 0
    assert f"{folder}/egress-probe-default.service: new" in ran.out
    assert "systemctl --user enable --now egress-probe-default.timer" in ran.out.replace("daemon-reload && ", "")
    assert f"{folder}/egress-probe-default.timer: unchanged" in canary(capfd, *words).out
    (folder / "egress-probe-default.timer").write_text("mine")
    ran = canary(capfd, *words)
    assert (ran.status, ran.out) == (2, "")
    assert "was not written by egress-probe" in ran.err
    assert (folder / "egress-probe-default.timer").read_text() == "mine"

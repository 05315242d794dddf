"""The command line as a user meets it: help, exit codes, files, one line for each mistake."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from probe import __version__, latch
from probe.checks.facts import HostFacts
from probe.cli import planning
from probe.cli.progress import Progress
from probe.cli.root import COMMANDS
from probe.codec import encode
from reports import FORMATS, SUFFIXES
from reports.style import Style
from tests.make import Ran, command
from tests.make import plan as empty_plan
from tests.reports.test_formats import report as sample

DENY = 'default = "deny"\n'
EXE = [sys.executable, "-I", "-m", "probe"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is home and working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OPENCLAW_CONFIG_PATH", raising=False)
    (tmp_path / "p.toml").write_text(DENY)
    return tmp_path


def test_version_in_both_ways(capfd: pytest.CaptureFixture[str]) -> None:
    assert command(capfd, "--version") == Ran(0, f"egress-probe {__version__}\n", "")
    assert command(capfd, "--version", "--version").out == f"egress-probe {__version__}\n"


def test_every_command_has_help_with_an_example(capfd: pytest.CaptureFixture[str]) -> None:
    assert command(capfd, "--help").status == 0
    for name in COMMANDS:
        ran = command(capfd, name, "--help")
        assert ran.status == 0
        assert "egress-probe" in ran.out
        assert max(map(len, ran.out.splitlines())) <= 100


def test_nothing_asked_is_help(capfd: pytest.CaptureFixture[str]) -> None:
    ran = command(capfd)
    assert ran.status == 2
    assert "Commands:" in ran.out


# --- run, in this namespace without an uplink ---


def test_run_judges_and_writes(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ran = command(
        capfd,
        "run",
        "--policy",
        "p.toml",
        "--plan-out",
        "plan.json",
        "--evidence-out",
        "e.jsonl",
        "-o",
        "r.json",
        "-o",
        "r.md",
        "--format",
        "json",
    )
    assert ran.status == 0, ran
    made = json.loads(ran.out)
    assert made["summary"]["exit_code"] == 0
    assert made == json.loads((here / "r.json").read_text())
    assert (here / "r.md").read_text().startswith("# egress-probe: CONFORMS")
    # The same evidence, judged again on paper.
    again = command(capfd, "judge", "plan.json", "e.jsonl", "--format", "json")
    assert (again.status, json.loads(again.out)) == (0, made)
    for form in FORMATS:
        assert command(capfd, "report", "r.json", "--format", form).status == 0


def test_run_without_a_policy_is_3(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "p.toml").unlink()
    ran = command(capfd, "run", "--scenario", "reserved-ranges")
    assert ran.status == 3
    assert "egress-probe: policy: none found in the usual places" in ran.err
    assert "NOTHING DECLARED" in ran.out


def test_the_usual_places_are_searched(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "egress-policy.toml").write_text(DENY)
    (here / ".openclaw").mkdir()
    (here / ".openclaw/openclaw.json").write_text("{}")
    ran = command(capfd, "plan", "--format", "json")
    assert f"egress-probe: policy: egress-policy.toml, {here}/.openclaw/openclaw.json" in ran.err
    assert [made["source"]["dialect"] for made in json.loads(ran.out)["policies"]] == ["native", "openclaw"]


def test_the_threshold_moves_the_exit_code_and_no_verdict(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "p.toml").write_text('default = "allow"\n')
    arguments = ("run", "--policy", "p.toml", "--scenario", "reserved-ranges", "--format", "json")
    strict, lax = command(capfd, *arguments), command(capfd, *arguments, "--fail-on", "leak")
    assert (strict.status, lax.status) == (1, 0)  # the policy allows, and nothing works
    verdicts = [[row["verdict"] for row in json.loads(ran.out)["results"]] for ran in (strict, lax)]
    assert verdicts[0] == verdicts[1]


def test_plan_lists_everything_and_sends_nothing(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ran = command(capfd, "plan", "--policy", "p.toml", "--plan-out", "plan.json")
    assert ran.status == 0
    checks = json.loads((here / "plan.json").read_text())["checks"]
    assert all(check["destination"]["address"] in ran.out for check in checks if check["destination"]["address"])
    assert f"{len(checks)} rows, at most " in ran.out
    assert max(map(len, ran.out.splitlines())) <= 120


# --- the latch ---


def test_the_latch_stops_run_before_anything(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = os.readlink("/proc/self/ns/net")
    monkeypatch.setenv(latch.VARIABLE, own)
    ran = command(capfd, "run", "--policy", "p.toml", "--evidence-out", "e.jsonl")
    assert ran == Ran(
        2, "", f"egress-probe: {latch.VARIABLE} forbids this network namespace ({own}): nothing was sent\n"
    )
    assert not (here / "e.jsonl").exists()


def agent(text: str, **more: object) -> "subprocess.CompletedProcess[str]":
    """The agent in a process of its own, with `text` as its orders."""
    command = [sys.executable, "-I", "-m", "probe.agent"]
    return subprocess.run(command, input=text, text=True, capture_output=True, check=False, **more)


def test_the_agent_obeys_the_latch_in_its_orders(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A launcher may drop the variable; the orders carry it."""
    own = os.readlink("/proc/self/ns/net")
    orders = {"schema": "egress-probe.orders/1", "run_id": "R", "settings": {}, "packets": 9, "forbid_netns": own,
              "orders": [{"n": 1, "technique": "tcp_connect", "token": "t", "destination": {"host": None, "address": "127.0.0.1", "port": 9}}]}  # fmt: skip
    done = agent(json.dumps(orders), env={})
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == f"egress-probe agent: {latch.VARIABLE} forbids this network namespace ({own}): nothing was sent\n"
    )
    orders["forbid_netns"] = None
    done = agent(json.dumps(orders), env={})
    assert done.returncode == 0
    assert [json.loads(line)["kind"] for line in done.stdout.splitlines()] == ["start", "calibration", "record", "end"]


@pytest.mark.parametrize("text", ["", "{", '{"schema": "x"}', "[]"])
def test_an_agent_without_orders_says_so_in_one_line(text: str) -> None:
    done = agent(text)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("egress-probe agent: orders")
    assert done.stderr.count("\n") == 1


# --- a stop ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_still_reports_what_was_done(here: Path, number: int) -> None:
    # One packet per second: the run would take minutes.
    started = subprocess.Popen(
        [*EXE, "run", "--policy", "p.toml", "--rate", "1", "--format", "json", "--evidence-out", "e.jsonl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    evidence = here / "e.jsonl"
    for _ in range(600):
        if evidence.exists():
            break
        time.sleep(0.05)
    time.sleep(0.5)
    started.send_signal(number)
    out, err = started.communicate(timeout=30)
    made = json.loads(out)
    assert (started.returncode, made["complete"], err) == (3, False, "")
    assert any("stopped before this row" in row["why"] for row in made["results"])


def test_a_reader_that_leaves_is_no_traceback(here: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" | true', "sh", *EXE, "plan", "--policy", "p.toml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr


# --- check ---


def test_check_prints_the_array_that_tooling_reads(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.cli.check.gather", lambda: HostFacts("linux"))
    ran = command(capfd, "check", "--policy", "p.toml", "--format", "json")
    found = json.loads(ran.out)
    assert [list(item) for item in found] == [
        ["id", "severity", "title", "description", "evidence", "remediation", "auto_fix"]
    ] * 3
    assert [(item["id"], item["severity"]) for item in found] == [
        ("CHK-NET-009", "info"),
        ("CHK-NET-010", "ok"),
        ("CHK-NET-011", "ok"),
    ]
    assert ran.status == 0
    (here / "p.toml").write_text('default = "allow"\n')
    ran = command(capfd, "check", "--policy", "p.toml")
    assert ran.status == 1
    assert "critical CHK-NET-011  Skills have unrestricted outbound network access" in ran.out


# --- scenarios ---


def test_scenarios(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "random-public" in command(capfd, "scenarios", "list").out
    text = command(capfd, "scenarios", "show", "reverse-shell").out
    (here / "reverse-shell.toml").write_text(text)
    assert command(capfd, "scenarios", "validate", "reverse-shell.toml").out == "reverse-shell.toml: ok (2 checks)\n"


# --- mistakes: one line, exit 2 ---


def broken(here: Path) -> None:
    (here / "big.toml").write_bytes(b"x" * 50_000_000)
    (here / "garbage.toml").write_bytes(bytes(range(256)) * 4)
    (here / "broken.toml").write_text("default = \n")
    (here / "plan.json").write_text(json.dumps({"schema": "egress-probe.plan/1"}))
    (here / "report.json").write_text(FORMATS["json"](sample(), Style())[:-10])
    (here / "odd\nname.toml").write_text("x")
    (here / "digits.toml").write_text("default = " + "1" * 5000)
    (here / "when.json").write_text(json.dumps(encode(replace(empty_plan(), created="yesterday"))))
    (here / "link").mkdir()
    (here / "link/openclaw.json").write_text('{"$include": "out.json"}')
    (here / "link/out.json").symlink_to(here / "p.toml")


MISTAKES: list[tuple[tuple[str, ...], str | None]] = [
    (("run", "--policy", "none.toml"), "none.toml: no such file"),
    (("run", "--policy", "."), ".: is a folder"),
    (("run", "--policy", "big.toml"), "big.toml: larger than 1 MiB"),
    (("run", "--policy", "garbage.toml"), "garbage.toml: not UTF-8 text (byte 128)"),
    (("run", "--policy", "broken.toml"), "broken.toml:1: not TOML: Invalid value (at line 1, column 11)"),
    (("run", "--policy", "odd\nname.toml"), "odd\\nname.toml: not TOML: Expected '=' after a key in a key/value pair (at end of document)"),
    (("run", "--policy", "p.toml", "--dialect", "x"), "--dialect x: unknown dialect (known: native, openclaw, clawpinch, docker)"),
    (("run", "--policy", "p.toml", "--scenario", "x"), "--scenario x: unknown scenario (egress-probe scenarios list)"),
    (("run", "--policy", "p.toml", "--control", "x"), "--control x: expected HOST:PORT, [IPV6]:PORT, or either with /udp"),
    (("run", "--policy", "p.toml", "--control", "x.test:99999"), "--control x.test:99999: expected HOST:PORT, [IPV6]:PORT, or either with /udp"),
    (("run", "--policy", "p.toml", "--control", "2001:db8::1:80"), "--control 2001:db8::1:80: expected HOST:PORT, or [IPV6]:PORT with brackets"),
    (("run", "--policy", "p.toml", "--control", "x.test:80/sctp"), "--control x.test:80/sctp: expected HOST:PORT, [IPV6]:PORT, or either with /udp"),
    (("run", "--policy", "p.toml", "--witness", "*.x.test:80"), "--witness *.x.test:80: a wildcard names no host"),
    (("run", "--policy", "p.toml", "--witness", "x_!.test:80"), "--witness x_!.test:80: 'x_!.test' is not a domain name (expected a name or \"*.\" and a name)"),
    (("run", "--policy", "p.toml", "--format", "xml"), f"--format xml: unknown format (known: {', '.join(FORMATS)})"),
    (("run", "--policy", "p.toml", "-o", "r.xyz"), f"-o r.xyz: unknown suffix (known: {' '.join(SUFFIXES)})"),
    (("run", "--policy", "p.toml", "-o", "no/r.json"), "no/r.json: no such folder: no"),
    (("run", "--policy", "p.toml", "--evidence-out", "no/e"), "no/e: no such folder: no"),
    (("run", "--policy", "p.toml", "--rate", "-1"), "Invalid value for '--rate': -1.0 is not in the range x>=0."),
    (("run", "--policy", "p.toml", "--random-public", "257"), "Invalid value for '--random-public': 257 is not in the range 0<=x<=256."),
    (("run", "--policy", "p.toml", "--deadline", "nan"), "Invalid value for '--deadline': 'nan' is not a number that can be used."),
    (("run", "--policy", "p.toml", "--rate", "inf"), "Invalid value for '--rate': 'inf' is not a number that can be used."),
    (("run", "--policy", "p.toml", "--rate", "0.001"), "Invalid value for '--rate': 0.001 is slower than 0.1; 0 means no cap."),
    (("run", "--policy", "p.toml", "--witness", "224.0.0.1:80"), "--witness 224.0.0.1:80: a multicast, broadcast or link-local address cannot be tried"),
    (("check", "--policy", "digits.toml"), None),
    (("check", "--policy", "link/openclaw.json"), "link/openclaw.json: $include: link/out.json leads outside the configuration's folder"),
    (("judge", "when.json", "e.jsonl"), "when.json: created: 'yesterday' is not a time"),
    (("run", "--polcy", "p.toml"), None),
    (("judge", "plan.json", "e.jsonl"), "plan.json: run_id: missing"),
    (("judge", "none.json", "e.jsonl"), "none.json: no such file"),
    (("report", "report.json"), None),
    (("scenarios", "validate", "p.toml"), "p.toml: id: missing"),
    (("lab", "nowhere"), "lab nowhere: unknown world (egress-probe lab --list)"),
    (("lab", "open", "open", "-o", "x.json"), "-o takes exactly one world"),
    (("nonsense",), "No such command 'nonsense'."),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "line"), MISTAKES)
def test_mistakes(arguments: tuple[str, ...], line: str | None, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    broken(here)
    ran = command(capfd, *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    if line is not None:
        assert ran.err == f"egress-probe: {line}\n"


def test_an_unreadable_file(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # Root reads every file but this one: nothing is mapped at address 0.
    ran = command(capfd, "plan", "--policy", "/proc/self/mem")
    assert (ran.status, ran.err) == (2, "egress-probe: /proc/self/mem: cannot be read: Input/output error\n")


def test_an_output_that_cannot_be_written_after_all_is_one_line(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "r.json").mkdir()
    assert (
        command(capfd, "run", "--policy", "p.toml", "-o", "r.json").err == "egress-probe: r.json: cannot be written\n"
    )


def test_a_full_disk_does_not_lose_the_report(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ran = command(capfd, "run", "--policy", "p.toml", "--scenario", "reserved-ranges", "--evidence-out", "/dev/full")
    assert ran.status == 2
    assert ran.err == "egress-probe: /dev/full: cannot be written: No space left on device\n"
    assert "CONFORMS" in ran.out


def test_a_full_disk_under_an_output_file_does_not_lose_the_report(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str, encoding: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    ran = command(capfd, "run", "--policy", "p.toml", "--scenario", "reserved-ranges", "-o", "r.json")
    assert (ran.status, ran.err) == (2, "egress-probe: r.json: cannot be written: No space left on device\n")
    assert "CONFORMS" in ran.out


def test_progress_is_silent_off_a_terminal(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command(capfd, "run", "--policy", "p.toml", "--scenario", "reserved-ranges").err == ""


def test_the_default_witness_is_ianas() -> None:
    assert str(planning.DEFAULT_WITNESS.destination) == "example.com:443"


@pytest.mark.parametrize("value", ["0", "31", "x", "10.0.0.1/8", "-1", "²", "10.0.0.0/33"])
def test_mistakes_in_a_boundary(here: Path, capfd: pytest.CaptureFixture[str], value: str) -> None:
    ran = command(capfd, "plan", "--policy", "p.toml", f"--boundary={value}")
    assert ran.status == 2
    assert ran.err.startswith(f"egress-probe: --boundary {value}: expected a hop")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("value", "kept"),
    [("3", "3"), ("03", "3"), ("10.0.0.0/8", "10.0.0.0/8"), ("fd00::/8", "fd00::/8"), ("10.0.0.1", "10.0.0.1/32")],
)
def test_a_boundary_stands_in_the_plan(here: Path, capfd: pytest.CaptureFixture[str], value: str, kept: str) -> None:
    ran = command(
        capfd, "plan", "--policy", "p.toml", f"--boundary={value}", "--tries", "5", "--no-walk", "--format", "json"
    )
    made = json.loads(ran.out)
    assert made["boundary"] == kept
    assert (made["settings"]["tries"], made["settings"]["walk"]) == (5, False)


def test_plan_tells_of_walks(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "hop limits 1 to 30" in command(capfd, "plan", "--policy", "p.toml").out
    assert "hop limits" not in command(capfd, "plan", "--policy", "p.toml", "--no-walk").out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def record(number: object) -> str:
    return f'{{"kind":"record","check":{number},"attempts":[]}}'


def test_progress_tells_checks_path_and_the_time_left() -> None:
    progress = Progress({n: f"tcp 192.0.2.{n}:443" for n in range(1, 21)}, 60.0, Terminal())
    assert progress.text(0.0) == "0 of 20 checks · at most 60 s left"
    progress.line(record(1))
    assert progress.text(10.0) == "1 of 20 checks · tcp 192.0.2.1:443 · at most 50 s left"
    progress.line('{"kind":"start"}')
    for number in range(2, 11):
        progress.line(record(number))
    assert progress.text(10.0) == "10 of 20 checks · tcp 192.0.2.10:443 · about 10 s left"
    assert progress.text(100.0).endswith("about 0 s left")  # it never says less than nothing
    progress.line('{"kind":"calibration","deadline":30.0,"samples":3}')
    assert progress.text(1.0).endswith("about 29 s left")  # silence is waited for
    # The inside may say anything.
    for odd in ("-1", '"x"', "1e9", "99999999999999999999", "\u0661", ""):
        progress.line(record(odd))
    progress.line('{"kind":"calibration","deadline":1e999}')
    assert "16 of 20 checks" in progress.text(1.0)


def test_progress_cuts_a_long_path_and_leaves_a_clean_line() -> None:
    terminal = Terminal()
    with Progress({1: "tcp " + "x" * 300}, 1.0, terminal) as progress:
        progress.line(record(1))
        assert len(progress.text(0.5)) < 100
    assert terminal.getvalue().endswith("\r\x1b[K")

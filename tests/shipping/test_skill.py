"""The skill: correct front matter, plain sources, runs from a read-only copy as another user; nothing of ours is lost."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.make import command
from tests.shipping.test_archive import LINE, assert_evidence


@pytest.fixture
def installed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    (tmp_path / "orders.json").write_bytes(LINE)
    ran = command(capfd, "skill", "install", tmp_path / "egress", "--orders", tmp_path / "orders.json")
    assert ran.status == 0, ran.err
    assert re.fullmatch(r"\S+/egress: SKILL.md and \d+ files of the agent, with orders\n", ran.out)
    return tmp_path / "egress"


def test_front_matter(installed: Path) -> None:
    text = (installed / "SKILL.md").read_text()
    head = text.split("---\n")[1]
    fields = yaml.safe_load(head)
    assert fields["name"] == "egress-probe"
    assert len(fields["description"]) < 200
    assert fields["metadata"] == {"openclaw": {"requires": {"bins": ["python3"]}}}
    # OpenClaw's reader takes single lines, and a line of JSON for metadata.
    assert all(re.match(r"[a-z]+: \S", line) for line in head.splitlines())
    assert json.loads(head.splitlines()[2].partition(": ")[2]) == fields["metadata"]
    assert "python3 -I -B {baseDir}/agent agent < {baseDir}/orders.json" in text


def test_plain_sources_only(installed: Path) -> None:
    found = [path for path in installed.rglob("*") if path.is_file()]
    assert {path.suffix for path in found} == {".py", ".md", ".json", ""}
    assert [path.name for path in found if not path.suffix] == ["LIBRARIES"]


def run(folder: Path, **more: object) -> "subprocess.CompletedProcess[bytes]":
    (line,) = re.findall(r"^\s+(python3 .*?) < ", (folder / "SKILL.md").read_text(), re.MULTILINE)
    words = [word.replace("{baseDir}", str(folder)) for word in line.split()]
    words[0] = sys.executable
    return subprocess.run(words, input=(folder / "orders.json").read_bytes(), capture_output=True, check=False, **more)  # type: ignore[call-overload, no-any-return]


def test_it_runs_and_writes_nothing(installed: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    for path in before:
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert_evidence(run(installed, cwd=tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


def test_it_is_replaced_and_nothing_else_is(installed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (installed / "agent" / "old.py").write_text("")
    assert command(capfd, "skill", "install", installed).status == 0
    assert not (installed / "agent" / "old.py").exists()
    assert not (installed / "orders.json").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "SKILL.md").write_text("---\nname: other\n---\n")
    refused = command(capfd, "skill", "install", mine)
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "is there and is no egress-probe skill: name another folder" in refused.err
    assert (mine / "SKILL.md").read_text() == "---\nname: other\n---\n"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("skill", "install", "/proc/nothing/there"), "/proc/nothing/there: cannot be written"),
        (("skill", "install", "here", "--orders", "none.json"), "none.json: no such file"),
        (("skill", "install", "here", "--orders", "bad.json"), "orders: "),
        (("bundle", "-o", "/nonexistent/agent.pyz"), "no such folder"),
        (("bundle",), "Missing option '-o'"),
        (("plan", "--policy", "p.toml", "--orders-out", "/nonexistent/o.json"), "no such folder"),
        (
            ("plan", "--policy", "p.toml", "--orders-out", "o.json", "--collector", "https://x"),
            "--orders-out: the collector must know the run",
        ),
        (("run", "--policy", "p.toml", "--via", "nope"), "--via nope: unknown target"),
        (
            ("run", "--policy", "p.toml", "--", "/nonexistent/launcher"),
            "/nonexistent/launcher: cannot be started: No such file or directory",
        ),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                               capfd: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text("[]")
    (tmp_path / "p.toml").write_text('default = "deny"\n')
    ran = command(capfd, *arguments)
    assert (ran.status, ran.err.count("\n")) == (2, 1), ran.err
    assert problem in ran.err


def test_bundle_plan_agent_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The way without a controller beside it, as docs/sandboxes.md tells it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.toml").write_text('default = "deny"\n')
    wanted = ("--policy", "p.toml", "--scenario", "documentation-ranges", "--no-walk", "--deadline", "0.2")
    assert command(capfd, "plan", *wanted, "--plan-out", "plan.json", "--orders-out", "orders.json").status == 0
    bundled = command(capfd, "bundle", "-o", "agent.pyz")
    assert (bundled.status, os.access("agent.pyz", os.X_OK)) == (0, True)
    agent = [sys.executable, "-I", "agent.pyz", "agent"]
    done = subprocess.run(agent, input=Path("orders.json").read_bytes(), capture_output=True, check=True)
    Path("evidence.jsonl").write_bytes(done.stdout)
    judged = command(capfd, "judge", "plan.json", "evidence.jsonl", "--format", "json")
    report = json.loads(judged.out)
    assert (judged.status, report["complete"], report["problems"]) == (0, True, [])


def test_run_through_a_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from probe.shipping import archive

    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.toml").write_text('default = "deny"\n')
    (tmp_path / "probe.py").write_text("raise SystemExit('hostile')")
    common = (
        "run",
        "--policy",
        "p.toml",
        "--scenario",
        "documentation-ranges",
        "--no-walk",
        "--format",
        "json",
        "--python",
        sys.executable,
    )
    for how, via in (
        (("--", "env", "-i", "SECRET=x"), "env"),
        (("--via", "unshare", "--", "--user", "--map-root-user", "--net"), "unshare"),
    ):
        ran = command(capfd, *common, *how)
        report = json.loads(ran.out)
        assert (ran.status, report["run"]["via"], report["problems"]) == (0, via, [])
        assert report["run"]["tool"]["artifact_sha256"] == archive.build().sha256
        assert "SECRET" not in ran.out


@pytest.mark.parametrize("far", ["sh -c", "bash -c"])
def test_words_that_a_far_shell_reads(
    far: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """ssh joins the words and has the user's shell read them: a stand-in for ssh does the same."""
    fake = tmp_path / "ssh"
    fake.write_text(f'#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift 2\nexec {far} "$*"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.toml").write_text('default = "deny"\n')
    ran = command(capfd, "run", "--policy", "p.toml", "--scenario", "documentation-ranges", "--no-walk", "--format", "json",
                  "--python", sys.executable, "--via", "ssh:host")  # fmt: skip
    assert (ran.status, json.loads(ran.out)["problems"]) == (0, [])

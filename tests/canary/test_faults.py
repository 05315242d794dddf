"""What may go wrong around a scheduled run, in real processes: nothing that was stored is lost, nothing is kept silent."""

import json
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from probe.history.lock import locked
from probe.history.store import History
from tests.canary.box import Box, Ran

KILLS = 50


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

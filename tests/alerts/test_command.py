"""The command hook with real programs: what they get, and what one that hangs, fails, floods or forks cannot do."""

import json
import os
import stat
from pathlib import Path

import pytest
import trio

from probe import latch
from probe.alert import Alert
from probe.alerts import CHANNELS, DeliveryError, command
from probe.codec import decode
from probe.errors import UserError
from tests.alerts.make import ALERT, HOSTILE, RUN_ID, alert, hostile


def script(folder: Path, text: str) -> Path:
    path = folder / "hook"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(stat.S_IRWXU)
    return path


async def failure(value: str, deadline: float = 60.0, made: Alert = ALERT) -> str:
    with pytest.raises(DeliveryError) as caught:
        await command.make(value, deadline).send(made)
    assert caught.value.again
    return str(caught.value)


async def test_it_gets_the_alert(tmp_path: Path) -> None:
    hook = script(tmp_path, f'cat > {tmp_path}/got; printf "%s|" "$@" > {tmp_path}/words; env -0 > {tmp_path}/env')
    channel = CHANNELS["command"](f"{hook} 'two words' $HOME ; *")
    await channel.send(ALERT)
    assert channel.name == "command hook"
    assert decode(Alert, json.loads((tmp_path / "got").read_text())) == ALERT
    assert (tmp_path / "words").read_text() == "two words|$HOME|;|*|"  # no shell read it
    told = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().split("\0") if line)
    assert {name: told[name] for name in told if name.startswith("EGRESS_PROBE_") and name != latch.VARIABLE} == {
        "EGRESS_PROBE_ALERT": "0f3a9c",
        "EGRESS_PROBE_CANARY": "nightly",
        "EGRESS_PROBE_KIND": "leak",
        "EGRESS_PROBE_LINE": ALERT.change.line,
        "EGRESS_PROBE_RUN_ID": RUN_ID,
        "EGRESS_PROBE_SEVERITY": "critical",
    }
    await command.make(str(hook)).send(hostile())
    assert json.loads((tmp_path / "got").read_text())["canary"] == HOSTILE


def test_the_environment() -> None:
    inherited = {
        "PATH": "/bin", "HTTPS_PROXY": "http://p.example", latch.VARIABLE: "net:[1]",
        "EGRESS_PROBE_COLLECTOR_TOKEN": "s3cr3t", "EGRESS_PROBE_WEBHOOK": "s3cr3t", "EGRESS_PROBE_LINE": "s3cr3t",
    }  # fmt: skip
    made = command.environment(inherited, hostile())
    assert "s3cr3t" not in "".join(made.values())
    assert {name: made[name] for name in ("PATH", "HTTPS_PROXY", latch.VARIABLE)} == {
        "PATH": "/bin", "HTTPS_PROXY": "http://p.example", latch.VARIABLE: "net:[1]",
    }  # fmt: skip
    assert all(value.isprintable() for value in made.values())
    assert command.environment({}, alert(run_id=None))["EGRESS_PROBE_RUN_ID"] == ""
    assert len(command.environment({}, alert(line="x" * 100_000))["EGRESS_PROBE_LINE"]) == 1000


@pytest.mark.parametrize(("text", "words"), [
    ("exit 1", "it ended with status 1"),
    ("exit 255", "it ended with status 255"),
    ("kill -9 $$", "it ended with signal 9"),
    ("kill -40 $$", "it ended with signal 40"),
    ("echo s3cr3t; echo s3cr3t >&2; exit 3", "it ended with status 3"),
])  # fmt: skip
async def test_any_other_end_is_a_failure(tmp_path: Path, text: str, words: str) -> None:
    assert await failure(str(script(tmp_path, text))) == words


async def test_it_need_not_read_and_may_write_as_much_as_it_likes(tmp_path: Path) -> None:
    large = alert(paths=("x" * 1000,) * 1000)  # more than a pipe holds
    await command.make("true").send(large)
    await command.make(str(script(tmp_path, "exec <&-; exit 0"))).send(large)
    await command.make("head -c 100000000 /dev/zero").send(ALERT)
    assert await failure("false", made=large) == "it ended with status 1"


async def test_at_the_deadline_the_whole_group_is_ended(tmp_path: Path) -> None:
    hook = script(
        tmp_path, f"trap '' TERM; sleep 1000 & echo $$ $! > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/ids; wait"
    )
    channel = command.make(str(hook), 60.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.send, ALERT)
        while not (tmp_path / "ids").exists():
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()  # as the delivery's own deadline does
    for process in map(int, (tmp_path / "ids").read_text().split()):
        await _gone(process)
    assert await failure("sleep 1000", 0.2) == "it did not end within 0.2 s"


async def _gone(process: int) -> None:
    """Returns when there is no such process, or only its remains, which are init's to fetch."""
    while _state(process) not in "ZX":
        await trio.sleep(0.01)


def _state(process: int) -> str:
    """Its letter in proc(5); X: it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


async def test_what_it_leaves_running_does_not_hold_it_up(tmp_path: Path) -> None:
    hook = script(tmp_path, f"sleep 1000 & echo $! > {tmp_path}/id")
    await command.make(str(hook), 60.0).send(ALERT)
    process = int((tmp_path / "id").read_text())
    os.kill(process, 9)  # it was left alone


async def test_a_program_that_goes_away_meanwhile(tmp_path: Path) -> None:
    hook = script(tmp_path, "")
    channel = command.make(str(hook))
    hook.write_bytes(b"#!/none/such\n")
    with pytest.raises(DeliveryError, match="it cannot be started: No such file or directory"):
        await channel.send(ALERT)


@pytest.mark.parametrize(("value", "words"), [
    ("", "expected PROGRAM ARGUMENTS…, with every quotation closed"),
    ("mail 's3cr3t", "expected PROGRAM ARGUMENTS…, with every quotation closed"),
    ("mail\0s3cr3t", "expected PROGRAM ARGUMENTS…, with every quotation closed"),
    ("TOKEN=s3cr3t mail", "starts with VARIABLE=…, and no shell runs it: expected a program, such as env"),
    ("no-such-program s3cr3t", "no-such-program: no program of that name can be run"),
    ("/dev/null s3cr3t", "/dev/null: no program of that name can be run"),
])  # fmt: skip
def test_values_that_are_refused(value: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        command.make(value)
    assert str(caught.value) == f"--alert command: {words}"

"""What a real rsyslogd reads of our messages, over each of its inputs. It runs as whoever runs the tests."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from probe.alert import Alert
from probe.alerts import syslog
from probe.errors import one_line
from tests.alerts.make import ALERT, HOSTILE, RUN_ID, alert, hostile

PROGRAM = shutil.which("rsyslogd", path="/usr/sbin:/sbin:/usr/bin")
pytestmark = [
    pytest.mark.real("rsyslog"),
    pytest.mark.skipif(PROGRAM is None, reason="rsyslogd is not installed"),
]

CONFIGURATION = """
global(workDirectory="FOLDER" net.enableDNS="off")
module(load="imuxsock" sysSock.use="off")
module(load="imudp")
module(load="imtcp")
module(load="mmpstrucdata")
input(type="imuxsock" socket="FOLDER/log" useSpecialParser="off")
input(type="imuxsock" socket="FOLDER/default")
input(type="imudp" address="127.0.0.1" port="5514")
input(type="imtcp" address="127.0.0.1" port="5515")
action(type="mmpstrucdata")
template(name="json" type="list" option.jsonf="on") {
  property(outname="protocol" name="protocol-version" format="jsonf")
  property(outname="severity" name="syslogseverity-text" format="jsonf")
  property(outname="facility" name="syslogfacility-text" format="jsonf")
  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="program" name="app-name" format="jsonf")
  property(outname="id" name="msgid" format="jsonf")
  property(outname="data" name="structured-data" format="jsonf")
  property(outname="parsed" name="$!rfc5424-sd" format="jsonf")
  property(outname="text" name="msg" format="jsonf")
}
action(type="omfile" file="FOLDER/out.json" template="json")
"""
INPUTS = ("FOLDER/log", "udp://127.0.0.1:5514", "tcp://127.0.0.1:5515")


def until(ready: Callable[[], Any]) -> Any:
    """What `ready` gives, as soon as it is true. A minute is more than a busy machine needs."""
    end = time.monotonic() + 60
    while not (found := ready()):
        assert time.monotonic() < end, "rsyslogd did not get that far"
        time.sleep(0.02)
    return found


def listens(table: str, port: int) -> bool:
    return f":{port:04X} " in Path("/proc/net", table).read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("rsyslog")
    (made / "rsyslog.conf").write_text(CONFIGURATION.replace("FOLDER", str(made)))
    assert PROGRAM is not None
    process = subprocess.Popen([PROGRAM, "-n", "-f", made / "rsyslog.conf", "-i", made / "pid"])
    until(
        lambda: (
            (made / "log").exists() and (made / "default").exists() and listens("udp", 5514) and listens("tcp", 5515)
        )
    )
    yield made
    process.terminate()
    process.wait(30)


async def received(folder: Path, value: str, made: Alert) -> dict[str, str]:
    """The entry that this alert became."""
    out = folder / "out.json"
    out.touch()  # it is written in blocks, which may end within a line or a character
    before = out.read_bytes().count(b"\n")
    await syslog.make(value.replace("FOLDER", str(folder))).send(made)
    until(lambda: out.read_bytes().count(b"\n") > before)
    (line,) = out.read_text().splitlines()[before:]
    return dict(json.loads(line))


@pytest.mark.parametrize("value", INPUTS)
async def test_it_reads_every_field(folder: Path, value: str) -> None:
    got = await received(folder, value, ALERT)
    assert json.loads(got["parsed"]) == {
        "egress-probe@32473": {
            "probe_type": "egress_path_validation", "run_id": RUN_ID, "kind": "leak", "canary": "nightly", "alert": "0f3a9c",
            "cidr": "192.0.2.0/24", "path": "s/tcp/192.0.2.1:443",
        }
    }  # fmt: skip
    assert {name: got[name] for name in ("protocol", "severity", "facility", "program", "id")} == {
        "protocol": "1", "severity": "crit", "facility": "daemon", "program": "egress-probe", "id": "leak",
    }  # fmt: skip
    assert got["text"] == f"\ufeffcanary nightly: {ALERT.change.line}"
    if "://" in value:  # of a local socket's it takes the kernel's
        assert got["time"] == ALERT.time


@pytest.mark.parametrize("value", INPUTS)
async def test_it_reads_hostile_text_as_text(folder: Path, value: str) -> None:
    got = await received(folder, value, hostile())
    parsed = json.loads(got["parsed"])["egress-probe@32473"]
    assert {parsed[name] for name in ("run_id", "canary", "alert", "cidr")} == {one_line(HOSTILE)}
    assert got["text"].endswith(one_line(HOSTILE))


@pytest.mark.parametrize("value", INPUTS)
async def test_it_keeps_every_repeated_field_of_the_longest_message(folder: Path, value: str) -> None:
    got = await received(folder, value, alert(paths=tuple(f"row {n}" for n in range(999)), line="é" * 9999))
    data, text = got["data"], got["text"]
    assert data.startswith("[egress-probe@32473 ")
    assert int(json.loads(got["parsed"])["egress-probe@32473"]["left_out"]) + data.count(' path="row ') == 999
    assert set(text.rpartition(": ")[2].rstrip("…")) == {"é"}


async def test_its_default_for_local_sockets_knows_the_old_format_alone(folder: Path) -> None:
    """Nothing is lost, but it is all text there; useSpecialParser changes that."""
    got = await received(folder, "FOLDER/default", ALERT)
    assert (got["protocol"], got["program"]) == ("0", "1")
    assert f'run_id="{RUN_ID}"' in got["text"]

"""The journal's native protocol: read back as its page describes it, and by a real journald with a /run of its own."""

import json
import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.alert import Alert
from probe.alerts import CHANNELS, journald
from probe.alerts.deliver import Outcome, deliver
from probe.errors import UserError
from tests.alerts.make import ALERT, ALERTS, HOSTILE, RUN_ID, TEXTS, alert, hostile


def read(data: bytes) -> list[tuple[str, bytes]]:
    """The fields of one datagram, from the protocol's page."""
    found = []
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack_from("<Q", rest)
            value, end, rest = rest[8 : 8 + length], rest[8 + length : 9 + length], rest[9 + length :]
            assert (len(value), end) == (length, b"\n")
        assert name.isascii()
        assert name.replace(b"_", b"A").isalpha()
        assert name.isupper()
        assert not name.startswith(b"_")
        found.append((name.decode(), value))
        data = rest
    return found


def test_the_fields() -> None:
    assert journald.fields(ALERT) == [
        ("MESSAGE", f"canary nightly: {ALERT.change.line}"), ("PRIORITY", "2"), ("SYSLOG_IDENTIFIER", "egress-probe"),
        ("PROBE_TYPE", "egress_path_validation"), ("RUN_ID", RUN_ID), ("KIND", "leak"), ("CANARY", "nightly"), ("ALERT", "0f3a9c"),
        ("CIDR", "192.0.2.0/24"), ("PATH", "s/tcp/192.0.2.1:443"),
    ]  # fmt: skip
    many = dict(journald.fields(alert(paths=tuple(map(str, range(100))), run_id=None)))
    assert (many["LEFT_OUT"], many["PATH"]) == ("37", "62")
    assert "RUN_ID" not in many


def test_the_bytes() -> None:
    assert journald.serialize([("A", "x"), ("B", "é=\n"), ("C", ""), ("D", "\udcff")]) == (
        b"A=x\nB\n\x04\0\0\0\0\0\0\0\xc3\xa9=\n\nC=\nD=\\udcff\n"
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.from_regex(r"[A-Z][A-Z_]{0,20}", fullmatch=True), TEXTS), max_size=20))
def test_any_field_comes_back(entry: list[tuple[str, str]]) -> None:
    assert read(journald.serialize(entry)) == [(n, v.encode("utf-8", "backslashreplace")) for n, v in entry]


@settings(max_examples=200, deadline=None)
@given(ALERTS)
def test_any_alert_is_one_datagram(made: Alert) -> None:
    data = journald.serialize(journald.fields(made))
    assert len(data) < 200_000
    told = dict(read(data))
    assert told["MESSAGE"].decode().isprintable()
    assert told["PROBE_TYPE"] == b"egress_path_validation"


async def test_it_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    longest = alert(paths=("\udcff" * 999,) * 999)
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        await there.bind(str(path))
        channel = CHANNELS["journald"](str(path))
        for made in (ALERT, hostile(), longest):  # the longest fits into a datagram as well
            await channel.send(made)
            assert await there.recv(1_000_000) == journald.serialize(journald.fields(made))
    assert channel.name == f"journald {path}"
    path.unlink()
    assert await deliver([(ALERT, channel)], tries=1) == [Outcome("No such file or directory", True)]


def test_values() -> None:
    assert CHANNELS["journald"]("local").name == "journald local"
    for value in ("", "run/x", "/a\0b", "/" + "x" * 107):
        with pytest.raises(UserError, match=r"\A--alert journald .*: expected local, or /PATH/OF/SOCKET"):
            journald.make(value)


JOURNALD, JOURNALCTL = Path("/usr/lib/systemd/systemd-journald"), shutil.which("journalctl")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """The /run of a journald, in a mount namespace of its own."""
    (tmp_path / "systemd/journal").mkdir(parents=True)
    (tmp_path / "log/journal").mkdir(parents=True)
    words = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /run && exec "$1"', str(tmp_path), str(JOURNALD)]
    process = subprocess.Popen(words)
    end = time.monotonic() + 60
    while not (tmp_path / "systemd/journal/socket").exists():
        if process.poll() is not None:
            pytest.skip("a journald of one's own does not start here")
        assert time.monotonic() < end
        time.sleep(0.02)
    yield tmp_path
    process.terminate()
    process.wait(30)


@pytest.mark.real("journald")
@pytest.mark.skipif(not JOURNALD.exists() or JOURNALCTL is None, reason="systemd-journald is not installed")
@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/etc/machine-id").exists(), reason="a journald of one's own needs root"
)
async def test_a_real_journald_finds_it_by_its_fields(run: Path) -> None:
    channel = journald.make(str(run / "systemd/journal/socket"))
    several = alert(id="several", cidrs=("192.0.2.0/24", "2001:db8::/32"))
    for made in (ALERT, hostile(), several):
        await channel.send(made)

    def found(*matches: str) -> list[dict[str, object]]:
        assert JOURNALCTL is not None
        words = [JOURNALCTL, f"--directory={run}/log/journal", "--output=json", "--all", *matches]
        return [json.loads(line) for line in subprocess.run(words, capture_output=True, check=True).stdout.splitlines()]

    end = time.monotonic() + 60
    while len(entries := found("PROBE_TYPE=egress_path_validation")) < 3:
        assert time.monotonic() < end
        await trio.sleep(0.05)
    assert [entry["PRIORITY"] for entry in entries] == ["2", "2", "2"]
    assert entries[0]["MESSAGE"] == f"canary nightly: {ALERT.change.line}"
    assert bytes(entries[1]["CANARY"]) == HOSTILE.encode("utf-8", "backslashreplace")  # type: ignore[call-overload]
    assert [entry["ALERT"] for entry in found("CIDR=2001:db8::/32")] == ["several"]

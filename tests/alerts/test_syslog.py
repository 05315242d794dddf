"""RFC 5424 messages: exactly, fuzzed, read back by a parser written from the grammar; over every transport."""

import re
import socket
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.alert import Alert
from probe.alerts import CHANNELS, DeliveryError, syslog
from probe.alerts.deliver import Outcome, deliver
from probe.errors import UserError, one_line
from tests.alerts.make import ALERT, ALERTS, HOSTILE, RUN_ID, TEXTS, alert, hostile

# RFC 5424, section 6: HEADER SP STRUCTURED-DATA SP MSG, with one element and a message in UTF-8.
MESSAGE = re.compile(
    rb"<([0-9]{1,3})>1 (-|[0-9TZ:.+-]{20,32}) ([\x21-\x7e]{1,255}) ([\x21-\x7e]{1,48}) ([\x21-\x7e]{1,128}) ([\x21-\x7e]{1,32})"
    rb' \[egress-probe@32473((?: [a-z_]{1,32}="(?:[^"\\\]]|\\["\\\]])*")*)\] \xef\xbb\xbf(.*)',
    re.DOTALL,
)
PARAMETER = re.compile(rb' ([a-z_]+)="((?:[^"\\\]]|\\["\\\]])*)"')


def read(data: bytes) -> tuple[list[str], list[tuple[str, str]], str]:
    """Header fields, parameters with their escapes undone, and the text."""
    found = MESSAGE.fullmatch(data)
    assert found, data
    *header, parameters, text = found.groups()
    pairs = [
        (n.decode(), re.sub(rb"\\(.)", rb"\1", v, flags=re.DOTALL).decode()) for n, v in PARAMETER.findall(parameters)
    ]
    return [field.decode() for field in header], pairs, text.decode()


def formatted(made: Alert, most: int = syslog.MOST_DATAGRAM) -> bytes:
    return syslog.format_5424(made, "host.example", 4321, most)


def test_exactly() -> None:
    assert formatted(ALERT).decode() == (
        "<26>1 2026-01-02T03:04:05.678Z host.example egress-probe 4321 leak "
        f'[egress-probe@32473 probe_type="egress_path_validation" run_id="{RUN_ID}" kind="leak" canary="nightly" '
        'alert="0f3a9c" cidr="192.0.2.0/24" path="s/tcp/192.0.2.1:443"] '
        "\ufeffcanary nightly: tcp 192.0.2.1:443 leaked: declared deny, and it got out"
    )
    assert syslog.frame("é".encode()) == b"2 \xc3\xa9"


@pytest.mark.parametrize(("severity", "priority"), [("critical", "26"), ("warning", "28"), ("notice", "29")])
def test_the_severity(severity: str, priority: str) -> None:
    assert read(formatted(alert(severity=severity)))[0][0] == priority


@pytest.mark.parametrize(("text", "escaped"), [
    ('"', '\\"'), ("\\", "\\\\"), ("]", "\\]"), ("[", "["), ("'", "'"), ("é", "é"),
    ("\n", "\\\\n"), ("\x1b", "\\\\x1b"), ("\0", "\\\\x00"), ("\u202e", "\\\\u202e"), ("\udcff", "\\\\udcff"),
])  # fmt: skip
def test_the_escaping_of_a_value(text: str, escaped: str) -> None:
    assert f' canary="a{escaped}b" '.encode() in formatted(alert(canary=f"a{text}b"))


def test_hostile_text_forges_no_field() -> None:
    header, pairs, text = read(formatted(hostile()))
    assert header == ["26", "-", "host.example", "egress-probe", "4321", "leak"]
    shown = one_line(HOSTILE)
    assert pairs == [
        ("probe_type", "egress_path_validation"), ("run_id", shown), ("kind", "leak"), ("canary", shown), ("alert", shown),
        ("cidr", shown), ("path", shown), ("path", "two\\nlines"),
    ]  # fmt: skip
    assert text.endswith(shown)


@settings(max_examples=400, deadline=None)
@given(ALERTS, st.integers(1024, 8192), TEXTS)
def test_any_alert_is_one_bounded_message(made: Alert, most: int, host: str) -> None:
    data = syslog.format_5424(made, host, 1, most)
    assert len(data) <= most
    header, pairs, text = read(data)
    assert header[2] in (host, "-")
    assert text.isprintable()
    assert all(value.isprintable() for _, value in pairs)
    told = dict(pairs)
    single = {"kind": made.change.kind, "canary": made.canary, "alert": made.id, "run_id": made.run_id or ""}
    assert all(one_line(value).startswith(told.get(name, "")) for name, value in single.items())
    wanted = [("cidr", c) for c in made.change.cidrs] + [("path", p) for p in made.change.paths]
    shown = [pair for pair in pairs if pair[0] in ("cidr", "path")]
    assert len(wanted) == len(shown) + int(told.get("left_out", "0"))
    whole = iter((name, one_line(value)) for name, value in wanted)
    assert all(pair in whole for pair in shown)  # a subsequence: each is there whole, in order
    assert text or len(data) > most - 4  # at most one character did not fit


def test_a_cut_is_between_characters() -> None:
    for more in range(8):
        data = formatted(alert(line="é" * 3000, canary="x" * more), 1024)
        assert 1023 <= len(data) <= 1024
        assert read(data)[2].endswith("é")


VALUES: list[tuple[str, str]] = [
    ("local", "syslog local"),
    ("/run/log", "syslog /run/log"),
    ("udp://log.example:514", "syslog udp://log.example:514"),
    ("tcp://[2001:db8::1]:601", "syslog tcp://[2001:db8::1]:601"),
]


@pytest.mark.parametrize(("value", "name"), VALUES)
def test_values(value: str, name: str) -> None:
    assert CHANNELS["syslog"](value).name == name


@pytest.mark.parametrize("value", [
    "", "log.example", "udp://log.example", "udp://:514", "tls://log.example:6514", "udp://log.example:514/", "udp://log.example:0",
    "udp://me:s3cr3t@log.example:514", "tcp://log.example:99999", "tcp://[::1", "tcp://a b:1", "udp://log.example:514?x", "udp://log.example:514#x",
])  # fmt: skip
def test_values_that_are_refused(value: str) -> None:
    with pytest.raises(UserError) as caught:
        syslog.make(value)
    assert str(caught.value) == "--alert syslog: expected local, /PATH/OF/SOCKET, udp://HOST:PORT or tcp://HOST:PORT"


@pytest.mark.parametrize("value", ["/a\0b", "/" + "x" * 107])
def test_paths_that_are_none(value: str) -> None:
    with pytest.raises(UserError, match="expected local, or /PATH/OF/SOCKET"):
        syslog.make(value)


async def test_a_local_socket(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        await there.bind(str(path))
        await syslog.make(str(path)).send(ALERT)
        assert read(await there.recv(9999))[1][0] == ("probe_type", "egress_path_validation")


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
async def test_a_datagram(family: socket.AddressFamily) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "[::1]"
    with trio.socket.socket(family, socket.SOCK_DGRAM) as there:
        await there.bind((host.strip("[]"), 0))
        await syslog.make(f"udp://{host}:{there.getsockname()[1]}").send(alert(line="é" * 5000))
        data = await there.recv(9999)
    assert len(data) <= syslog.MOST_DATAGRAM
    assert read(data)[0][3:] == ["egress-probe", read(data)[0][4], "leak"]


async def test_tcp_is_taken_when_the_receiver_has_read_to_the_end() -> None:
    got: list[bytes] = []

    async def receive(stream: trio.SocketStream) -> None:
        async with stream:
            got.append(b"".join([data async for data in stream]))

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, receive, [listener])
        await syslog.make(f"tcp://127.0.0.1:{listener.socket.getsockname()[1]}").send(ALERT)
        nursery.cancel_scope.cancel()
    length, _, data = got[0].partition(b" ")
    assert int(length) == len(data)
    assert read(data)[1][2] == ("kind", "leak")


async def test_what_goes_wrong(tmp_path: Path) -> None:
    """Nobody is there; another kind of socket; one whose queue is full; one that reads nothing; one that breaks off."""
    full = tmp_path / "full"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
    ):
        there.bind(str(full))
        other.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                other.sendto(b"x", str(full))
        gone, stream = tmp_path / "gone", tmp_path / "stream"
        gone.touch()
        with socket.socket(socket.AF_UNIX) as wrong, socket.socket() as deaf, socket.socket() as closed:
            wrong.bind(str(stream))
            deaf.bind(("127.0.0.1", 0))
            deaf.listen()
            closed.bind(("127.0.0.1", 0))
            table = [
                (str(tmp_path / "none"), "No such file or directory"),
                (str(gone), "Connection refused"),
                (str(stream), "Protocol wrong type for socket"),
                (str(full), "not taken within 0.3 s"),
                (f"tcp://127.0.0.1:{deaf.getsockname()[1]}", "not taken within 0.3 s"),
                (f"tcp://127.0.0.1:{closed.getsockname()[1]}", "Connection refused"),
            ]
            pending = [(ALERT, syslog.make(value, 0.3)) for value, _ in table]
            assert await deliver(pending, tries=1) == [Outcome(words, True) for _, words in table]


async def test_tcp_that_breaks_off() -> None:
    async def reset(stream: trio.SocketStream) -> None:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await stream.receive_some(1)
        await stream.aclose()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, reset, [listener])
        with pytest.raises(DeliveryError, match=r"reset|not connected|pipe"):  # whichever call meets it
            await syslog.make(f"tcp://127.0.0.1:{listener.socket.getsockname()[1]}").send(ALERT)
        nursery.cancel_scope.cancel()

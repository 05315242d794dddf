"""The raw SYN: its bytes, what may answer it, and real answers; two of them with different TTLs are both told."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from probe.agent import run_orders
from probe.codec import to_line
from probe.contradictions import contradicts
from probe.documents import Attempt, Icmp, Order, Orders, RawAnswer, Record, Settings
from probe.icmp_errno import error_of
from probe.model import Destination
from probe.techniques.raw_syn import PLAIN, SCAN, Flow, build, judged, load, may_answer, parse
from tests.make import attempt, check

NAMED = "203.0.113.200"  # on this namespace's loopback: tests/without-uplink
FLOW = Flow("10.99.0.2", "198.51.100.7", 40000, 443)
SIX = Flow("fd99::2", "2001:db8:7::7", 40000, 443)


@pytest.fixture(autouse=True, scope="module")
def _layers() -> None:
    load()


async def tried(port: int, address: str = NAMED) -> Attempt:
    """What the agent says of one SYN; and it is no contradiction."""
    lines: list[Any] = []
    order = Order(1, "raw_syn", Destination(None, address, port), "01j0-000001-abcdefgh")
    await run_orders(Orders("egress-probe.orders/1", "R", Settings(deadline=0.3, rate=0), 10, (order,)), lines.append)
    (record,) = [line for line in lines if isinstance(line, Record)]
    if record.not_run is not None:
        pytest.skip(record.not_run)
    assert contradicts(check(address, port, technique="raw_syn"), record) is None
    (made,) = record.attempts
    return made


# --- bytes ------------------------------------------------------------------------------------------------------------


def test_the_syn_has_the_signature_that_defenders_know() -> None:
    data = build(FLOW, 0x01020304, 0xBEEF, SCAN)
    assert len(data) == 40
    assert (data[0], data[9]) == (0x45, socket.IPPROTO_TCP)
    assert int.from_bytes(data[4:6], "big") == 0xBEEF
    assert data[6:8] == b"\0\0"  # DF clear
    tcp = data[20:]
    assert (tcp[:4], tcp[4:8], tcp[13]) == (b"\x9c\x40\x01\xbb", b"\1\2\3\4", 0x02)
    assert int.from_bytes(tcp[14:16], "big") == 3
    six = build(SIX, 1, 7, SCAN)
    assert len(six) == 60
    assert int.from_bytes(six[40 + 14 : 40 + 16], "big") == 3


def test_without_it_the_syn_looks_like_any_other() -> None:
    data = build(FLOW, 1, 1, PLAIN)
    assert data[6:8] == b"\x40\0"  # DF set
    assert int.from_bytes(data[34:36], "big") == 64240
    assert int.from_bytes(build(SIX, 1, 1, PLAIN)[54:56], "big") == 64240


def tcp(flow: Flow, flags: str, ttl: int = 60, **more: int) -> bytes:
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6

    ports = {"sport": flow.dport, "dport": flow.sport, **more}
    if flow.version == 6:
        return bytes(IPv6(src=flow.destination, dst=flow.source, hlim=ttl) / TCP(flags=flags, window=500, **ports))
    return bytes(IP(src=flow.destination, dst=flow.source, ttl=ttl, id=9) / TCP(flags=flags, window=500, **ports))


def icmp(flow: Flow, sent: Flow | None = None) -> bytes:
    from scapy.layers.inet import ICMP, IP
    from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
    from scapy.packet import Raw

    inside = Raw(build(sent or flow, 1, 1, SCAN))
    if flow.version == 6:
        return bytes(IPv6(src="fd99::1", dst=flow.source, hlim=64) / ICMPv6DestUnreach(code=1) / inside)
    return bytes(IP(src="10.99.0.1", dst=flow.source, ttl=64, id=9) / ICMP(type=3, code=13) / inside)


ANSWERS = [
    (FLOW, tcp(FLOW, "SA"), RawAnswer("syn-ack", FLOW.destination, 60, 0.5, 9, 500)),
    (FLOW, tcp(FLOW, "R"), RawAnswer("rst", FLOW.destination, 60, 0.5, 9, 500)),
    (FLOW, tcp(FLOW, "RA", 255), RawAnswer("rst", FLOW.destination, 255, 0.5, 9, 500)),
    (FLOW, tcp(FLOW, "A"), RawAnswer("other", FLOW.destination, 60, 0.5, 9, 500)),
    (FLOW, icmp(FLOW), RawAnswer("icmp", "10.99.0.1", 64, 0.5, 9, icmp=Icmp(3, 13, "10.99.0.1", 64))),
    # RFC 792: the IP header and eight bytes, no more.
    (FLOW, icmp(FLOW)[: 20 + 8 + 20 + 8], RawAnswer("icmp", "10.99.0.1", 64, 0.5, 9, icmp=Icmp(3, 13, "10.99.0.1", 64))),
    (SIX, tcp(SIX, "SA"), RawAnswer("syn-ack", SIX.destination, 60, 0.5, None, 500)),
    (SIX, tcp(SIX, "RA"), RawAnswer("rst", SIX.destination, 60, 0.5, None, 500)),
    (SIX, icmp(SIX), RawAnswer("icmp", "fd99::1", 64, 0.5, icmp=Icmp(1, 1, "fd99::1", 64))),
    (FLOW, build(FLOW, 1, 1, SCAN), None),  # our own
    (FLOW, tcp(FLOW, "SA", dport=40001), None),
    (FLOW, tcp(FLOW, "SA", sport=80), None),
    (FLOW, tcp(Flow(FLOW.source, "198.51.100.8", 40000, 443), "SA"), None),
    (FLOW, tcp(Flow("10.99.0.3", FLOW.destination, 40000, 443), "SA"), None),
    (FLOW, icmp(FLOW, Flow(FLOW.source, "198.51.100.8", 40000, 443)), None),
    (FLOW, icmp(FLOW, Flow(FLOW.source, FLOW.destination, 40001, 443)), None),
    (FLOW, tcp(SIX, "SA"), None),
    (FLOW, b"", None),
]  # fmt: skip


@pytest.mark.parametrize(("flow", "data", "answer"), ANSWERS)
def test_what_answers_a_syn(flow: Flow, data: bytes, answer: RawAnswer | None) -> None:
    assert parse(flow, data, 0.5) == answer
    assert answer is None or may_answer(flow, data)


@given(st.sampled_from((FLOW, SIX)), st.binary(max_size=120))
def test_any_bytes_are_an_answer_or_none(flow: Flow, data: bytes) -> None:
    parse(flow, data, 0.5)


@given(st.sampled_from(ANSWERS), st.integers(0, 99), st.integers(0, 255), st.integers(0, 120))
def test_any_damage_is_borne(row: tuple[Flow, bytes, RawAnswer | None], place: int, byte: int, length: int) -> None:
    flow, data, _ = row
    damaged = bytearray(data)
    if damaged:
        damaged[place % len(damaged)] = byte
    found = parse(flow, bytes(damaged[:length]), 0.5)
    assert found is None or contradicts(
        check(flow.destination, 443, technique="raw_syn"),
        Record(1, (judged(attempt(address=flow.destination, step="raw"), [found]),)),
    ) is None  # fmt: skip


# --- facts ------------------------------------------------------------------------------------------------------------

SYN_ACK = RawAnswer("syn-ack", "192.0.2.1", 60, 0.1)
RST = RawAnswer("rst", "192.0.2.1", 255, 0.1)
OTHER = RawAnswer("other", "192.0.2.1", 60, 0.1)
PROHIBITED = RawAnswer("icmp", "10.0.0.1", 64, 0.1, icmp=Icmp(3, 13, "10.0.0.1", 64))


@pytest.mark.parametrize(
    ("answers", "result", "error"),
    [
        ([], "silent", None),
        ([OTHER], "silent", None),
        ([SYN_ACK], "answered", None),
        ([RST, SYN_ACK], "answered", None),  # one of them was injected: somebody let the SYN pass
        ([RST], "error", "ECONNREFUSED"),
        ([PROHIBITED], "error", "EHOSTUNREACH"),
        ([PROHIBITED, RST], "error", "ECONNREFUSED"),
    ],
)
def test_the_words_of_a_connect(answers: list[RawAnswer], result: str, error: str | None) -> None:
    made = judged(attempt(step="raw"), answers)
    assert (made.result, made.error, made.raw) == (result, error, tuple(answers))
    assert contradicts(check(technique="raw_syn"), Record(1, (made,))) is None


@pytest.mark.parametrize(
    ("family", "kind", "code", "error"),
    [
        (4, 3, 0, "ENETUNREACH"),
        (4, 3, 1, "EHOSTUNREACH"),
        (4, 3, 2, "ENOPROTOOPT"),
        (4, 3, 3, "ECONNREFUSED"),
        (4, 3, 9, "ENETUNREACH"),
        (4, 3, 10, "EHOSTUNREACH"),
        (4, 3, 13, "EHOSTUNREACH"),
        (4, 3, 99, "EHOSTUNREACH"),
        (4, 11, 0, "EHOSTUNREACH"),
        (4, 12, 0, "EPROTO"),
        (6, 1, 0, "ENETUNREACH"),
        (6, 1, 1, "EACCES"),
        (6, 1, 3, "EHOSTUNREACH"),
        (6, 1, 4, "ECONNREFUSED"),
        (6, 1, 5, "EACCES"),
        (6, 2, 0, "EMSGSIZE"),
        (6, 3, 0, "EHOSTUNREACH"),
    ],
)
def test_icmp_errors_in_the_kernels_words(family: int, kind: int, code: int, error: str) -> None:
    assert error_of(family, Icmp(kind, code, None)) == error


# --- real answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, NAMED), (socket.AF_INET6, "::1")])
async def test_an_open_port_and_a_closed_one(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        port = listener.getsockname()[1]
        closed = await tried(port, address)
        listener.listen()
        opened = await tried(port, address)
    assert (opened.result, opened.source) == ("answered", address)
    assert [(answer.kind, answer.ttl, answer.source) for answer in opened.raw] == [("syn-ack", 64, address)]
    assert (closed.stage, closed.error) == ("receive", "ECONNREFUSED")
    assert [answer.kind for answer in closed.raw] == ["rst"]


async def test_no_route_is_said_before_anything_is_sent() -> None:
    made = await tried(443, "198.51.100.44")
    assert (made.stage, made.error, made.raw) == ("connect", "ENETUNREACH", ())


@contextmanager
def injector(port: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """What sees SYNs to `port`, and what forges packets."""
    try:
        seen = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(0x0800))
    except PermissionError as error:
        pytest.skip(f"CAP_NET_RAW: {error}")
    with seen, socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as forge:
        yield seen, forge


async def test_an_injected_reset_and_the_destinations_own_answer_are_both_told() -> None:
    with socket.socket() as listener:
        listener.bind((NAMED, 0))
        listener.listen()
        port = listener.getsockname()[1]
        with injector(port) as (seen, forge):

            async def inject() -> None:
                while True:
                    await trio.lowlevel.wait_readable(seen)
                    data = seen.recv(2000)
                    if data[22:24] == port.to_bytes(2, "big") and data[33] == 0x02:
                        flow = Flow(NAMED, NAMED, int.from_bytes(data[20:22], "big"), port)
                        forge.sendto(tcp(flow, "RA", ttl=200), (NAMED, 0))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(inject)
                made = await tried(port)
                nursery.cancel_scope.cancel()
    assert made.result == "answered"
    assert {(answer.kind, answer.ttl) for answer in made.raw} == {("syn-ack", 64), ("rst", 200)}


# --- scapy ------------------------------------------------------------------------------------------------------------


def test_scapy_is_loaded_only_when_it_is_needed_and_writes_nothing(tmp_path: Path) -> None:
    script = """
import os, sys
from probe.techniques import all_traits
all_traits()
assert not any(name.startswith("scapy") for name in sys.modules)
from probe.techniques.raw_syn import PLAIN, SCAN, load
before = dict(os.environ)
load()
assert "scapy.layers.inet6" in sys.modules and "scapy.all" not in sys.modules
assert dict(os.environ) == before
"""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**kept, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": os.getcwd()},
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real("seccomp")
def test_where_netlink_is_refused_scapy_cannot_be_used_and_that_is_said() -> None:
    order = Order(1, "raw_syn", Destination(None, NAMED, 443), "01j0-000001-abcdefgh")
    orders = Orders("egress-probe.orders/1", "R", Settings(deadline=0.3, rate=0), 10, (order,))
    confined = [sys.executable, "-I", "-m", "probe.lab.confine", "seccomp-netlink=EPERM", "--"]
    agent = [sys.executable, "-I", "-m", "probe.agent"]
    done = subprocess.run([*confined, *agent], input=to_line(orders) + "\n", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (record,) = [line for line in map(json.loads, done.stdout.splitlines()) if line["kind"] == "record"]
    if record["not_run"] is not None and "CAP_NET_RAW" in record["not_run"]:
        pytest.skip(record["not_run"])
    assert record["not_run"] == "scapy cannot be used here (EPERM)"

"""Half-open connections: what the kernel lists, against a client that never hears an answer; and whatever bytes."""

import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.collector import halfopen, listening
from probe.collector.halfopen import Waiting, Watch
from probe.documents import HalfOpen
from probe.lab.namespaces import in_isolation

_RULES = """
table inet deaf {
  chain input {
    type filter hook input priority 0; policy accept;
    tcp sport 4444 tcp flags & (syn | ack) == syn | ack drop
  }
}
"""


def _deaf() -> list[Any]:
    """A client whose SYN arrives, and that hears no answer; beside one whose connection is whole."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    bound = listening.open_all(listening.places("tcp", ("127.0.0.1", "::1"), (4444, 5555)))
    whole = socket.create_connection(("127.0.0.1", 5555))
    subprocess.run(["nft", "-f", "-"], input=_RULES, text=True, check=True)
    watch, clients = Watch((4444,), lambda: 5.0), []
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        client = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        client.connect_ex((address, 4444))
        clients.append(client)
    first = watch.look()  # the SYN-ACKs were sent once: every connection looks like that for a moment
    until, found = time.monotonic() + 20, list[HalfOpen]()
    while len(found) < 2 and time.monotonic() < until:
        time.sleep(0.05)
        found += watch.look()
    ports = [client.getsockname()[1] for client in clients]
    again = watch.look()
    for each in (whole, *clients):
        each.close()
    listening.close_all(bound)
    told = sorted([each.source, each.port == ports[each.source == "::1"], each.at, each.time] for each in found)
    return [len(first), told, len(again)]


@pytest.mark.real("nftables")
def test_a_syn_whose_answer_does_not_come_back_is_seen() -> None:
    first, told, again = in_isolation(_deaf)
    assert (first, again) == (0, 0)
    assert told == [["127.0.0.1", True, 4444, 5.0], ["::1", True, 4444, 5.0]]


def test_each_is_told_once_and_only_ours() -> None:
    watch = Watch((53,), lambda: 1.0)
    one, other = Waiting("192.0.2.1", 1000, 53, 1), Waiting("192.0.2.1", 1001, 53, 0)
    assert watch.new([one, other, Waiting("192.0.2.1", 1002, 80, 3)]) == [HalfOpen(1.0, "192.0.2.1", 1000, 53)]
    assert watch.new([one]) == []
    assert watch.new([]) == []
    assert len(watch.new([one])) == 1  # the same port again, later


@pytest.mark.parametrize("data", [b"", b"short", bytes(16), b"\x05\0\0\0" + bytes(12), b"\xff" * 40])
def test_what_is_no_answer_ends_it(data: bytes) -> None:
    assert halfopen.parse(data) == ([], True)


@given(st.binary(max_size=300))
def test_no_bytes_are_too_odd(data: bytes) -> None:
    halfopen.parse(data)
    halfopen.parse(len(data).to_bytes(4, "little") + bytes(12) + data)


NETSTAT = "TcpExt: SyncookiesSent ListenOverflows ListenDrops Other\nTcpExt: {} 2 3 4\nIpExt: A\nIpExt: 1\n"


def test_syns_that_no_listener_took_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "netstat"
    path.write_text(NETSTAT.format(7))
    assert halfopen.overflows(str(path)) == (2, 3, 7)
    path.write_text("TcpExt: A\n")
    assert halfopen.overflows(str(path)) == ()
    assert halfopen.overflows(str(tmp_path / "nothing")) == ()


@pytest.mark.parametrize(("text", "kept"), [("0\n", False), ("1\n", True), ("5\n", True), (None, True)])
def test_a_kernel_that_sends_no_syn_ack_again(tmp_path: Path, text: str | None, kept: bool) -> None:
    path = tmp_path / "retries"
    if text is not None:
        path.write_text(text)
    assert halfopen.are_kept(str(path)) is kept


def _crowded() -> list[Any]:
    """A listener whose queue holds one, and more who knock."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with socket.create_server(("127.0.0.1", 4444), backlog=0):
        watch = Watch((4444,), time.time)
        quiet = watch.look(), watch.missed
        knocking = [socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) for _ in range(8)]
        for client in knocking:
            client.connect_ex(("127.0.0.1", 4444))
        until, missed = time.monotonic() + 20, False
        while not missed and time.monotonic() < until:
            time.sleep(0.05)
            watch.look()
            missed = watch.missed
        for client in knocking:
            client.close()
    return [quiet, missed]


@pytest.mark.real("namespaces")
def test_a_full_queue_is_told_as_missed() -> None:
    assert in_isolation(_crowded) == [[[], False], True]

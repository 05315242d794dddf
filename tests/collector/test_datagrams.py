"""UDP on loopback: bursts, answers from the address that was asked, and a process that is killed in the middle."""

import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import dns.message
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from probe import receipts, tokens
from probe.collector import datagrams
from probe.collector.datagrams import Datagram, take
from probe.collector.desk import Desk
from probe.collector.listening import normal
from probe.collector.names import make_zone
from probe.collector.ratelimit import PER_PREFIX
from probe.collector.store import Store
from probe.documents import Arrival
from tests.collector.dns_load import KEY, RUN_ID, ask, queries, served

ZONE = make_zone("exfil.example", ("203.0.113.53",))
TOKEN = tokens.token(RUN_ID, 7, KEY)
FORGED = tokens.token(RUN_ID, 7, b"x" * 32)
DNS = dns.message.make_query(f"{TOKEN}.exfil.example", "TXT", id=1).to_wire()


@asynccontextmanager
async def running(
    path: Path, host: str = "127.0.0.1", dns: bool = True, rows: int = 1000, told: bool = True
) -> AsyncIterator[tuple[Desk, int]]:
    """A desk with one socket: the desk, and the port."""
    store = Store(path / "a", rows=rows)
    desk = Desk(store, lambda: 50.0)
    assert desk.register(RUN_ID, KEY, 1000)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, 0))
        at = sock.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.run)
            nursery.start_soon(datagrams.serve, sock, desk, ZONE if dns else None, lambda: 50.0, at if told else None)
            yield desk, at
            nursery.cancel_scope.cancel()
    store.close()


async def exchange(data: bytes, host: str, port: int) -> tuple[bytes, tuple[str, int], int]:
    """The answer, from where it came, and the source port it was asked from."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with trio.socket.socket(family, socket.SOCK_DGRAM) as sock:
        await sock.bind(("", 0))
        await sock.sendto(data, (host, port))
        with trio.fail_after(30):
            answer, peer = await sock.recvfrom(4096)
        return answer, peer[:2], sock.getsockname()[1]


@pytest.mark.parametrize(
    ("bound", "asked", "source"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "203.0.113.200", None),
        ("0.0.0.0", "127.0.0.9", None),
        ("::", "::1", "::1"),
        ("::", "127.0.0.9", None),
        ("::1", "::1", "::1"),
    ],
)
async def test_answers_leave_from_the_address_that_was_asked(
    tmp_path: Path, bound: str, asked: str, source: str | None
) -> None:
    async with running(tmp_path, bound) as (desk, port):
        answer, (host, _), mine = await exchange(DNS, asked, port)
        assert host == asked
        (arrival,) = desk.said(RUN_ID).arrivals
        assert arrival == Arrival(
            7, 50.0, "dns", "udp", source or arrival.source, mine, port, "TXT", f"{TOKEN}.exfil.example"
        )
        assert ":" not in arrival.source or ":" in asked  # a v4-mapped address is written as IPv4
        text = dns.message.from_wire(answer).answer[0][0].strings[0]
        assert receipts.is_valid(receipts.find(text) or "", KEY, TOKEN)
        _, channel, told, told_port, _ = (receipts.find(text) or "").split(",")
        assert (channel, told, int(told_port)) == ("dns", arrival.source, mine)


@pytest.mark.parametrize("speaks_dns", [True, False])
@pytest.mark.parametrize(
    "data", [TOKEN.encode(), b"\x01\x02\x03" + TOKEN.upper().encode() + b"\xff" * 100, b"\x7f" * 12 + TOKEN.encode()]
)
async def test_a_token_in_any_datagram(tmp_path: Path, data: bytes, speaks_dns: bool) -> None:
    async with running(tmp_path, dns=speaks_dns) as (desk, port):
        answer, _, mine = await exchange(data, "127.0.0.1", port)
        assert answer == receipts.write(KEY, TOKEN, "udp", "127.0.0.1", mine).encode()
        assert desk.said(RUN_ID).arrivals == (Arrival(7, 50.0, "udp", "udp", "127.0.0.1", mine, port),)


async def test_a_dns_message_where_no_dns_is_spoken_is_a_datagram_like_any(tmp_path: Path) -> None:
    async with running(tmp_path, dns=False) as (desk, port):
        answer, _, _ = await exchange(DNS, "127.0.0.1", port)
        assert receipts.find(answer)
        assert [arrival.channel for arrival in desk.said(RUN_ID).arrivals] == ["udp"]


@pytest.mark.parametrize("speaks_dns", [True, False])
async def test_the_port_asked_for_unless_told(tmp_path: Path, speaks_dns: bool) -> None:
    async with running(tmp_path, dns=speaks_dns, told=False) as (desk, port):
        await exchange(TOKEN.encode(), "127.0.0.1", port)
        assert [arrival.at for arrival in desk.said(RUN_ID).arrivals] == [53 if speaks_dns else port]


async def test_what_was_not_stored_is_not_answered(tmp_path: Path) -> None:
    async with running(tmp_path, rows=1) as (desk, port):
        await exchange(DNS, "127.0.0.1", port)
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            await sock.connect(("127.0.0.1", port))
            await sock.send(DNS)
            await sock.send(TOKEN.encode())
            # A question that needs no row is answered, and comes after the two in the queue.
            await sock.send(dns.message.make_query("exfil.example", "SOA", id=9).to_wire())
            with trio.fail_after(30):
                assert (await sock.recv(4096))[:2] == b"\0\x09"
        said = desk.said(RUN_ID)
        assert (len(said.arrivals), said.lost) == (1, 2)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    store = Store(tmp_path / "a")
    made = Desk(store, lambda: 50.0)
    made.register(RUN_ID, KEY, 1000)
    yield made
    store.close()


def datagram(data: bytes) -> Datagram:
    return Datagram(data, ("198.51.100.9", 1234), [])


def test_an_answer_is_stored_and_never_answered(desk: Desk) -> None:
    """Two servers that answer each other's answers would go on for ever."""
    reflected = bytearray(DNS)
    reflected[2] |= 0x80
    answer = take(datagram(bytes(reflected)), 53, desk, ZONE, 50.0)
    assert answer is not None
    assert answer.known is not None
    assert answer.text is None
    assert take(datagram(bytes(reflected).replace(TOKEN.encode(), FORGED.encode())), 53, desk, ZONE, 50.0) is None


@pytest.mark.parametrize("data", [b"", b"hello", FORGED.encode(), b"\0" * 11, TOKEN.encode()[:-1]])
def test_a_stranger_on_a_port_without_dns_gets_nothing(desk: Desk, data: bytes) -> None:
    assert take(datagram(data), 4444, desk, None, 50.0) is None
    assert desk.said(RUN_ID).forged == 1


def test_strangers_questions_are_answered_sparingly(desk: Desk) -> None:
    forged = dns.message.make_query(f"{FORGED}.exfil.example", "TXT").to_wire()
    zone = dns.message.make_query("exfil.example", "SOA").to_wire()
    assert take(datagram(zone), 53, desk, ZONE, 50.0) is not None
    assert desk.said(RUN_ID).forged == 0  # a resolver that looks for the zone forges nothing
    answered = sum(take(datagram(forged), 53, desk, ZONE, 50.0) is not None for _ in range(1000))
    assert answered == PER_PREFIX[1] - 1
    assert take(datagram(zone), 53, desk, ZONE, 50.0) is None
    assert desk.said(RUN_ID).forged == 1000
    assert take(datagram(DNS), 53, desk, ZONE, 50.0) is not None  # who has a token is never limited


def test_any_bytes(desk: Desk) -> None:

    @given(
        before=st.binary(max_size=40),
        token=st.sampled_from([b"", TOKEN.encode(), FORGED.encode()]),
        after=st.binary(max_size=40),
        speaks_dns=st.booleans(),
    )
    def fuzzed(before: bytes, token: bytes, after: bytes, speaks_dns: bool) -> None:
        answer = take(datagram(before + token + after), 53, desk, ZONE if speaks_dns else None, 50.0)
        if token == TOKEN.encode():
            assert answer is not None
            assert answer.known is not None
        elif answer is not None:
            assert answer.known is None
            assert answer.text is not None
            assert dns.message.from_wire(answer.text())

    fuzzed()


@pytest.mark.parametrize(
    ("host", "written"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::1.2.3.4", "::102:304"),
    ],
)
def test_addresses_are_written_one_way(host: str, written: str) -> None:
    assert normal(host) == written


async def test_errors_of_earlier_datagrams_do_not_end_it(tmp_path: Path) -> None:
    """Who asks and goes away leaves ICMP errors behind, and a port 0 cannot be answered."""
    async with running(tmp_path) as (_, port):
        for _ in range(20):
            with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
                await gone.sendto(DNS, ("127.0.0.1", port))
        assert receipts.find((await exchange(TOKEN.encode(), "127.0.0.1", port))[0])


def stored(path: Path) -> set[int]:
    store = Store(path)
    said = store.read(RUN_ID)
    store.close()
    assert said is not None
    return {arrival.check for arrival in said.arrivals}


@pytest.mark.parametrize("after", [1, 500, 3000])
def test_killed_in_the_middle_of_load_no_acknowledged_arrival_is_missing(tmp_path: Path, after: int) -> None:
    path = tmp_path / "a"
    with served(path) as (port, process):

        def kill(answers: int) -> None:
            if answers == after:
                os.kill(process.pid, signal.SIGKILL)

        load = ask(port, queries(range(60_000)), answered=kill)
    assert after <= len(load.answered) < 60_000
    missing = set(load.answered) - stored(path)
    assert not missing


def test_what_the_kernel_dropped_is_told() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
    ):
        sock.bind(("127.0.0.1", 0))
        datagrams._prepare(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the least that there is
        for _ in range(200):
            peer.sendto(b"x" * 500, sock.getsockname())
        assert datagrams.drops(sock) > 100  # without another datagram, which may never come


async def test_a_run_is_told_that_datagrams_were_dropped(desk: Desk, autojump_clock: trio.testing.MockClock) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
    ):
        sock.bind(("127.0.0.1", 0))
        assert desk.said(RUN_ID).lost == 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(datagrams.watch_drops, sock, desk)
            await trio.testing.wait_all_tasks_blocked()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            for _ in range(200):
                peer.sendto(b"x" * 500, sock.getsockname())
            await trio.sleep(3)
            nursery.cancel_scope.cancel()
        assert desk.said(RUN_ID).lost == 1

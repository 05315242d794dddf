"""Ways round a filter, against real sockets: each opens, talks and fails as it should, and passes what connect() does not."""

import json
import os
import shutil
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
import trustme
from hypothesis import given
from hypothesis import strategies as st

from probe.agent import run_orders
from probe.codec import decode, parse_json, to_line
from probe.contradictions import contradicts
from probe.destinations import GENERATORS, Choices, Endpoint, nobody_lives_at
from probe.documents import Attempt, Data, Icmp, Order, Orders, RawAnswer, Record, Settings
from probe.errors import UserError
from probe.lab import confine
from probe.model import Channel, Destination, Purpose, Transport
from probe.scenario import CheckSpec, parse_scenario
from probe.techniques import TECHNIQUES
from probe.techniques.icmp_echo import build_request, internet_checksum, parse_reply
from tests.make import attempt, check

TOKEN = "01j0-000001-abcdefgh"
NAMED = "203.0.113.200"  # on this namespace's loopback: tests/without-uplink
TCP = ("tcp_fastopen", "mptcp_connect", "source_port")


def order(technique: str, port: int | None, address: str = NAMED, n: int = 1) -> Order:
    return Order(n, technique, Destination(None, address, port), TOKEN)


def orders(*several: Order) -> Orders:
    return Orders("egress-probe.orders/1", "R", Settings(deadline=0.3, rate=0, walk=False), 1000, several)


async def record(one: Order) -> Record:
    """What the agent says of one order; and it is no contradiction."""
    lines: list[Any] = []
    await run_orders(orders(one), lines.append)
    (found,) = [line for line in lines if isinstance(line, Record)]
    planned = check(one.destination.address, one.destination.port, technique=one.technique)
    assert contradicts(planned, found) is None
    return found


async def attempts(one: Order) -> list[Attempt]:
    return list((await record(one)).attempts)


@asynccontextmanager
async def server(handler: Callable[[trio.SocketStream], Any], port: int = 0, host: str = NAMED) -> AsyncIterator[int]:
    async def safely(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await handler(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
                return

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(port, host=host)
        nursery.start_soon(trio.serve_listeners, safely, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def echo(stream: trio.SocketStream) -> None:
    await stream.send_all(await stream.receive_some(65536))


@asynccontextmanager
async def udp_echo(host: str = NAMED) -> AsyncIterator[int]:
    sock = trio.socket.socket(trio.socket.AF_INET6 if ":" in host else trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await sock.bind((host, 0))

    async def reply() -> None:
        while True:
            data, peer = await sock.recvfrom(2048)
            await sock.sendto(data, peer)

    with sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reply)
            yield sock.getsockname()[1]
            nursery.cancel_scope.cancel()


async def elsewhere(prefix: Sequence[str], *several: Order) -> dict[int, Record]:
    """The agent started by `prefix`; what it says of each order."""
    command = [*prefix, sys.executable, "-m", "probe.agent"]
    text = to_line(orders(*several)).encode() + b"\n"
    done = await trio.run_process(command, stdin=text, capture_stdout=True)
    lines = [line for line in done.stdout.decode().splitlines() if json.loads(line)["kind"] == "record"]
    found = [decode(Record, parse_json(line, "evidence")) for line in lines]
    return {one.check: one for one in found}


def namespace(setup: str, *prefix: str) -> list[str]:
    """A namespace of its own with loopback and NAMED, where `setup` was run."""
    if os.geteuid() != 0:
        pytest.skip("needs root, if only in a user namespace")
    for tool in (*prefix[:1], "unshare", "ip"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    script = f'ip link set lo up; ip address add {NAMED}/32 dev lo; {setup}\nexec "$@"'
    return ["unshare", "--net", "sh", "-ec", script, "sh", *prefix]


def confined(*words: str) -> list[str]:
    """Under seccomp or Landlock, in this namespace."""
    problem = confine.cannot(words)
    if problem is not None:
        pytest.skip(problem)
    return [sys.executable, "-m", "probe.lab.confine", *words, "--"]


# --- TCP --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [NAMED, "::1"])
@pytest.mark.parametrize("technique", TCP)
async def test_an_open_port_is_talked_to_over_the_same_connection(technique: str, host: str) -> None:
    served: list[int] = []

    async def count(stream: trio.SocketStream) -> None:
        try:
            served.append(stream.socket.getpeername()[1])
        except OSError:
            return  # the walk's connection is closed as soon as it is made
        await echo(stream)

    async with server(count, host=host) as port:
        first, talk, near = await attempts(order(technique, port, host))
    assert (first.step, first.result, first.source) == ("connect", "connected", host)
    assert talk.data is not None
    assert talk.data.token_echoed
    assert (near.step, near.result, near.hops) == ("walk", "connected", 1)  # loopback is no hop away
    assert (served[0] == 53) == (technique == "source_port")


@pytest.mark.parametrize("technique", TCP)
async def test_a_closed_port(technique: str) -> None:
    (seen,) = await attempts(order(technique, 9))
    assert (seen.result, seen.stage, seen.error) == ("error", "receive", "ECONNREFUSED")
    assert "hup" in (seen.events or "")


@pytest.mark.parametrize(
    ("technique", "stage"), [("tcp_fastopen", "send"), ("mptcp_connect", "connect"), ("source_port", "connect")]
)
async def test_no_route_is_said_by_the_call(technique: str, stage: str) -> None:
    (seen,) = await attempts(order(technique, 443, "198.51.100.44"))
    assert (seen.stage, seen.error, seen.route) == (stage, "ENETUNREACH", "ENETUNREACH")


async def test_a_mute_server_is_silent_after_the_accept() -> None:
    async def mute(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with server(mute) as port:
        _, talk, _ = await attempts(order("tcp_fastopen", port))
    assert (talk.result, talk.data) == ("silent", None)


async def test_tls_is_spoken_on_its_ports_over_the_same_connection() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("named.test").configure_cert(context)

    async def serve(stream: trio.SocketStream) -> None:
        secure = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        await secure.receive_some(65536)
        await secure.send_all(b"HTTP/1.1 200 OK\r\n\r\n")

    async with server(serve, 8443) as port:
        _, talk, _ = await attempts(order("tcp_fastopen", port))
    assert talk.tls is not None
    assert (talk.tls.handshake, talk.tls.verified) == (True, None)
    assert talk.data is not None
    assert talk.data.http_status == 200


@pytest.mark.parametrize(
    ("answer", "status"), [(b"HTTP/1.1 400 Bad Request\r\n\r\n", 400), (b"\x15\x03\x03\x00\x02\x02\x28", None)]
)
async def test_what_is_no_tls_on_a_tls_port(answer: bytes, status: int | None) -> None:
    """A plain server's words count, a TLS alert does not."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(answer)
        await stream.receive_some(1)

    async with server(serve, 8443) as port:
        _, talk, _ = await attempts(order("mptcp_connect", port))
    assert talk.tls is not None
    assert not talk.tls.handshake
    assert (talk.data and talk.data.http_status) == status


TWICE = """
import json, socket, sys, threading, trio
from probe.agent import read_orders, run_orders
from probe.codec import to_line
served = socket.socket()
served.setsockopt(socket.IPPROTO_TCP, 23, 5)  # TCP_FASTOPEN
served.bind(("203.0.113.200", 7777))
served.listen(5)
def serve():
    while True:
        with served.accept()[0] as one:
            try: one.sendall(one.recv(9999))
            except OSError: pass
threading.Thread(target=serve, daemon=True).start()
orders = read_orders(sys.stdin.readline())
for run in range(2):
    lines = []
    trio.run(run_orders, orders, lambda line: lines.append(to_line(line)))
    rows = [line.split() for line in open("/proc/net/netstat") if line.startswith("TcpExt:")]
    echoed = any('"token_echoed":true' in line.replace(" ", "") for line in lines)
    print(dict(zip(*rows))["TCPFastOpenPassive"], echoed)
"""


async def test_with_a_cookie_the_nonce_travels_in_the_syn() -> None:
    """The first connection asks for a cookie, the second one sends data before any handshake (RFC 7413 3.1)."""
    prefix = namespace("echo 3 > /proc/sys/net/ipv4/tcp_fastopen", sys.executable, "-c", TWICE)
    text = to_line(orders(order("tcp_fastopen", 7777))).encode() + b"\n"
    done = await trio.run_process(prefix, stdin=text, capture_stdout=True)
    # The SYN to the next hop is the second connection of a run: it has the cookie already, and takes no data along.
    assert done.stdout.decode().split() == ["1", "True", "3", "True"]


# --- what passes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "plain", "passes"),
    [
        (["seccomp-connect=EPERM"], ("connect", "EPERM"), ["tcp_fastopen"]),
        (["landlock-tcp="], ("connect", "EACCES"), ["tcp_fastopen", "mptcp_connect"]),
    ],
)  # fmt: skip
async def test_filters_of_connect_are_passed(words: list[str], plain: tuple[str, str], passes: list[str]) -> None:
    async with server(echo) as port:
        names = ["tcp_connect", *passes]
        found = await elsewhere(confined(*words), *(order(name, port, n=n) for n, name in enumerate(names)))
    (stopped,) = found[0].attempts
    assert (stopped.stage, stopped.error) == plain
    for n in range(1, len(names)):
        assert any(a.data is not None and a.data.token_echoed for a in found[n].attempts), names[n]


async def test_a_datagram_passes_a_filter_of_connect() -> None:
    async with udp_echo() as port:
        found = await elsewhere(
            confined("seccomp-connect=EPERM"), order("udp_datagram", port, n=0), order("udp_unconnected", port, n=1)
        )
    assert found[0].attempts[0].error == "EPERM"
    assert found[1].attempts[0].data is not None


@pytest.mark.parametrize("host", [NAMED, "::1"])
async def test_a_raw_syn_passes_a_filter_of_connect(host: str) -> None:
    async with server(echo, host=host) as port:
        found = await elsewhere(confined("seccomp-connect=EPERM"), order("raw_syn", port, host))
    if found[1].not_run is not None:
        pytest.skip(found[1].not_run)
    (made,) = found[1].attempts
    assert (made.result, made.source, made.raw[0].kind) == ("answered", host, "syn-ack")


# --- what cannot run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("technique", "setup", "dropped", "reason"),
    [
        ("tcp_fastopen", "echo 0 > /proc/sys/net/ipv4/tcp_fastopen", "sys_time", "TCP Fast Open is switched off here (net.ipv4.tcp_fastopen)"),
        ("mptcp_connect", "echo 0 > /proc/sys/net/mptcp/enabled", "sys_time", "this kernel has no Multipath TCP (ENOPROTOOPT)"),
        ("source_port", "", "net_bind_service", "port 53 cannot be bound here (EACCES)"),
        ("icmp_echo", "", "net_raw", "no ping socket (ping_group_range: EACCES) and no raw socket (CAP_NET_RAW: EPERM)"),
        ("raw_syn", "", "net_raw", "no raw socket here (CAP_NET_RAW: EPERM)"),
    ],
)  # fmt: skip
async def test_what_is_missing_is_said(technique: str, setup: str, dropped: str, reason: str) -> None:
    prefix = namespace(setup, "setpriv", f"--bounding-set=-{dropped}", f"--inh-caps=-{dropped}")
    port = None if technique == "icmp_echo" else 9
    found = await elsewhere(prefix, order(technique, port))
    assert (found[1].not_run, found[1].attempts) == (reason, ())


async def test_a_port_that_somebody_listens_on_is_not_taken() -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 53))
        listener.listen()
        assert (await record(order("source_port", 9))).not_run == "port 53 cannot be bound here (EADDRINUSE)"


# --- UDP --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [NAMED, "::1"])
async def test_an_unconnected_datagram_is_answered(host: str) -> None:
    async with udp_echo(host) as port:
        first, near = await attempts(order("udp_unconnected", port, host))
    assert first.data is not None
    assert (first.step, first.result, first.source, first.data.token_echoed) == ("send", "answered", host, True)
    assert (near.step, near.result, near.hops) == ("walk", "answered", 1)


async def test_an_answer_of_somebody_else_is_none() -> None:
    """The socket is open to everybody: only the destination's word counts."""
    with socket.socket(type=socket.SOCK_DGRAM) as asked, socket.socket(type=socket.SOCK_DGRAM) as other:
        asked.bind((NAMED, 0))
        asked.setblocking(False)
        other.bind(("127.0.0.1", 0))

        async def foreign() -> None:
            await trio.lowlevel.wait_readable(asked)
            _, peer = asked.recvfrom(100)
            other.sendto(b"hello", peer)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(foreign)
            (seen,) = await attempts(order("udp_unconnected", asked.getsockname()[1]))
    assert (seen.result, seen.tries) == ("silent", 2)


@pytest.mark.parametrize(("host", "icmp"), [(NAMED, Icmp(3, 3, NAMED, 64)), ("::1", Icmp(1, 4, "::1", 64))])
async def test_an_unconnected_socket_hears_the_error_and_its_sender(host: str, icmp: Icmp) -> None:
    (seen,) = await attempts(order("udp_unconnected", 9, host))
    assert (seen.stage, seen.error, seen.icmp) == ("receive", "ECONNREFUSED", icmp)


# --- ICMP -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ping", "raw"])
async def test_an_echo_returns_the_nonce(kind: str) -> None:
    if kind == "ping":
        setup, drop = "echo 0 0 > /proc/sys/net/ipv4/ping_group_range", "net_raw"
    else:
        setup, drop = "", "sys_time"  # nobody's group, unless it is set
    prefix = namespace(setup, "setpriv", f"--bounding-set=-{drop}", f"--inh-caps=-{drop}")
    hosts = (NAMED, "::1", "198.51.100.44")
    found = await elsewhere(prefix, *(order("icmp_echo", None, host, n=n) for n, host in enumerate(hosts)))
    for n in (0, 1):
        first, near = found[n].attempts
        assert (first.step, first.result, first.transport, first.port) == ("send", "answered", Transport.ICMP, None)
        assert first.data is not None
        assert (first.data.token_echoed, first.data.bytes) == (True, len(TOKEN))
        assert (near.step, near.result, near.hops) == ("walk", "answered", 1)
    assert found[2].attempts[0].error == "ENETUNREACH"


def test_echo_messages() -> None:
    request = build_request(4, 0x1234, b"abc")
    assert internet_checksum(request) == 0
    assert request[:2] == b"\x08\0"
    assert build_request(6, 1, b"")[:4] == b"\x80\0\0\0"
    reply = b"\0\0\0\0\x12\x34\0\1" + b"xx" + TOKEN.encode()
    assert parse_reply(4, reply, False, 0x1234, TOKEN.encode()) == reply[8:]
    assert parse_reply(4, b"\x45" + b"\0" * 19 + reply, True, 0x1234, TOKEN.encode()) == reply[8:]
    assert parse_reply(4, reply, False, 0x1235, TOKEN.encode()) is None
    assert parse_reply(4, request, False, 0x1234, b"abc") is None  # our own request, heard on loopback
    assert parse_reply(6, reply, False, 0x1234, TOKEN.encode()) is None
    assert parse_reply(4, reply[:20], False, 0x1234, TOKEN.encode()) is None


@given(st.sampled_from((4, 6)), st.binary(max_size=80), st.booleans())
def test_any_bytes_are_a_reply_or_none(family: int, data: bytes, raw: bool) -> None:
    found = parse_reply(family, data, raw, 1, b"token")
    assert found is None or b"token" in found
    assert 0 <= internet_checksum(data) <= 0xFFFF


# --- destinations -----------------------------------------------------------------------------------------------------

CHOICES = Choices(
    witnesses=(
        Endpoint(Destination(None, "198.51.100.7", 443)),
        Endpoint(Destination(None, "198.51.100.7", 53), Transport.UDP),
        Endpoint(Destination(None, "2001:db8:7::7", 443)),
        Endpoint(Destination("a.test", None, 443)),
    )
)


def generated(name: str, technique: str, *ports: int) -> list[str]:
    spec = CheckSpec(technique, name, "p", ports)
    return [str(target.destination) for target in GENERATORS[name](spec, (), CHOICES)]


def test_v4_mapped_destinations_are_those_of_version_4() -> None:
    assert generated("v4-mapped", "tcp_connect", 443) == ["[::ffff:198.51.100.44]:443", "[::ffff:198.51.100.7]:443"]
    assert nobody_lives_at(Destination(None, "::ffff:198.51.100.44", 443))
    assert not nobody_lives_at(Destination(None, "::ffff:8.8.8.8", 443))


def test_icmp_has_no_ports() -> None:
    assert generated("witness-hosts", "icmp_echo") == ["198.51.100.7", "[2001:db8:7::7]", "a.test"]
    assert generated("documentation-one", "icmp_echo") == ["198.51.100.44", "[2001:db8:44::44]"]
    assert len(generated("documentation-one", "tcp_connect", 80, 443)) == 4


SCENARIO = """
id = "mine"
title = "t"
why = "w"
source = ["s"]
attack = ["T1095"]
[[check]]
technique = "icmp_echo"
destinations = "documentation-one"
proves = "p"
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SCENARIO + "ports = [443]", "mine.toml: check[0].ports: icmp_echo has no ports"),
        (SCENARIO.replace("documentation-one", "witness-tcp"), "mine.toml: check[0].destinations: icmp_echo has no ports (expected one of documentation, documentation-one, reserved, witness-hosts)"),
        (SCENARIO.replace("icmp_echo", "tcp_connect").replace("documentation-one", "witness-hosts"), "mine.toml: check[0].destinations: witness-hosts names no port, and tcp_connect needs one"),
    ],
)  # fmt: skip
def test_a_scenario_gives_ports_to_what_has_them(text: str, message: str) -> None:
    known = frozenset(TECHNIQUES), frozenset(GENERATORS)
    assert parse_scenario("mine.toml", SCENARIO, *known).check[0].ports == ()
    with pytest.raises(UserError) as raised:
        parse_scenario("mine.toml", text, *known)
    assert str(raised.value) == message


# --- what evidence may look like --------------------------------------------------------------------------------------

ECHOED = Data(20, "reply", TOKEN, token_echoed=True)
PING = replace(attempt("answered", port=None, step="send", transport=Transport.ICMP), data=ECHOED)
RAW = attempt("answered", step="raw", raw=(RawAnswer("syn-ack", "192.0.2.1", 60, 0.01),))


@pytest.mark.parametrize(
    ("technique", "made", "problem"),
    [
        ("icmp_echo", [PING], None),
        ("icmp_echo", [PING, replace(PING, step="walk", hops=1)], None),
        ("icmp_echo", [replace(PING, port=443)], "a port of ICMP, which has none"),
        ("udp_unconnected", [replace(PING, transport=Transport.UDP)], "an attempt to no port"),
        ("icmp_echo", [replace(PING, transport=Transport.UDP, port=443)], "a step send over udp, which icmp_echo does not take here"),
        ("raw_syn", [RAW], None),
        ("raw_syn", [RAW, RAW], "the same attempt twice"),
        ("raw_syn", [replace(RAW, raw=())], "answered without an answer"),
        ("raw_syn", [replace(RAW, result="silent")], "silent and answered at once"),
        ("raw_syn", [replace(RAW, result="silent", raw=(RawAnswer("rst", "192.0.2.1", 60, 0.01),))], "silent and answered at once"),
        ("raw_syn", [replace(RAW, result="silent", raw=(RawAnswer("other", "192.0.2.1", 60, 0.01),))], None),
        ("raw_syn", [replace(RAW, raw=(replace(RAW.raw[0], ttl=256),))], "a packet that is none"),
        ("raw_syn", [replace(RAW, raw=(replace(RAW.raw[0], source="x"),))], "a packet that is none"),
        ("raw_syn", [replace(RAW, raw=(replace(RAW.raw[0], delay=float("nan")),))], "a packet that is none"),
        ("raw_syn", [replace(RAW, raw=(*RAW.raw, RawAnswer("icmp", "192.0.2.9", 60, 0.01)))], "an ICMP error that is none"),
        ("raw_syn", [replace(RAW, raw=RAW.raw * 65)], "packets that answered no raw SYN"),
        ("raw_syn", [replace(RAW, result="connected")], "a step raw that is connected"),
        ("tcp_fastopen", [RAW], "a step raw over tcp, which tcp_fastopen does not take here"),
        ("tcp_fastopen", [attempt(raw=RAW.raw)], "silent and answered at once"),
        ("tcp_fastopen", [attempt("answered", step="talk", data=ECHOED)], "a conversation without a connection"),
    ],
)  # fmt: skip
def test_evidence_that_cannot_be(technique: str, made: list[Attempt], problem: str | None) -> None:
    port = None if technique == "icmp_echo" else 443
    channel = Channel.ICMP if technique == "icmp_echo" else Channel.TCP
    planned = check(port=port, technique=technique, channel=channel, purpose=Purpose.POLICY)
    assert contradicts(planned, Record(1, tuple(made))) == problem


@pytest.mark.parametrize("technique", ["tcp_fastopen", "mptcp_connect", "source_port", "icmp_echo", "raw_syn"])
def test_who_may_say_that_it_cannot_run(technique: str) -> None:
    said = Record(1, (), not_run="no")
    assert contradicts(check(technique=technique), said) is None
    assert contradicts(check(technique="udp_unconnected"), said) == "not run, by a technique that always can"
    assert contradicts(check(technique=technique), replace(said, attempts=(attempt(),))) is not None

"""Techniques against real sockets on loopback, through the agent: facts only, as evidence lines."""

import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import pytest
import trio
import trustme
from hypothesis import given
from hypothesis import strategies as st

from probe.agent import run_orders
from probe.documents import Attempt, End, Icmp, Order, Orders, Record, Settings, Start
from probe.model import Destination, DnsResolver, HttpRequest, Query, SelfTest, Transport
from probe.sockets import parse_extended_error, sockaddr
from probe.talk import http_request, parse_answer, printable
from probe.techniques.base import Pace
from probe.techniques.dns_query import build, parse
from probe.techniques.names import Names, parse_hosts, parse_resolv_conf
from probe.vantage import look, on_link, tentative

TOKEN = "01j0-000001-abcdefgh"
NAMED = "203.0.113.200"  # on this namespace's loopback: tests/without-uplink


async def attempts(order: Order, deadline: float = 0.3) -> list[Attempt]:
    """What the agent says of one order."""
    lines: list[Any] = []
    orders = Orders("egress-probe.orders/1", "R", Settings(deadline=deadline, rate=0), 1000, (order,))
    await run_orders(orders, lines.append)
    assert isinstance(lines[0], Start)
    assert isinstance(lines[-1], End)
    (record,) = [line for line in lines if isinstance(line, Record)]
    return list(record.attempts)


def order(technique: str, port: int | None, address: str | None = "127.0.0.1", **more: Any) -> Order:
    host = more.pop("host", None)
    return Order(1, technique, Destination(host, address, port), TOKEN, **more)


@asynccontextmanager
async def server(handler: Callable[[trio.SocketStream], Any], address: str = "127.0.0.1") -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host=address)

        async def safely(stream: trio.SocketStream) -> None:
            async with stream:
                try:
                    await handler(stream)
                except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
                    return

        nursery.start_soon(trio.serve_listeners, safely, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def banner(stream: trio.SocketStream) -> None:
    await stream.send_all(b"220 hello\r\n")


async def mute(stream: trio.SocketStream) -> None:
    await trio.sleep(30)


async def leave(stream: trio.SocketStream) -> None:
    return


async def echo(stream: trio.SocketStream) -> None:
    await stream.send_all(await stream.receive_some(65536))


def http(status: str, *headers: str) -> Callable[[trio.SocketStream], Any]:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all("\r\n".join([f"HTTP/1.1 {status}", *headers, "", "body"]).encode())

    return answer


# --- tcp_connect ---


async def test_a_banner() -> None:
    async with server(banner) as port:
        first, talk, near = await attempts(order("tcp_connect", port))
    assert (first.step, first.result, first.source) == ("connect", "connected", "127.0.0.1")
    assert (near.step, near.result) == ("walk", "connected")  # loopback is no hop away
    assert talk.data is not None
    assert (talk.data.kind, talk.data.excerpt) == ("banner", "220 hello..")


async def test_an_echo_returns_the_nonce() -> None:
    async with server(echo) as port:
        _, talk, _ = await attempts(order("tcp_connect", port))
    assert talk.data is not None
    assert talk.data.token_echoed


async def test_http_status_and_header_names() -> None:
    async with server(http("403 Forbidden", "X-Squid-Error: ERR", "Via: x")) as port:
        _, talk, _ = await attempts(order("tcp_connect", port))
    assert talk.data is not None
    assert (talk.data.http_status, talk.data.http_headers) == (403, ("x-squid-error", "via"))


async def test_a_mute_accept_has_no_data() -> None:
    async with server(mute) as port:
        _, talk, _ = await attempts(order("tcp_connect", port))
    assert (talk.result, talk.data) == ("silent", None)


async def test_accept_and_leave_has_no_data() -> None:
    async with server(leave) as port:
        _, talk, _ = await attempts(order("tcp_connect", port))
    assert talk.data is None


async def test_a_closed_port() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        (seen,) = await attempts(order("tcp_connect", bound.getsockname()[1]))
    assert (seen.result, seen.stage, seen.error) == ("error", "receive", "ECONNREFUSED")


async def test_no_route() -> None:
    (seen,) = await attempts(order("tcp_connect", 80, "203.0.113.1"))
    assert (seen.result, seen.stage, seen.error) == ("error", "connect", "ENETUNREACH")


@pytest.mark.parametrize("technique", ["tcp_connect", "udp_datagram"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_self_tests_see_their_own_targets(technique: str, address: str) -> None:
    opened = await attempts(order(technique, None, address, self_test=SelfTest.OPEN))
    assert any(attempt.data is not None and attempt.data.token_echoed for attempt in opened)
    (closed,) = await attempts(order(technique, None, address, self_test=SelfTest.CLOSED))
    assert closed.error == "ECONNREFUSED"


# --- TLS and HTTP ---


def tls(
    handler: Callable[[trio.abc.Stream], Any], name: str = "localhost"
) -> tuple[trustme.CA, Callable[[trio.SocketStream], Any]]:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)

    async def serve(stream: trio.SocketStream) -> None:
        await handler(trio.SSLStream(stream, context, server_side=True, https_compatible=True))

    return ca, serve


async def say_ok(stream: trio.abc.Stream) -> None:
    await stream.receive_some(65536)
    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")


async def test_https_to_an_address_shows_the_certificate() -> None:
    _, serve = tls(say_ok)
    async with server(serve) as port:
        _, talk, _ = await attempts(order("http_get", port, http=HttpRequest("POST", tls=True)))
    assert talk.tls is not None
    assert talk.tls.handshake
    assert talk.tls.verified is None
    assert talk.tls.certificate_sha256 is not None
    assert talk.data is not None
    assert talk.data.http_status == 200


async def test_a_wrong_certificate_is_said_and_then_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.techniques.names._read", lambda path: f"{NAMED} named.test\n")
    _, serve = tls(say_ok, "named.test")
    async with server(serve, NAMED) as port:
        named = order("http_get", port, None, host="named.test", http=HttpRequest(tls=True))
        tried = await attempts(named)
    talks = [attempt for attempt in tried if attempt.step == "talk" and attempt.address == NAMED]
    assert [talk.tls.verified for talk in talks if talk.tls] == [False, None]
    assert talks[1].data is not None


async def test_a_tls_alert_is_no_application_data() -> None:
    async def alert(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"\x15\x03\x03\x00\x02\x02\x28")  # fatal handshake_failure
        await stream.receive_some(1)

    async with server(alert) as port:
        _, talk, _ = await attempts(order("tls_hello", port))
    assert talk.data is None
    assert talk.tls is not None
    assert not talk.tls.handshake


async def test_a_plain_server_on_a_tls_port_is_heard() -> None:
    async with server(http("400 Bad Request")) as port:
        _, talk, _ = await attempts(order("tls_hello", port))
    assert talk.data is not None
    assert talk.data.http_status == 400


async def test_tls_hello_says_nothing_inside() -> None:
    heard: list[bytes] = []

    async def listen(stream: trio.abc.Stream) -> None:
        with trio.move_on_after(0.5):
            heard.append(bytes(await stream.receive_some(100)))

    _, serve = tls(listen)
    async with server(serve) as port:
        _, talk, _ = await attempts(order("tls_hello", port))
    assert talk.tls is not None
    assert talk.tls.handshake
    assert set(heard) <= {b""}  # connections came and went, and nothing was said


def test_a_request_carries_the_nonce_and_nothing_of_this_machine() -> None:
    made = http_request(HttpRequest("POST"), TOKEN, "x.example").decode()
    head, body = made.split("\r\n\r\n")
    assert body == TOKEN
    assert [line.split(":")[0] for line in head.split("\r\n")[1:]] == [
        "Host",
        "User-Agent",
        "Accept",
        "Connection",
        "Content-Type",
        "Content-Length",
    ]
    assert socket.gethostname() not in made
    assert http_request(HttpRequest(), TOKEN, "x").endswith(b"\r\n\r\n")


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed(data: bytes) -> None:
    made = parse_answer(data, TOKEN, "reply")
    assert made.bytes == len(data)
    assert made.excerpt.isprintable()
    assert all(name.isprintable() for name in made.http_headers)
    assert len(printable(data)) <= 200


# --- UDP ---


async def test_a_datagram_that_is_answered() -> None:
    sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await sock.bind(("127.0.0.1", 0))

    async def reply() -> None:
        while True:
            data, peer = await sock.recvfrom(100)
            await sock.sendto(data, peer)

    with sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reply)
            seen, near = await attempts(order("udp_datagram", sock.getsockname()[1]))
            nursery.cancel_scope.cancel()
    assert (near.step, near.result) == ("walk", "answered")
    assert seen.data is not None
    assert seen.data.token_echoed
    assert seen.transport is Transport.UDP


async def test_a_datagram_that_is_not_answered_is_sent_twice() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        (seen,) = await attempts(order("udp_datagram", sock.getsockname()[1]))
    assert (seen.result, seen.tries) == ("silent", 2)


async def test_a_port_unreachable_names_its_sender() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    (seen,) = await attempts(order("udp_datagram", port))
    assert (seen.error, seen.icmp) == ("ECONNREFUSED", Icmp(3, 3, "127.0.0.1", 64))


@given(st.binary(max_size=64))
def test_any_error_queue_bytes_are_parsed(data: bytes) -> None:
    parse_extended_error(data)


def test_error_queues() -> None:
    v4 = bytes.fromhex("71000000" + "02030d00" + "00000000" * 2) + b"\x02\0\0\0" + bytes([10, 0, 0, 1]) + b"\0" * 8
    assert parse_extended_error(v4) == Icmp(3, 13, "10.0.0.1")
    v6 = (
        bytes.fromhex("0d000000" + "03010100" + "00000000" * 2)
        + b"\x0a\0"
        + b"\0" * 6
        + ipaddress.ip_address("fd99::1").packed
        + b"\0" * 4
    )
    assert parse_extended_error(v6) == Icmp(1, 1, "fd99::1")
    assert parse_extended_error(v4[:18]) == Icmp(3, 13, None)
    assert parse_extended_error(v4.replace(b"\x02\x03\x0d", b"\x01\x03\x0d")) is None


# --- DNS ---


async def dns_server(sock: trio.socket.SocketType, *answers: Callable[[dns.message.Message], bytes | None]) -> None:
    for answer in answers:
        data, peer = await sock.recvfrom(1000)
        reply = answer(dns.message.from_wire(data))
        if reply is not None:
            await sock.sendto(reply, peer)


def txt(query: dns.message.Message) -> bytes:
    reply = dns.message.make_response(query)
    reply.answer.append(dns.rrset.from_text(query.question[0].name, 1, "IN", "TXT", '"egress-probe"'))
    return reply.to_wire()


def another_id(query: dns.message.Message) -> bytes:
    reply = dns.message.make_response(query)
    reply.id ^= 1
    return reply.to_wire()


EXPLICIT = Query(f"{TOKEN}.x.example", "TXT", DnsResolver.EXPLICIT)


@asynccontextmanager
async def answering(*answers: Callable[[dns.message.Message], bytes | None]) -> AsyncIterator[int]:
    sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await sock.bind(("127.0.0.1", 0))
    with sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dns_server, sock, *answers)
            yield sock.getsockname()[1]
            nursery.cancel_scope.cancel()


async def test_a_dns_answer() -> None:
    async with answering(txt) as port:
        (seen,) = await attempts(order("dns_query", port, query=EXPLICIT))
    assert seen.dns is not None
    assert (seen.dns.rcode, seen.dns.records, seen.dns.name) == ("NOERROR", ('"egress-probe"',), EXPLICIT.name)


async def test_a_query_that_was_lost_is_sent_again() -> None:
    async with answering(lambda query: None, txt) as port:
        (seen,) = await attempts(order("dns_query", port, query=EXPLICIT))
    assert (seen.tries, seen.result) == (2, "answered")


async def test_an_answer_with_another_id_is_none() -> None:
    async with answering(another_id, lambda query: b"\0" * 5) as port:
        (seen,) = await attempts(order("dns_query", port, query=EXPLICIT))
    assert (seen.result, seen.dns) == ("silent", None)


async def test_dns_over_tcp() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        data = await stream.receive_some(1000)
        reply = txt(dns.message.from_wire(bytes(data[2:])))
        for byte in len(reply).to_bytes(2, "big") + reply[:5]:  # in crumbs
            await stream.send_all(bytes([byte]))
        await stream.send_all(reply[5:])

    async with server(serve) as port:
        over_tcp = Query(EXPLICIT.name, "TXT", DnsResolver.EXPLICIT, Transport.TCP)
        (seen,) = await attempts(order("dns_query", port, query=over_tcp))
    assert seen.dns is not None
    assert seen.transport is Transport.TCP


async def test_dns_over_tcp_that_hangs_up() -> None:
    async with server(leave) as port:
        over_tcp = Query(EXPLICIT.name, "TXT", DnsResolver.EXPLICIT, Transport.TCP)
        (seen,) = await attempts(order("dns_query", port, query=over_tcp))
    assert seen.dns is None
    assert seen.result in ("connected", "error")


async def test_a_name_that_dns_cannot_carry() -> None:
    (seen,) = await attempts(order("dns_query", 53, query=Query("a" * 70 + ".example", "TXT", DnsResolver.EXPLICIT)))
    assert seen.error == "ENAMETOOLONG"


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_none(data: bytes) -> None:
    question = build("x.example", "TXT")
    assert question is not None
    parse(question, data)
    parse(question, question.to_wire()[:2] + b"\x81\x80" + data)


# --- names ---


def test_hosts_and_resolv_conf() -> None:
    hosts = parse_hosts("127.0.0.1 localhost me # c\n::1 localhost\nnonsense x\n203.0.113.9\n203.0.113.9 A.x.test.\n")
    assert hosts == {"localhost": ("127.0.0.1", "::1"), "me": ("127.0.0.1",), "a.x.test": ("203.0.113.9",)}
    assert parse_resolv_conf(
        "nameserver 10.0.0.1\n#nameserver 10.0.0.9\nnameserver x\nnameserver fd00::1\n" + "nameserver 10.0.0.2\n" * 3
    ) == ("10.0.0.1", "fd00::1", "10.0.0.2")
    assert parse_resolv_conf("search x\nnameserver\n") == ("127.0.0.1",)


async def test_a_name_is_asked_once_and_never_with_a_search_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = build

    def listening(name: str, kind: str, klass: str) -> Any:
        asked.append(f"{name} {kind}")
        return real(name, kind, klass)

    monkeypatch.setattr("probe.techniques.dns_query.build", listening)
    names = Names("", "search corp.test\nnameserver 203.0.113.53\n")
    for _ in range(2):
        addresses, tried = await names.lookup("API.x.test.", Pace(0, 100, ""), trio.current_time())
        assert addresses == ()
        assert [attempt.error for attempt in tried] == ["ENETUNREACH"] * 2
    assert sorted(asked) == ["api.x.test A", "api.x.test AAAA"]


async def test_a_resolver_cannot_steer_the_probe_to_a_metadata_service() -> None:
    names = Names("169.254.169.254 a.test\n100.100.100.200 b.test\n", "")
    for name in ("a.test", "b.test"):
        assert (await names.lookup(name, Pace(0, 100, ""), 0.0))[0] == ()


def test_a_link_local_resolver_keeps_its_zone() -> None:
    assert parse_resolv_conf("nameserver fe80::1%lo\n") == ("fe80::1%lo",)
    assert sockaddr("fe80::1%lo", 53) == ("fe80::1%lo".split("%")[0], 53, 0, socket.if_nametoindex("lo"))
    with pytest.raises(OSError, match=r"No such device|no interface"):
        sockaddr("fe80::1%nothing", 53)


async def test_sinkholes_are_not_connected_to() -> None:
    names = Names("0.0.0.0 evil.test\n127.0.0.1 bad.test\n127.0.0.1 both.test\n203.0.113.9 both.test\n", "")
    for name in ("evil.test", "bad.test"):
        addresses, (tried,) = await names.lookup(name, Pace(0, 100, ""), 0.0)
        assert addresses == ()
        assert tried.dns is not None
    assert await names.lookup("both.test", Pace(0, 100, ""), 0.0) == (("203.0.113.9",), [])


# --- vantage ---


def test_on_link_networks() -> None:
    route = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t00000000\t0100630A\t0003\t0\t0\t0\t00000000\neth0\t0000630A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n"
    six = "fd990000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n"
    six += "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd990000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n"
    assert on_link(route, six) == ("10.99.0.0/24", "fd99::/64")
    assert on_link(None, six) is None
    assert on_link("", None) == ()  # a kernel without IPv6
    tunnel = route.replace("0000630A", "00000000").replace("00FFFFFF", "00000080")
    assert on_link(tunnel, None) == ()  # 0.0.0.0/1 to a device says nothing of who is near


def test_tentative_addresses() -> None:
    row = "fd990000000000000000000000000002 02 40 00 {} eth0\n"
    assert tentative(lambda path: row.format("40"))
    assert not tentative(lambda path: row.format("80"))
    assert not tentative(lambda path: None)


def test_the_vantage_is_read_from_proc() -> None:
    seen = look(
        lambda path: "CapEff:\t0000000000003000\nNoNewPrivs:\t1\nSeccomp:\t2\n" if path.endswith("status") else None
    )
    assert (seen.capabilities, seen.no_new_privs, seen.seccomp, seen.on_link) == (
        ("net_admin", "net_raw"),
        True,
        "filter",
        None,
    )
    blind = look(lambda path: None)
    assert (blind.capabilities, blind.no_new_privs, blind.seccomp) == ((), None, None)
    assert look(lambda path: "CapEff:\tzzz\n").capabilities == ()
    assert "lo" in look().interfaces

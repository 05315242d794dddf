"""Conversations over real sockets: every protocol, in every order of bytes, from friends and from strangers."""

import base64
import ssl
import struct
from collections import Counter
from contextlib import suppress
from pathlib import Path

import dns.edns
import dns.message
import pytest
import trio

from probe.collector.line import MOST, Line
from probe.collector.streams import Seats
from tests.collector.house import RUN, ZONE, collector, connected_pair, is_receipt, token, until

NAME = f"{token()}.at.{ZONE}"


def trusting(*protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


def question(name: str = f"{token()}.{ZONE}", kind: str = "TXT") -> bytes:
    return dns.message.make_query(name, kind).to_wire()


def framed(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def get(path: str, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {ZONE}\r\n{more}\r\n".encode()


def post(body: bytes, kind: str = "text/plain", path: str = "/") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {ZONE}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


# --- a token in the clear ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [token().encode(), token().upper().encode() + b"\r\n", b"\x00\xff" + token().encode()])
async def test_a_token_in_raw_bytes_gets_its_receipt(tmp_path: Path, data: bytes) -> None:
    async with collector(tmp_path) as far:
        reply = await far.say(data, end=False)
        assert is_receipt(reply)
        assert reply.endswith(b"\n")
        (arrival,) = far.arrivals()
    assert (arrival.check, arrival.channel, arrival.over, arrival.at) == (1, "tcp", "tcp", far.port)
    assert f"tcp,{arrival.source},{arrival.port},".encode() in reply
    assert arrival.syn is not None
    assert arrival.syn.startswith("45")  # IPv4, no options


async def test_it_may_come_byte_by_byte(tmp_path: Path) -> None:
    async with collector(tmp_path) as far:
        stream = await trio.open_tcp_stream("127.0.0.1", far.port)
        for byte in b"some noise " + token().encode():
            await stream.send_all(bytes((byte,)))
        assert is_receipt(bytes(await stream.receive_some()))
        await stream.aclose()


@pytest.mark.parametrize(
    "request_",
    [
        get(f"/egress-probe/{token()}"),
        get("/", f"X-Header: {token()}\r\n"),
        get(f"http://{NAME}/"),
        post(token().encode()),
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"9\r\n%b\r\n" % token().encode()[i : i + 9] for i in range(0, 45, 9))
        + b"5\r\n%b\r\n0\r\n\r\n" % token().encode()[45:],
        f"GET /{token()} HTTP/1.0\r\n\r\n".encode(),
        f"CONNECT {NAME}:443 HTTP/1.1\r\nHost: {NAME}:443\r\n\r\n".encode(),
        f"GET {token()}\r\nno header at all\r\n\r\n".encode(),
    ],
)  # fmt: skip
async def test_a_token_anywhere_in_http_is_answered_in_http(tmp_path: Path, request_: bytes) -> None:
    async with collector(tmp_path) as far:
        reply = await far.say(request_, end=False)
        (arrival,) = far.arrivals()
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: text/plain" in head
    assert b"Connection: close" in head
    assert is_receipt(body)
    assert (arrival.channel, arrival.over) == ("http", "tcp")


async def test_dns_over_tcp_answers_several_questions_in_order(tmp_path: Path) -> None:
    async with collector(tmp_path, dns=True) as far:
        asked = [question(), question(f"{token(2)}.{ZONE}", "AAAA"), question(f"www.{ZONE}", "SOA")]
        reply = await far.say(b"".join(map(framed, asked)))
        found = far.arrivals()
    assert [(each.check, each.channel, each.over, each.type) for each in found] == [
        (1, "dns", "tcp", "TXT"),
        (2, "dns", "tcp", "AAAA"),
    ]
    assert all(each.syn for each in found)
    answers = []
    while reply:
        (length,) = struct.unpack_from(">H", reply)
        answers.append(dns.message.from_wire(reply[2 : 2 + length]))
        reply = reply[2 + length :]
    assert [answer.id for answer in answers] == [dns.message.from_wire(each).id for each in asked]
    assert is_receipt(str(answers[0].answer[0]).encode())


@pytest.mark.parametrize("data", [token().encode(), get(f"/{token()}")])
async def test_other_protocols_come_to_the_dns_port_too(tmp_path: Path, data: bytes) -> None:
    async with collector(tmp_path, dns=True) as far:
        assert is_receipt(await far.say(data, end=False))


async def test_dns_over_https(tmp_path: Path) -> None:
    wire = question()
    encoded = base64.urlsafe_b64encode(wire).decode().rstrip("=")
    async with collector(tmp_path) as far:
        for request_ in (get(f"/dns-query?dns={encoded}"), post(wire, "application/dns-message", "/dns-query")):
            async with await _tls(far.port, None) as stream:
                await stream.send_all(request_)
                head, _, body = (await _all(stream)).partition(b"\r\n\r\n")
            assert b"Content-Type: application/dns-message" in head
            assert is_receipt(str(dns.message.from_wire(body).answer[0]).encode())
        clear = await far.say(get(f"/dns-query?dns={encoded}"), end=False)
        assert clear.startswith(b"HTTP/1.1 200")
        assert [(each.channel, each.over) for each in far.arrivals()] == [
            ("dns", "https"),
            ("dns", "https"),
            ("dns", "tcp"),
        ]


# --- TLS --------------------------------------------------------------------------------------------------------------


async def _tls(port: int, name: str | None, *protocols: str) -> "trio.SSLStream[trio.SocketStream]":
    plain = await trio.open_tcp_stream("127.0.0.1", port)
    stream = trio.SSLStream(plain, trusting(*protocols), server_hostname=name)
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError:
        await plain.aclose()
        raise
    return stream


async def _all(stream: trio.abc.ReceiveStream) -> bytes:
    found = b""
    with suppress(trio.BrokenResourceError):
        while part := await stream.receive_some():
            found += part
    return found


async def test_a_server_name_is_an_arrival_and_is_answered_inside(tmp_path: Path) -> None:
    async with collector(tmp_path) as far:
        async with await _tls(far.port, NAME) as stream:
            assert is_receipt(bytes(await stream.receive_some()))
        (arrival,) = far.arrivals()
    assert (arrival.channel, arrival.over, arrival.name) == ("tls", "tls", NAME)


async def test_a_server_name_is_an_arrival_before_any_handshake(tmp_path: Path) -> None:
    client, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        trusting().wrap_bio(client, outgoing, server_hostname=NAME).do_handshake()
    async with collector(tmp_path) as far:
        stream = await trio.open_tcp_stream("127.0.0.1", far.port)
        hello = outgoing.read()
        await stream.send_all(hello[:40])
        await stream.send_all(hello[40:])
        await until(lambda: len(far.arrivals()) == 1)
        await stream.send_all(b"and now something that is no TLS")
        await stream.aclose()
        assert [each.channel for each in far.arrivals()] == ["tls"]
        assert far.unknown() == 0


async def test_a_request_after_such_a_name_gets_an_answer_in_http(tmp_path: Path) -> None:
    async with collector(tmp_path) as far:
        for request_, channel in ((get(f"/{token(2)}"), "http"), (get("/"), "tls")):
            async with await _tls(far.port, NAME) as stream:
                await stream.send_all(request_)
                reply = await _all(stream)
            assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
            assert is_receipt(reply, 2 if channel == "http" else 1)
            assert f"receipt=v1,{channel},".encode() in reply
        assert [(each.channel, each.over) for each in far.arrivals()] == [
            ("tls", "tls"),
            ("http", "tls"),
            ("tls", "tls"),
        ]


async def test_dns_over_tls(tmp_path: Path) -> None:
    async with collector(tmp_path) as far, await _tls(far.port, None, "dot") as stream:
        await stream.send_all(framed(question()))
        reply = bytes(await stream.receive_some())
        (arrival,) = far.arrivals()
    assert is_receipt(str(dns.message.from_wire(reply[2:]).answer[0]).encode())
    assert (arrival.channel, arrival.over, arrival.type) == ("dns", "tls", "TXT")


async def test_raw_bytes_inside_tls(tmp_path: Path) -> None:
    async with collector(tmp_path) as far, await _tls(far.port, None) as stream:
        await stream.send_all(token().encode())
        assert is_receipt(bytes(await stream.receive_some()))
        (arrival,) = far.arrivals()
    assert (arrival.channel, arrival.over) == ("tcp", "tls")


# --- strangers --------------------------------------------------------------------------------------------------------

FORGED = token(key=b"another")


@pytest.mark.parametrize(
    ("data", "start"),
    [
        (b"", b""),
        (b"\x16", b""),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03half a hello", b""),
        (b"\x16\x03\x01\xff\xff" + bytes(70000), b""),
        (b"GET", b""),
        (b"SSH-2.0-OpenSSH_9.2\r\n", b""),
        (FORGED.encode(), b""),
        (get("/"), b"HTTP/1.1 404 Not Found\r\n"),
        (get(f"/{FORGED}"), b"HTTP/1.1 404 Not Found\r\n"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10000, b"HTTP/1.1 404 Not Found\r\n"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", b""),
        (get("/dns-query?dns=AAAA"), b"HTTP/1.1 404 Not Found\r\n"),
        (bytes(MOST * 2), b""),
    ],
)  # fmt: skip
async def test_what_holds_no_token_is_counted_and_gets_no_receipt(tmp_path: Path, data: bytes, start: bytes) -> None:
    async with collector(tmp_path) as far:
        reply = b""
        with suppress(trio.BrokenResourceError):
            reply = await far.say(data)
        await until(lambda: far.unknown() == 1)
        assert far.arrivals() == ()
    assert reply.startswith(start)
    assert b"receipt" not in reply


async def test_a_forged_token_in_a_server_name_is_not_worth_a_handshake(tmp_path: Path) -> None:
    async with collector(tmp_path) as far:
        with pytest.raises(trio.BrokenResourceError):
            await _tls(far.port, f"{FORGED}.at.{ZONE}")
        assert far.unknown() == 1


async def test_a_run_that_is_not_registered_is_a_stranger(tmp_path: Path) -> None:
    async with collector(tmp_path, registered=False) as far:
        assert await far.say(token().encode()) == b""
        assert far.unknown() == 1


async def test_ten_megabytes_behind_a_token_do_not_cost_the_receipt(tmp_path: Path) -> None:
    async with collector(tmp_path) as far:
        stream = await trio.open_tcp_stream("127.0.0.1", far.port)
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(token().encode() + bytes(10 * 1024 * 1024))

            nursery.start_soon(send)
            assert is_receipt(bytes(await stream.receive_some()))
        await stream.aclose()


async def test_ten_megabytes_of_nothing_are_not_read(tmp_path: Path) -> None:
    async with collector(tmp_path) as far:
        stream = await trio.open_tcp_stream("127.0.0.1", far.port)
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(bytes(10 * 1024 * 1024))
        await stream.aclose()
        await until(lambda: far.unknown() == 1)


async def test_whoever_says_nothing_is_put_out(tmp_path: Path) -> None:
    async with collector(tmp_path, deadline=0.2) as far:
        slow = await trio.open_tcp_stream("127.0.0.1", far.port)
        half = await trio.open_tcp_stream("127.0.0.1", far.port)
        await half.send_all(b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc")
        for stream in (slow, half):
            with suppress(trio.BrokenResourceError):
                assert await stream.receive_some() == b""
            await stream.aclose()
        assert far.unknown() == 2


async def test_who_floods_loses_his_own_oldest_connection(tmp_path: Path) -> None:
    async with collector(tmp_path, seats=(100, 3)) as far:
        idle = [await trio.open_tcp_stream("127.0.0.1", far.port) for _ in range(50)]
        assert is_receipt(await far.say(token().encode(), end=False))
        assert far.house.tally["evicted"] == 48
        for stream in idle:
            await stream.aclose()


async def test_what_cannot_be_stored_is_not_answered(tmp_path: Path) -> None:
    async with collector(tmp_path, rows=1) as far:
        assert is_receipt(await far.say(token().encode(), end=False))
        for data in (token().encode(), get(f"/{token()}")):
            assert await far.say(data, end=False) == b""
        said = far.house.desk.said(RUN)
    assert len(said.arrivals) == 1
    assert said.lost == 2


async def test_a_name_that_cannot_be_stored_gets_no_handshake(tmp_path: Path) -> None:
    async with collector(tmp_path, rows=0) as far:
        with pytest.raises(trio.BrokenResourceError):
            await _tls(far.port, NAME)


async def test_seats_are_freed_and_the_oldest_of_all_makes_room() -> None:
    tally = Counter[str]()
    seats = Seats(2, 2, tally)
    pairs = [connected_pair() for _ in range(3)]
    lines = [Line(accepted, peer) for _, accepted, peer in pairs]
    lines[1].source, lines[2].source = "2001:db8::1", "2001:db8::2"
    for line in lines:
        seats.take(line)
    assert [line.scope.cancel_called for line in lines] == [True, False, False]
    assert len(seats) == 2
    for line in lines:
        seats.leave(line)
        seats.leave(line)
    assert len(seats) == 0
    assert tally["evicted"] == 1
    for client, accepted, _ in pairs:
        client.close()
        accepted.close()


# --- cut off in the middle --------------------------------------------------------------------------------------------


def client_hello(name: str) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        trusting().wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    ("data", "channel"),
    [(f"GET /{token()} HTTP/1.1\r\nHost:".encode(), "http"), (client_hello(NAME)[:-5], "tls")],
)
async def test_what_was_recognised_is_stored_though_the_rest_never_comes(
    tmp_path: Path, data: bytes, channel: str
) -> None:
    async with collector(tmp_path, deadline=0.3) as far:
        assert await far.say(data, end=False) == b""
        await until(lambda: bool(far.arrivals()))
        assert [(each.check, each.channel) for each in far.arrivals()] == [(1, channel)]
        assert far.unknown() == 0


async def test_a_token_beside_a_question_counts(tmp_path: Path) -> None:
    plain = question(f"www.{ZONE}")
    doh = post(plain, "application/dns-message", "/dns-query").replace(b"Host: ", f"X: {token()}\r\nHost: ".encode())
    option = dns.message.make_query(f"www.{ZONE}", "TXT", use_edns=0,
                                    options=[dns.edns.GenericOption(65001, token().encode())]).to_wire()  # fmt: skip
    async with collector(tmp_path, dns=True) as far:
        assert b"200 OK" in await far.say(doh)
        assert dns.message.from_wire((await far.say(framed(option)))[2:])
        assert [each.channel for each in far.arrivals()] == ["http", "tcp"]

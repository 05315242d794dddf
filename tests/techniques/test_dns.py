"""Ways to ask DNS, against real servers on loopback: types and classes, second answers, a limit on hops, TLS, HTTPS."""

import base64
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trio
import trustme
from hypothesis import given
from hypothesis import strategies as st

from probe import receipts
from probe.agent import run_orders
from probe.contradictions import contradicts
from probe.datagram import Linger, exchange
from probe.documents import Attempt, DnsAnswer, Order, Orders, Record, Settings
from probe.model import Channel, Destination, DnsResolver, HttpRequest, Query, Transport
from probe.techniques import load
from probe.techniques.dns_over_https import build_request, parse_reply
from probe.techniques.dns_query import build, different, framed, parse, unframed
from probe.tokens import token
from tests.make import check

KEY = b"k" * 32
TOKEN = token("01J00000000000000000000000", 1, KEY)
NAME = f"{TOKEN}.x.example"
NAMED = "203.0.113.200"  # on this namespace's loopback: tests/without-uplink
TCP = Transport.TCP

Answer = Callable[[dns.message.Message], bytes | None]


def explicit(kind: str = "TXT", name: str = NAME, **more: Any) -> Query:
    return Query(name, kind, DnsResolver.EXPLICIT, **more)


async def attempts(technique: str, port: int, query: Query, address: str = NAMED, **more: Any) -> list[Attempt]:
    """What the agent says of one order; and it is no contradiction."""
    destination = Destination(more.pop("host", None), address, port)
    order = Order(1, technique, destination, TOKEN, query=query, **more)
    orders = Orders("egress-probe.orders/1", "R", Settings(deadline=0.3, rate=0, walk=False), 1000, (order,))
    lines: list[Any] = []
    await run_orders(orders, lines.append)
    (found,) = [line for line in lines if isinstance(line, Record)]
    planned = check(
        address, port, technique=technique, channel=Channel.DNS, host=destination.host, query=query, http=order.http
    )
    assert contradicts(planned, found) is None
    return list(found.attempts)


@asynccontextmanager
async def answering(*answers: Answer) -> AsyncIterator[int]:
    """A UDP server that gives all of `answers` to its first question."""
    sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await sock.bind((NAMED, 0))

    async def serve() -> None:
        data, peer = await sock.recvfrom(1000)
        for answer in answers:
            if (reply := answer(dns.message.from_wire(data))) is not None:
                await sock.sendto(reply, peer)

    with sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield sock.getsockname()[1]
            nursery.cancel_scope.cancel()


def records(*texts: str, rcode: str = "NOERROR", flags: int = 0, klass: str = "") -> Answer:
    def answer(query: dns.message.Message) -> bytes:
        reply = dns.message.make_response(query)
        asked = query.question[0]
        reply.set_rcode(dns.rcode.from_text(rcode))
        reply.flags |= flags
        if texts:
            of = klass or asked.rdclass
            reply.answer.append(dns.rrset.from_text(asked.name, 1, of, asked.rdtype, *texts))
        return reply.to_wire()

    return answer


# --- types and classes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", receipts.TYPES)
@pytest.mark.parametrize("transport", [Transport.UDP, TCP])
async def test_every_type_brings_its_receipt(kind: str, transport: Transport) -> None:
    made = receipts.records(kind, KEY, TOKEN, "198.51.100.7", 40312, "x.example")
    server = answering(records(*made)) if transport is Transport.UDP else framing(records(*made))
    async with server as port:
        (seen,) = await attempts("dns_query", port, explicit(kind, transport=transport))
    assert seen.dns is not None
    assert (seen.dns.type, seen.dns.name, seen.result) == (kind, NAME, "answered")
    assert receipts.are_valid(kind, seen.dns.records, KEY, TOKEN, [("198.51.100.7", 40312)], "x.example")


@asynccontextmanager
async def framing(answer: Answer) -> AsyncIterator[int]:
    async def serve(stream: trio.abc.Stream) -> None:
        await frames(stream, answer)

    async with tcp(serve) as port:
        yield port


async def frames(stream: trio.abc.Stream, answer: Answer) -> None:
    data = await read(stream, unframed)
    await stream.send_all(framed(answer(dns.message.from_wire(data)) or b""))


async def read(stream: trio.abc.ReceiveStream, whole: Callable[[bytes], bytes | None]) -> bytes:
    seen = b""
    while (found := whole(seen)) is None:
        part = await stream.receive_some(65536)
        assert part, "the client left"
        seen += part
    return found


async def test_only_the_asked_type_is_told() -> None:
    def both(query: dns.message.Message) -> bytes:
        reply = dns.message.make_response(query)
        reply.answer.append(dns.rrset.from_text(query.question[0].name, 1, "IN", "CNAME", "a.x.example."))
        reply.answer.append(dns.rrset.from_text("a.x.example.", 1, "IN", "A", "192.0.2.7"))
        return reply.to_wire()

    async with answering(both) as port:
        (seen,) = await attempts("dns_query", port, explicit("A"))
    assert seen.dns is not None
    assert seen.dns.records == ("192.0.2.7",)


async def test_chaos() -> None:
    query = explicit(name="version.bind", klass="CH")
    async with answering(records('"unbound 1.17"')) as port:
        (seen,) = await attempts("dns_query", port, query)
    assert seen.dns is not None
    assert seen.dns.records == ('"unbound 1.17"',)
    async with answering(records('"not mine"', klass="IN")) as port:
        (seen,) = await attempts("dns_query", port, query)
    assert seen.dns is not None
    assert seen.dns.records == ()


async def test_a_truncated_answer_is_told_as_it_is() -> None:
    async with answering(records(flags=dns.flags.TC)) as port:
        (seen,) = await attempts("dns_query", port, explicit())
    assert seen.dns is not None
    assert (seen.dns.truncated, seen.dns.records) == (True, ())


async def test_a_name_that_dns_cannot_carry_is_a_record() -> None:
    for technique in ("dns_query", "dns_over_tls", "dns_over_https"):
        (seen,) = await attempts(technique, 53, explicit(name="a" * 70 + ".example", transport=TCP))
        assert (seen.error, seen.stage) == ("ENAMETOOLONG", "socket")


async def test_the_limit_on_hops_is_set_and_told() -> None:
    sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await sock.bind((NAMED, 0))
    sock.setsockopt(0, 12, 1)  # IP_RECVTTL
    limits: list[int] = []

    async def serve() -> None:
        data, ancillary, _, peer = await sock.recvmsg(1000, 100)
        limits.extend(value[0] for _, _, value in ancillary)
        await sock.sendto(records('"near"')(dns.message.from_wire(data)) or b"", peer)

    with sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            (seen,) = await attempts("dns_query", sock.getsockname()[1], explicit(hops=1))
    assert (limits, seen.hops, seen.step, seen.result) == ([1], 1, "query", "answered")


# --- second answers ---------------------------------------------------------------------------------------------------


async def test_a_forged_answer_is_before_the_real_one() -> None:
    forged, real = records("192.0.2.66"), records("192.0.2.7")
    async with answering(forged, real) as port:
        (seen,) = await attempts("dns_query", port, explicit("A"))
    assert seen.dns is not None
    assert seen.dns.records == ("192.0.2.66",)
    assert [late.records for late in seen.late] == [("192.0.2.7",)]


async def test_the_time_is_that_of_the_first_answer() -> None:
    question = build("x.example", "A")
    assert question is not None
    heard: list[float] = []
    linger = Linger(0.3, lambda data: heard.append(trio.current_time()))

    async def always(packets: int = 1) -> bool:
        return True

    async with answering(records("192.0.2.66"), records("192.0.2.7")) as port:
        made, _ = await exchange(
            NAMED, port, question.to_wire(), lambda _: True, always, 0.0, "query", 2.0, linger=linger
        )
    (second,) = heard
    assert made.t + made.elapsed <= second


async def test_another_rcode_is_another_answer() -> None:
    async with answering(records(rcode="NXDOMAIN"), records('"yes"')) as port:
        (seen,) = await attempts("dns_query", port, explicit())
    assert seen.dns is not None
    assert (seen.dns.rcode, [late.rcode for late in seen.late]) == ("NXDOMAIN", ["NOERROR"])


async def test_what_is_no_second_answer() -> None:
    def another_id(query: dns.message.Message) -> bytes:
        query.id ^= 1
        return records("192.0.2.66")(query) or b""

    def another_question(query: dns.message.Message) -> bytes:
        other = dns.message.make_query("y.example", "A", id=query.id)
        return records("192.0.2.66")(other) or b""

    first = records("192.0.2.7", "192.0.2.8")
    turned = records("192.0.2.8", "192.0.2.7")
    async with answering(first, first, turned, another_id, another_question, lambda _: b"\0" * 9) as port:
        (seen,) = await attempts("dns_query", port, explicit("A"))
    assert seen.dns is not None
    assert seen.late == ()


async def test_second_answers_are_bounded() -> None:
    async with answering(*(records(f"192.0.2.{n}") for n in range(1, 200))) as port:
        (seen,) = await attempts("dns_query", port, explicit("A"))
    assert [late.records for late in seen.late] == [(f"192.0.2.{n}",) for n in (2, 3, 4, 5)]


async def test_a_port_that_closes_after_its_answer_has_answered() -> None:
    sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await sock.bind((NAMED, 0))
    port = sock.getsockname()[1]

    async def once() -> None:
        data, peer = await sock.recvfrom(1000)
        await sock.sendto(records("192.0.2.7")(dns.message.from_wire(data)) or b"", peer)
        sock.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(once)
        (seen,) = await attempts("dns_query", port, explicit("A"))
    assert (seen.result, seen.late) == ("answered", ())


rcodes = st.sampled_from(("NOERROR", "NXDOMAIN", "REFUSED"))
answers = st.builds(
    lambda rcode, records: DnsAnswer("x.example", "A", rcode, False, False, tuple(records)),
    rcodes,
    st.lists(st.sampled_from("abc"), max_size=3, unique=True),
)


@given(answers, st.lists(answers, max_size=12))
def test_second_answers_differ_from_the_first_and_each_other(first: DnsAnswer, others: list[DnsAnswer]) -> None:
    found = different(first, others)
    said = [(one.rcode, frozenset(one.records)) for one in (first, *found)]
    assert len(found) <= 4
    assert len(set(said)) == len(said)


def test_many_records_are_cut_alike_in_any_order() -> None:
    question = build("x.example", "A")
    assert question is not None
    texts = [f"192.0.2.{n}" for n in range(30)]
    one, other = (parse(question, records(*some)(question) or b"") for some in (texts, texts[::-1]))
    assert one == other


# --- inside TLS -------------------------------------------------------------------------------------------------------


def server_context(alpn: str | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("resolver.test").configure_cert(context)
    if alpn:
        context.set_alpn_protocols([alpn])
    return context


@asynccontextmanager
async def tcp(handler: Callable[[trio.SocketStream], Any]) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host=NAMED)

        async def safely(stream: trio.SocketStream) -> None:
            async with stream:
                try:
                    await handler(stream)
                except (trio.BrokenResourceError, trio.ClosedResourceError, AssertionError):
                    return

        nursery.start_soon(trio.serve_listeners, safely, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


Handler = Callable[[trio.abc.Stream], Any]


@asynccontextmanager
async def secure(handler: Handler, alpn: str) -> AsyncIterator[tuple[int, list[tuple[str | None, str | None]]]]:
    """A TLS server, and the (ALPN, SNI) of each connection that it finished a handshake with."""
    context = server_context(alpn)
    names: list[str | None] = []
    seen: list[tuple[str | None, str | None]] = []
    context.sni_callback = lambda sock, name, _: names.append(name)

    async def serve(stream: trio.SocketStream) -> None:
        inside = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        await inside.do_handshake()
        seen.append((inside.selected_alpn_protocol(), names[-1]))
        await handler(inside)

    async with tcp(serve) as port:
        yield port, seen


async def test_dns_over_tls() -> None:
    made = receipts.records("TXT", KEY, TOKEN, "198.51.100.7", 40312, "x.example")

    async def serve(stream: trio.abc.Stream) -> None:
        await frames(stream, records(*made))

    async with secure(serve, "dot") as (port, seen):
        first, asked = await attempts("dns_over_tls", port, explicit(transport=TCP))
        assert seen == [("dot", None)]
        await attempts("dns_over_tls", port, explicit(transport=TCP), host="resolver.test")
        assert seen[1:] == [("dot", "resolver.test")]
    assert (first.step, first.result) == ("connect", "connected")
    assert (asked.step, asked.result, asked.transport, asked.port) == ("query", "answered", TCP, port)
    assert asked.tls is not None
    assert (asked.tls.handshake, asked.tls.verified, len(asked.tls.certificate_sha256 or "")) == (True, None, 64)
    assert asked.dns is not None
    assert asked.dns.records == tuple(made)


async def test_an_answer_in_crumbs() -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        data = await read(stream, unframed)
        for byte in framed(records('"slow"')(dns.message.from_wire(data)) or b""):
            await stream.send_all(bytes([byte]))

    async with secure(serve, "dot") as (port, _):
        _, asked = await attempts("dns_over_tls", port, explicit(transport=TCP))
    assert asked.dns is not None


@pytest.mark.parametrize("technique", ["dns_over_tls", "dns_over_https"])
async def test_a_closed_port(technique: str) -> None:
    (seen,) = await attempts(technique, 9, explicit(transport=TCP))
    assert (seen.step, seen.stage, seen.error) == ("connect", "receive", "ECONNREFUSED")


async def say_nothing(stream: trio.abc.Stream) -> None:
    return


async def say_nonsense(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"\0\x02no")


async def say_another_answer(stream: trio.abc.Stream) -> None:
    data = await read(stream, unframed)
    query = dns.message.from_wire(data)
    query.id ^= 1
    await stream.send_all(framed(records('"x"')(query) or b""))


@pytest.mark.parametrize("handler", [say_nothing, say_nonsense, say_another_answer])
async def test_a_handshake_without_an_answer(handler: Handler) -> None:
    async with secure(handler, "dot") as (port, _):
        _, asked = await attempts("dns_over_tls", port, explicit(transport=TCP))
    assert asked.tls is not None
    assert (asked.result, asked.dns, asked.tls.handshake) == ("connected", None, True)


async def test_what_speaks_no_tls() -> None:
    async def plain(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        await stream.send_all(b"HTTP/1.1 403 Forbidden\r\n\r\n")

    async def alert(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        await stream.send_all(b"\x15\x03\x03\x00\x02\x02\x28")
        await stream.receive_some(1)

    for handler, status in ((plain, 403), (alert, None)):
        async with tcp(handler) as port:
            _, asked = await attempts("dns_over_tls", port, explicit(transport=TCP))
        assert (asked.result, asked.data and asked.data.http_status) == ("connected", status)
        assert asked.tls is not None
        assert not asked.tls.handshake


# --- HTTPS ------------------------------------------------------------------------------------------------------------


def request_end(data: bytes) -> bytes | None:
    head, end, body = data.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")), 0)
    return data if end and len(body) >= length else None


def replying(answer: Answer, heard: list[bytes], head: bytes = b"HTTP/1.1 200 OK\r\n") -> Handler:
    async def serve(stream: trio.abc.Stream) -> None:
        data = await read(stream, request_end)
        heard.append(data)
        text, _, body = data.partition(b"\r\n\r\n")
        encoded = text.split(b" ")[1].partition(b"dns=")[2]
        asked = body or base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
        reply = answer(dns.message.from_wire(asked)) or b""
        await stream.send_all(head + f"Content-Length: {len(reply)}\r\n\r\n".encode())
        await stream.send_all(reply)
        await stream.receive_some(1)  # the connection stays open: the length is what ends it

    return serve


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_dns_over_https(method: Any) -> None:
    made = receipts.records("TXT", KEY, TOKEN, "198.51.100.7", 40312, "x.example")
    heard: list[bytes] = []
    async with secure(replying(records(*made), heard), "http/1.1") as (port, seen):
        _, asked = await attempts(
            "dns_over_https", port, explicit(transport=TCP), http=HttpRequest(method), host="resolver.test"
        )
    assert seen == [("http/1.1", "resolver.test")]
    assert heard[0].startswith(f"{method} /dns-query".encode())
    assert f"\r\nHost: resolver.test:{port}\r\n".encode() in heard[0]
    assert asked.dns is not None
    assert asked.dns.records == tuple(made)
    assert asked.data is not None
    assert asked.data.http_status == 200
    assert asked.data.receipt is not None
    assert receipts.is_valid(asked.data.receipt, KEY, TOKEN)
    assert asked.tls is not None
    assert asked.tls.handshake


async def test_an_answer_under_an_error_is_none() -> None:
    handler = replying(records('"x"'), [], b"HTTP/1.1 403 Forbidden\r\n")
    async with secure(handler, "http/1.1") as (port, _):
        _, asked = await attempts("dns_over_https", port, explicit(transport=TCP))
    assert (asked.result, asked.dns) == ("connected", None)
    assert asked.data is not None
    assert asked.data.http_status == 403


QUESTION = build("x.example", "TXT")
assert QUESTION is not None
QUESTION.id = 0


def test_requests() -> None:
    assert QUESTION is not None
    wire = QUESTION.to_wire()
    get, post = (build_request(method, "h:8443", wire) for method in ("GET", "POST"))
    encoded = base64.urlsafe_b64encode(wire).rstrip(b"=")
    assert get.startswith(b"GET /dns-query?dns=" + encoded + b" HTTP/1.1\r\nHost: h:8443\r\n")
    assert get.endswith(b"\r\n\r\n")
    assert post.endswith(b"\r\nContent-Length: %d\r\n\r\n" % len(wire) + wire)


def test_replies() -> None:
    assert QUESTION is not None
    answer = records('"x"')(QUESTION) or b""
    chunks = b"5\r\n" + answer[:5] + b"\r\n%x;q=1\r\n" % len(answer[5:]) + answer[5:] + b"\r\n0\r\n\r\n"
    for reply in (
        b"HTTP/1.1 200 OK\r\n\r\n" + answer,
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer + b"more",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks,
    ):
        found = parse_reply(QUESTION, reply)
        assert found is not None
        assert found.records == ('"x"',)
    for reply in (
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 404 No\r\n\r\n" + answer,
        b"HTTP/1.1 204 No\r\n\r\n" + answer,
    ):
        assert parse_reply(QUESTION, reply) is None


# --- any bytes --------------------------------------------------------------------------------------------------------

kinds = st.sampled_from(receipts.TYPES)


@given(kinds, st.sampled_from(("IN", "CH")), st.binary(max_size=120))
def test_any_rdata_is_an_answer_or_none(kind: str, klass: str, rdata: bytes) -> None:
    question = build("x.example", kind, klass)
    assert question is not None
    record = b"\xc0\x0c" + _type_and_class(question)
    body = record + b"\0\0\0\1" + len(rdata).to_bytes(2, "big") + rdata
    head = question.id.to_bytes(2, "big") + b"\x81\x80\0\1\0\1\0\0\0\0"
    found = parse(question, head + _question(question) + body)
    if found is not None:
        assert found.type == kind
        assert all(len(text) <= 255 and text.isprintable() for text in found.records)


def _question(question: dns.message.Message) -> bytes:
    return question.question[0].name.to_wire() + _type_and_class(question)  # type: ignore[operator]


def _type_and_class(question: dns.message.Message) -> bytes:
    asked = question.question[0]
    return int(asked.rdtype).to_bytes(2, "big") + int(asked.rdclass).to_bytes(2, "big")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_reply_or_none(data: bytes) -> None:
    assert QUESTION is not None
    parse_reply(QUESTION, data)
    parse_reply(QUESTION, b"HTTP/1.1 200 OK\r\n" + data)
    parse_reply(QUESTION, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data)


@given(st.binary(max_size=300), st.binary(max_size=10))
def test_frames(data: bytes, more: bytes) -> None:
    assert unframed(framed(data) + more) == data
    assert unframed(framed(data)[:-1]) is None
    unframed(more)


def test_what_is_sent_is_said() -> None:
    said = {name: load(name).TRAITS.sends for name in ("dns_query", "dns_over_tls", "dns_over_https")}
    row = check(query=explicit("TXT", "{token}.x.example"), http=HttpRequest("POST"))
    assert said["dns_query"](row) == "DNS TXT {token}.x.example over UDP, sent twice"
    assert said["dns_over_tls"](row) == "SYN; if accepted, DNS TXT {token}.x.example over TLS"
    assert said["dns_over_https"](row) == "SYN; if accepted, DNS TXT {token}.x.example over HTTPS by POST"
    near = check(query=explicit("TXT", "version.bind", klass="CH", hops=1))
    assert said["dns_query"](near) == "DNS TXT version.bind of class CHAOS over UDP, sent twice, with a TTL of 1"

"""`dns_query`: one DNS question to one server, over UDP or TCP, on a connected socket of our own.

dnspython builds and parses the bytes; never its Resolver, which retries, searches and caches.
"""

import functools
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import trio

from probe import stream
from probe.datagram import Linger, exchange
from probe.documents import Attempt, Check, DnsAnswer, Order, Traits
from probe.model import Channel, DnsResolver, Query, Transport
from probe.sockets import limited_socket
from probe.talk import printable
from probe.techniques.base import Pace, Probe
from probe.tokens import asked_again

# Recursion from cold caches takes longer than a handshake: a fixed time, not one estimated from connects.
TOTAL = 2.5
# A second, different answer to the same question: one that was forged on the way is there before the real one.
_LATE_SECONDS = 0.5
_MOST_LATE = 4
_MOST_HEARD = 100  # of those that fit; who answers so often says nothing more with the rest
_MOST_RECORDS = 8


def _sends(check: Check) -> str:
    query = check.query or Query("?", "?")
    times = "sent twice" if query.transport is Transport.UDP else "in one connection"
    words = f"{' of class CHAOS' if query.klass == 'CH' else ''} over {query.transport.value.upper()}, {times}"
    return f"DNS {query.type} {query.name}{words}" + ("" if query.hops is None else f", with a TTL of {query.hops}")


# Up to three servers: over UDP two datagrams each; over TCP a SYN and the question, or a SYN that the kernel sends
# twice again while nobody answers.
TRAITS = Traits(channel=Channel.DNS, packets=3 * 3, sends=_sends, resolves=False)


async def run(orders: Sequence[Order], probe: Probe) -> None:
    """Every order, a bounded number together."""
    await probe.each(orders, attempt)


async def attempt(order: Order, probe: Probe) -> list[Attempt]:
    """The explicit resolver, or each of the system's: whoever sends data out asks the one that lets it pass."""
    query = query_of(order, probe)
    port = order.destination.port or 53
    if query.resolver is DnsResolver.EXPLICIT and order.destination.address is not None:
        servers: tuple[str, ...] = (order.destination.address,)
    else:
        servers = probe.names.servers
    attempts: list[Attempt] = []
    for server in servers:
        made = await ask_query(server, port, query, probe.pace, probe.started, "query")
        attempts.append(replace(made, again=probe.again))
    return attempts


def query_of(order: Order, probe: Probe) -> Query:
    """The order's question; at the end of a run in another name, which no cache has."""
    assert order.query is not None
    name = order.query.name
    return replace(order.query, name=asked_again(name, order.token) if probe.again else name)


def build(name: str, kind: str, klass: str = "IN") -> dns.message.Message | None:
    """The question, with recursion desired and EDNS. None for a name that DNS cannot carry."""
    try:
        return dns.message.make_query(name, kind, klass, use_edns=0, payload=1232)
    except (dns.exception.DNSException, UnicodeError, ValueError):
        return None


def parse(question: dns.message.Message, data: bytes) -> DnsAnswer | None:
    """The answer's facts, or None for bytes that are no answer to `question`. Total over any bytes."""
    try:
        answer = dns.message.from_wire(data, ignore_trailing=True, raise_on_truncation=False)
        if not question.is_response(answer):
            return None
        asked = question.question[0]
        records = [
            printable(record.to_text().encode(), 255)
            for found in answer.answer
            if (found.rdtype, found.rdclass) == (asked.rdtype, asked.rdclass)
            for record in found
        ]
    except (dns.exception.DNSException, ValueError, UnicodeError, struct.error, IndexError):
        return None
    return DnsAnswer(
        name=asked.name.to_text(omit_final_dot=True),
        type=dns.rdatatype.to_text(asked.rdtype),
        rcode=dns.rcode.to_text(answer.rcode()),
        authoritative=bool(answer.flags & dns.flags.AA),
        truncated=bool(answer.flags & dns.flags.TC),
        # Of many the same ones are kept, in whatever order they come.
        records=tuple(records if len(records) <= _MOST_RECORDS else sorted(records)[:_MOST_RECORDS]),
    )


async def ask(
    server: str,
    port: int,
    name: str,
    kind: str,
    transport: Transport,
    pace: Pace,
    started: float,
    step: Literal["resolve", "query"],
) -> Attempt:
    """One question of class IN to one server."""
    return await ask_query(server, port, Query(name, kind, transport=transport), pace, started, step)


async def ask_query(
    server: str, port: int, query: Query, pace: Pace, started: float, step: Literal["resolve", "query"]
) -> Attempt:
    """One question to one server. An answer that was cut short (TC) is told as it is: nothing is asked again."""
    question = build(query.name, query.type, query.klass)
    if question is None:
        return unaskable(server, port, query.transport, trio.current_time() - started, step)
    if query.transport is Transport.TCP:
        return replace(await _over_tcp(server, port, question, pace, started), step=step)
    return replace(
        await _over_udp(server, port, question, query.hops, pace, started, linger=step == "query"), step=step
    )


def unaskable(
    server: str, port: int, transport: Transport, now: float, step: Literal["resolve", "query"] = "query"
) -> Attempt:
    """The attempt to ask for a name that DNS cannot carry: nothing was sent."""
    return Attempt(now, 0.0, step, "error", transport, server, port, stage="socket", error="ENAMETOOLONG")


async def _over_udp(
    server: str, port: int, question: dns.message.Message, hops: int | None, pace: Pace, started: float, linger: bool
) -> Attempt:
    others: list[DnsAnswer] = []

    def heard(data: bytes) -> None:
        if len(others) < _MOST_HEARD and (other := parse(question, data)) is not None:
            others.append(other)

    factory = functools.partial(limited_socket, hops=hops, least=None)
    made, data = await exchange(
        server, port, question.to_wire(), lambda data: parse(question, data) is not None, pace.leave, started,
        "query", TOTAL, factory=factory, linger=Linger(_LATE_SECONDS, heard) if linger else None,
    )  # fmt: skip
    first = parse(question, data) if data is not None else None
    return replace(made, hops=hops, dns=first, late=different(first, others) if first is not None else ())


def different(first: DnsAnswer, others: Sequence[DnsAnswer]) -> tuple[DnsAnswer, ...]:
    """Those that say something else than `first` and each other; the order of records says nothing."""
    found = {_said(first): first}
    for other in others:
        found.setdefault(_said(other), other)
    return tuple(found.values())[1 : 1 + _MOST_LATE]


def _said(answer: DnsAnswer) -> tuple[str, frozenset[str]]:
    return answer.rcode, frozenset(answer.records)


async def _over_tcp(server: str, port: int, question: dns.message.Message, pace: Pace, started: float) -> Attempt:
    answer: DnsAnswer | None = None

    async def say(sock: trio.socket.SocketType) -> None:
        nonlocal answer
        await sock.send(framed(question.to_wire()))
        seen = bytearray()
        while (data := unframed(seen)) is None:
            part = await sock.recv(65537)
            if not part:
                return
            seen += part
        answer = parse(question, data)

    made = await stream.converse(server, port, say, 2, pace.leave, started, "query", TOTAL)
    return made if answer is None else replace(stream.answered(made), dns=answer)


def framed(message: bytes) -> bytes:
    """RFC 7766 8: the length in two bytes, and the message."""
    return struct.pack("!H", len(message)) + message


def unframed(data: bytes | bytearray) -> bytes | None:
    """The first framed message, or None until it is whole."""
    if len(data) < 2 or len(data) < 2 + (length := struct.unpack_from("!H", data)[0]):
        return None
    return bytes(data[2 : 2 + length])

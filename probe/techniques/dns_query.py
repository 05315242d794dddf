"""`dns_query`: one DNS question to one server, over UDP or TCP, on a connected socket of our own.

dnspython builds and parses the bytes; never its Resolver, which retries, searches and caches.
"""

import socket
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import trio

from probe.datagram import exchange
from probe.documents import Attempt, Check, DnsAnswer, Order, Traits
from probe.model import Channel, DnsResolver, Query, Transport
from probe.sockets import connect, icmp_error, open_socket, os_error, own_address, version
from probe.talk import printable
from probe.techniques.base import Pace, Probe

# Recursion from cold caches takes longer than a handshake: a fixed time, not one estimated from connects.
_TOTAL = 2.5
_MOST_RECORDS = 8


def _sends(check: Check) -> str:
    query = check.query or Query("?", "?")
    times = "sent twice" if query.transport is Transport.UDP else "in one connection"
    return f"DNS {query.type} {query.name} over {query.transport.value.upper()}, {times}"


TRAITS = Traits(channel=Channel.DNS, packets=2 * 3, sends=_sends, resolves=False)


async def run(orders: Sequence[Order], probe: Probe) -> None:
    """Every order, a bounded number together."""
    await probe.each(orders, attempt)


async def attempt(order: Order, probe: Probe) -> list[Attempt]:
    """The explicit resolver, or each of the system's until one answers."""
    query = order.query
    assert query is not None
    port = order.destination.port or 53
    if query.resolver is DnsResolver.EXPLICIT and order.destination.address is not None:
        servers: tuple[str, ...] = (order.destination.address,)
    else:
        servers = probe.names.servers
    attempts: list[Attempt] = []
    for server in servers:
        made = await ask(server, port, query.name, query.type, query.transport, probe.pace, probe.started, "query")
        attempts.append(replace(made, again=probe.again))
        if made.dns is not None:
            break
    return attempts


def build(name: str, kind: str) -> dns.message.Message | None:
    """The question, with recursion desired and EDNS. None for a name that DNS cannot carry."""
    try:
        return dns.message.make_query(name, kind, use_edns=0, payload=1232)
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
            if found.rdtype == asked.rdtype
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
        records=tuple(records[:_MOST_RECORDS]),
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
    """One question to one server."""
    question = build(name, kind)
    if question is None:
        return Attempt(trio.current_time() - started, 0.0, step, "error", transport, server, port, error="ENAMETOOLONG")
    if transport is Transport.TCP:
        made, data = await _over_tcp(server, port, question.to_wire(), pace, started)
    else:
        made, data = await exchange(
            server, port, question.to_wire(), lambda data: parse(question, data) is not None, pace.leave, started,
            "query", _TOTAL,
        )  # fmt: skip
    answer = parse(question, data) if data is not None else None
    if answer is None and made.result == "answered":
        made = replace(made, result="silent")
    return replace(made, step=step, dns=answer)


async def _over_tcp(
    server: str, port: int, question: bytes, pace: Pace, started: float
) -> tuple[Attempt, bytes | None]:
    """RFC 7766: length-prefixed, on a connection of its own."""
    begin = trio.current_time()
    made = Attempt(begin - started, 0.0, "query", "silent", Transport.TCP, address=server, port=port)
    stage: Literal["connect", "receive"] = "connect"
    answer: bytes | None = None
    try:
        if not await pace.leave(2):
            return replace(made, result="error", stage="socket", error="budget"), None
        plain = open_socket(version(server), socket.SOCK_STREAM)
    except OSError as error:
        return replace(made, result="error", stage="socket", error=os_error(error)), None
    with trio.socket.from_stdlib_socket(plain) as sock:
        try:
            with trio.move_on_after(_TOTAL):
                stage, number = await connect(plain, server, port)
                if number:
                    raise OSError(number, "")  # noqa: TRY301 - one place below turns every errno into evidence
                stage = "receive"
                made = replace(made, result="connected")
                await sock.send(struct.pack("!H", len(question)) + question)
                answer = await _framed(sock)
        except OSError as error:
            made = replace(made, result="error", stage=stage, error=os_error(error), icmp=icmp_error(plain))
        made = replace(made, elapsed=trio.current_time() - begin, source=own_address(plain))
    return (made if answer is None else replace(made, result="answered")), answer


async def _framed(sock: trio.socket.SocketType) -> bytes | None:
    data = b""
    while len(data) < 2 or len(data) < 2 + struct.unpack("!H", data[:2])[0]:
        part = await sock.recv(65537)
        if not part:
            return None
        data += part
    return data[2 : 2 + struct.unpack("!H", data[:2])[0]]

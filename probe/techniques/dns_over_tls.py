"""`dns_over_tls`: one DNS question to one server inside TLS (RFC 7858), where no filter of names sees it.

The certificate is evidence to be looked at, not to be trusted. `ask_inside` serves DNS over HTTPS too.
"""

import functools
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace

import dns.message
import trio

from probe import stream
from probe.documents import Attempt, Check, Data, DnsAnswer, Order, Tls, Traits
from probe.model import Channel, Query, Transport
from probe.talk import ALERT, PACKETS, Wire, parse_answer, tls_facts, tls_problem
from probe.techniques.base import Probe
from probe.techniques.dns_query import TOTAL, build, framed, parse, query_of, unaskable, unframed
from probe.techniques.tcp_connect import connect_one
from probe.tls_layer import Layer

_PORT = 853
_MOST = 2 + 65535  # a framed message


def _sends(check: Check) -> str:
    query = check.query or Query("?", "?")
    return f"SYN; if accepted, DNS {query.type} {query.name} over TLS"


# Two SYNs at most for the connect; then SYN, TLS hello, TLS finished and the question.
TRAITS = Traits(channel=Channel.DNS, packets=2 + PACKETS, connects=2, sends=_sends, resolves=False)


async def run(orders: Sequence[Order], probe: Probe) -> None:
    """Every order, a bounded number together."""
    await probe.each(orders, attempt)


async def attempt(order: Order, probe: Probe) -> list[Attempt]:
    """A plain connect and, if it is accepted, the question."""
    port, question = order.destination.port or _PORT, question_of(order, probe)
    if question is None:
        return [unaskable_at(order, port, probe)]
    made, clear = await ask_inside(order, port, probe, framed(question.to_wire()), "dot", _is_enough)
    answer = unframed(clear)
    return [*made[:-1], read_as(made[-1], None if answer is None else parse(question, answer), made[-1].data)]


def question_of(order: Order, probe: Probe) -> dns.message.Message | None:
    """The order's question; None for a name that DNS cannot carry."""
    query = query_of(order, probe)
    return build(query.name, query.type, query.klass)


def unaskable_at(order: Order, port: int, probe: Probe) -> Attempt:
    """The attempt that sent nothing, because DNS cannot carry the name: it did not get as far as a question."""
    made = unaskable(order.destination.address or "", port, Transport.TCP, probe.now())
    return replace(made, step="connect", again=probe.again)


def read_as(made: Attempt, answer: DnsAnswer | None, data: Data | None) -> Attempt:
    """The last attempt with what was read: an answer, or bytes that are none. A connect stays as it is."""
    if made.step != "query":
        return made
    made = replace(made, dns=answer, data=data)
    if answer is not None:
        return stream.answered(made)
    # What came counts, even if the connection broke afterwards.
    heard = data is not None or (made.tls is not None and made.tls.handshake)
    return replace(stream.answered(made), result="connected") if heard else made


def _is_enough(seen: bytes | bytearray) -> bool:
    return len(seen) >= _MOST or unframed(seen) is not None


async def ask_inside(
    order: Order,
    port: int,
    probe: Probe,
    message: bytes,
    alpn: str,
    enough: Callable[[bytearray], bool],
) -> tuple[list[Attempt], bytes]:
    """A connect; if it is accepted, `message` inside TLS over a second connection, and what came back in the clear.

    A server that speaks no TLS but says something else is heard: that is in the attempt's data.
    """
    address = order.destination.address
    assert address is not None
    first = await connect_one(address, port, probe)
    if first.result != "connected":
        return [first], b""
    tls: Tls | None = None
    wire: Wire | None = None
    layer: Layer | None = None

    async def say(sock: trio.socket.SocketType) -> None:
        nonlocal tls, wire, layer
        wire = Wire(sock, order.token)
        layer = Layer(wire, _context(alpn), order.destination.host)
        try:
            await layer.handshake()
        except ssl.SSLError as error:
            tls = tls_problem(error)
            return
        tls = tls_facts(layer)
        await layer.send(message)
        while not enough(layer.clear) and await layer.receive():
            pass

    made = await stream.converse(address, port, say, PACKETS, probe.pace.leave, probe.started, "query", TOTAL)
    made = replace(made, tls=tls, again=probe.again)
    clear, raw = bytes(layer.clear) if layer else b"", bytes(wire.raw) if wire else b""
    if raw and raw[0] != ALERT and not (tls and tls.handshake):
        made = read_as(made, None, parse_answer(raw, order.token, "reply"))
    return [first, made], clear


@functools.cache
def _context(alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    return context

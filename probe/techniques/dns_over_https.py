"""`dns_over_https`: one DNS question to one server as an HTTPS request (RFC 8484), by GET or POST.

It looks like any web traffic, so a filter of names or of port 53 does not see it. No HTTP library: the bytes are built
and parsed here.
"""

import base64
from collections.abc import Sequence
from dataclasses import replace

import dns.message

from probe import http1
from probe.documents import Attempt, Check, DnsAnswer, Order
from probe.model import HttpRequest, Query
from probe.talk import USER_AGENT, is_enough, parse_answer
from probe.techniques import dns_over_tls
from probe.techniques.base import Probe
from probe.techniques.dns_over_tls import ask_inside, question_of, read_as, unaskable_at
from probe.techniques.dns_query import parse

_PORT = 443
_PATH = "/dns-query"
_TYPE = "application/dns-message"


def _sends(check: Check) -> str:
    query, request = check.query or Query("?", "?"), check.http or HttpRequest()
    return f"SYN; if accepted, DNS {query.type} {query.name} over HTTPS by {request.method}"


TRAITS = replace(dns_over_tls.TRAITS, sends=_sends)


async def run(orders: Sequence[Order], probe: Probe) -> None:
    """Every order, a bounded number together."""
    await probe.each(orders, attempt)


async def attempt(order: Order, probe: Probe) -> list[Attempt]:
    """A plain connect and, if it is accepted, the request."""
    port, question = order.destination.port or _PORT, question_of(order, probe)
    if question is None:
        return [unaskable_at(order, port, probe)]
    question.id = 0  # RFC 8484 4.1: so that equal questions are equal requests
    method = (order.http or HttpRequest()).method
    message = build_request(method, authority(order, port), question.to_wire())
    made, clear = await ask_inside(order, port, probe, message, "http/1.1", is_enough)
    if not clear:
        return made
    data = parse_answer(clear, order.token, "reply")
    return [*made[:-1], read_as(made[-1], parse_reply(question, clear), data)]


def authority(order: Order, port: int) -> str:
    """The Host header: the destination's name or address, and a port that is not the usual one."""
    name = order.destination.host or order.destination.address or ""
    name = f"[{name}]" if ":" in name else name
    return name if port == _PORT else f"{name}:{port}"


def build_request(method: str, host: str, question: bytes) -> bytes:
    """The request's bytes. RFC 8484 4.1: a GET carries the question in its path (base64url, without padding)."""
    post = method == "POST"
    encoded = base64.urlsafe_b64encode(question).rstrip(b"=").decode()
    lines = [
        f"POST {_PATH} HTTP/1.1" if post else f"GET {_PATH}?dns={encoded} HTTP/1.1",
        f"Host: {host}",
        f"User-Agent: {USER_AGENT}",
        f"Accept: {_TYPE}",
        "Connection: close",
    ]
    if post:
        lines += [f"Content-Type: {_TYPE}", f"Content-Length: {len(question)}"]
    return "\r\n".join(lines).encode("ascii", "replace") + b"\r\n\r\n" + (question if post else b"")


def parse_reply(question: dns.message.Message, data: bytes) -> DnsAnswer | None:
    """The answer in an HTTP reply; None for a reply that holds none. Only a 2xx brings one (RFC 8484 4.2.1)."""
    reply = http1.parse(data)
    if reply is None or not 200 <= reply.status < 300:
        return None
    return parse(question, reply.body)

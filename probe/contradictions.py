"""Whether a record can be what happened to its check at all: facts that exclude each other, or are none of the check's.

The inside is not trusted. A consistent liar cannot be told from an honest agent; an inconsistent one is told here.
"""

import math
import re
from ipaddress import ip_address, ip_network

from probe.documents import Attempt, Check, Record
from probe.errors import one_line
from probe.model import Query, Transport, Via

_LONGEST_RUN = 1e6  # seconds

# What each technique may do, and over which transport. A record that does anything else is no record of it.
_TCP_STEPS = {"resolve": "udp", "connect": "tcp", "talk": "tcp", "walk": "tcp", "twin": "udp"}
_SECURE_DNS_STEPS = {"connect": "tcp", "query": "tcp"}
_STEPS: dict[str, dict[str, str]] = {
    "tcp_connect": _TCP_STEPS,
    "http_get": _TCP_STEPS,
    "tls_hello": _TCP_STEPS,
    "udp_datagram": {"resolve": "udp", "send": "udp", "walk": "udp"},
    "dns_query": {"query": "any"},
    "dns_over_tls": _SECURE_DNS_STEPS,
    "dns_over_https": _SECURE_DNS_STEPS,
    "udp_unconnected": {"resolve": "udp", "send": "udp", "walk": "udp", "twin": "udp"},
    "tcp_fastopen": _TCP_STEPS,
    "mptcp_connect": _TCP_STEPS,
    "source_port": _TCP_STEPS,
    "icmp_echo": {"resolve": "udp", "send": "icmp", "walk": "icmp"},
    "raw_syn": {"resolve": "udp", "raw": "tcp"},
    "proxy_connect": {"resolve": "udp", "connect": "tcp", "talk": "tcp"},
}
_RESULTS: dict[str, tuple[str, ...]] = {
    "listen": ("error",),
    "resolve": ("answered", "silent", "error"),
    "connect": ("connected", "silent", "error"),
    "walk": ("connected", "answered", "silent", "error"),
    "talk": ("answered", "silent", "error"),
    "send": ("answered", "silent", "error"),
    "query": ("answered", "connected", "silent", "error"),
    "twin": ("answered", "silent", "error"),
    "raw": ("answered", "silent", "error"),
}
# Techniques that may say that they cannot run: they need more than a plain socket (a capability, a kernel's feature, a
# proxy that is configured).
_MAY_NOT_RUN = frozenset(("tcp_fastopen", "mptcp_connect", "source_port", "icmp_echo", "raw_syn", "proxy_connect"))
# Four addresses, each walked to and talked to, at the start, alone and at the end, need a few hundred.
_MOST_ATTEMPTS = 600
# Longer is no list of what one SYN brought, but an attempt to fill a report.
MOST_RAW = 64
_MOST_LATE = 4
_LONGEST_ERROR = 32  # of an errno's name
_ESTABLISHED = 1  # tcpi_state
_PLACEHOLDER = re.compile(r"\{[a-z]+\}")


def contradicts(check: Check, record: Record) -> str | None:
    """Why `record` cannot be what happened to `check`, or None."""
    if len(record.attempts) > _MOST_ATTEMPTS:
        return "more attempts than one row can need"
    may_not_run = check.technique in _MAY_NOT_RUN or (check.query is not None and check.query.hops is not None)
    if record.not_run is not None and (record.attempts or not may_not_run):
        return "not run, by a technique that always can"
    seen: set[tuple[object, ...]] = set()
    connected: set[tuple[str | None, bool]] = set()
    for attempt in record.attempts:
        problem = _impossible(attempt) or _impossible_signs(attempt) or _impossible_raw(attempt)
        problem = problem or _impossible_late(attempt)
        problem = problem or _not_ours(check, attempt) or _elsewhere(check, attempt)
        # Alone, a destination may be tried more than once.
        when = attempt.t if attempt.again else None
        place = (attempt.step, attempt.address, attempt.hops, attempt.least, attempt.again, when)
        if problem is None and attempt.step in ("connect", "send", "walk", "raw") and place in seen:
            problem = "the same attempt twice"
        if problem is None and _follows(check, attempt) and (attempt.address, attempt.again) not in connected:
            problem = "a conversation without a connection"
        if problem is not None:
            return problem
        seen.add(place)
        if attempt.step == "connect" and attempt.result == "connected":
            connected.add((attempt.address, attempt.again))
    return None


def _follows(check: Check, attempt: Attempt) -> bool:
    """Whether there was a plain connect to the same address before it."""
    return attempt.step == "talk" or (attempt.step == "query" and "connect" in _STEPS[check.technique])


def _impossible(attempt: Attempt) -> str | None:
    """Facts that exclude each other, whatever the technique."""
    answered = attempt.result in ("answered", "connected")
    brought = attempt.data is not None or attempt.dns is not None or bool(attempt.tls and attempt.tls.handshake)
    brought = brought or any(answer.kind == "syn-ack" for answer in attempt.raw)
    addresses = (attempt.address, attempt.source, attempt.icmp.offender if attempt.icmp else None)
    table = (
        (not all(is_time(value) for value in (attempt.t, attempt.elapsed)), "a time that is none"),
        (not all(_is_address(text) for text in addresses), "an address that is none"),
        (answered and bool(attempt.error or attempt.icmp), "answered and failed at once"),
        (attempt.result == "error" and not attempt.error, "failed without an error"),
        (len(attempt.error or "") > _LONGEST_ERROR, "an error that is none"),
        (attempt.result == "error" and brought, "failed and answered at once"),
        (attempt.result == "error" and attempt.stage is None and attempt.step != "listen", "failed nowhere"),
        (attempt.result == "silent" and bool(attempt.error or attempt.icmp or brought), "silent and answered at once"),
        (attempt.result == "answered" and not brought, "answered without an answer"),
        (attempt.data is not None and attempt.data.bytes < 1, "an answer without bytes"),
        (_is_longer_than_heard(attempt), "a receipt that is longer than what was read"),
        (attempt.routed is not None and attempt.error != "EADDRNOTAVAIL", "a route that was not looked up"),
        (attempt.tries < (1 if attempt.result != "error" else 0), "never tried"),
    )
    return next((problem for wrong, problem in table if wrong), None)


def _is_longer_than_heard(attempt: Attempt) -> bool:
    receipt = attempt.data.receipt if attempt.data is not None else None
    return receipt is not None and attempt.data is not None and len(receipt) > attempt.data.bytes


def _impossible_late(attempt: Attempt) -> str | None:
    """Second answers: only to a datagram that was answered, to the same question, and each says something else."""
    if not attempt.late:
        return None
    first = attempt.dns
    if attempt.step != "query" or attempt.transport is not Transport.UDP or first is None:
        return "a second answer without a first"
    if len(attempt.late) > _MOST_LATE:
        return "more second answers than are listened for"
    if any((other.name, other.type) != (first.name, first.type) for other in attempt.late):
        return "a second answer to another question"
    said = [(one.rcode, frozenset(one.records)) for one in (first, *attempt.late)]
    return "a second answer that says the same" if len(set(said)) < len(said) else None


def _impossible_signs(attempt: Attempt) -> str | None:
    """Signs that belong to another step or result, or are out of their range."""
    tcp, counted, ttl = attempt.tcp, attempt.counters, attempt.icmp.ttl if attempt.icmp else None
    limits = (attempt.hops, attempt.least)
    table = (
        (any(limit is not None and not 1 <= limit <= 255 for limit in (*limits, ttl)), "a TTL that is none"),
        (
            (attempt.step == "walk") is not any(limits) and attempt.step not in ("talk", "query"),
            "a limit on hops where none is set",
        ),
        (tcp is not None and min(tcp.timeouts, tcp.resent, tcp.left, tcp.mss or 0) < 0, "a count below zero"),
        (tcp is not None and tcp.rtt is not None and not is_time(tcp.rtt), "a time that is none"),
        (tcp is not None and attempt.result == "silent" and tcp.state == _ESTABLISHED, "silent in a connection"),
        (tcp is not None and tcp.left > tcp.resent, "more left than was sent"),
        (tcp is not None and attempt.transport is not Transport.TCP, "TCP_INFO of another protocol"),
        (counted is not None and min(counted.requests, counted.transmits) < 0, "a counter that ran backwards"),
    )
    return next((problem for wrong, problem in table if wrong), None)


def _impossible_raw(attempt: Attempt) -> str | None:
    """The packets that answered a raw SYN, against what the attempt says of them."""
    if not attempt.raw:
        return None
    kinds = {answer.kind for answer in attempt.raw}
    named = {answer.source for answer in attempt.raw if answer.kind in ("syn-ack", "rst")}
    if attempt.step != "raw" or len(attempt.raw) > MOST_RAW:
        return "packets that answered no raw SYN"
    for answer in attempt.raw:
        if not _is_address(answer.source) or not is_time(answer.delay) or not 0 <= answer.ttl <= 255:
            return "a packet that is none"
        if (answer.kind == "icmp") != (answer.icmp is not None):
            return "an ICMP error that is none"
    if named - {attempt.address}:
        return "an answer of somebody else"
    if (
        attempt.result == "error"
        and (attempt.error == "ECONNREFUSED") is not bool(kinds & {"rst", "syn-ack"})
        and "icmp" not in kinds
    ):
        return "an error that no packet brought"
    if attempt.result == "silent" and kinds != {"other"}:
        return "silent and answered at once"
    return None


def is_time(value: float) -> bool:
    """Whether `value` can be a time within a run."""
    return math.isfinite(value) and 0 <= value <= _LONGEST_RUN


def _is_address(text: str | None) -> bool:
    if text is None:
        return True
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_network(text: str) -> bool:
    """Whether `text` is a CIDR."""
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _not_ours(check: Check, attempt: Attempt) -> str | None:
    """Whether the check's technique does such a thing."""
    if attempt.result not in _RESULTS[attempt.step]:
        return f"a step {attempt.step} that is {attempt.result}"
    if attempt.step == "listen":
        return None if check.self_test is not None else "a listener that was not ordered"
    transport = _STEPS[check.technique].get(attempt.step)
    if check.query is not None and transport == "any":
        transport = check.query.transport.value
    if transport != attempt.transport.value or (attempt.step == "resolve" and check.destination.host is None):
        return f"a step {attempt.step} over {attempt.transport.value}, which {check.technique} does not take here"
    return None


def _elsewhere(check: Check, attempt: Attempt) -> str | None:
    destination = check.destination
    if attempt.step == "resolve":
        return None
    if attempt.step != "listen" and (attempt.port is None) is not (attempt.transport is Transport.ICMP):
        return "an attempt to no port" if attempt.port is None else "a port of ICMP, which has none"
    if destination.via is Via.PROXY:  # the attempts go to the proxy, which only the inside knows
        return None
    if destination.address is not None and attempt.address != destination.address:
        return f"an attempt to {one_line(str(attempt.address))[:60]}, not to {destination.address}"
    if destination.port is not None and attempt.port not in (destination.port, None):
        return f"an attempt to port {attempt.port}, not to {destination.port}"
    return None if check.query is None else _another_question(check.query, attempt)


def _another_question(asked: Query, attempt: Attempt) -> str | None:
    if attempt.step == "query":
        limit = asked.hops if attempt.transport is Transport.UDP else None
        if (attempt.hops, attempt.least) != (limit, None):
            return "a limit on hops where none is set" if limit is None else "a question without its limit on hops"
    if attempt.dns is None:
        return None
    # What stands in for a placeholder only the inside and the key's holder know; what follows the last one is fixed.
    *before, suffix = _PLACEHOLDER.split(asked.name.lower().rstrip("."))
    name = attempt.dns.name.lower().rstrip(".")
    fits = name.endswith(suffix) if before else name == suffix
    return None if fits and attempt.dns.type == asked.type else "an answer to another question"

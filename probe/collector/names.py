"""What the zone answers: DNS messages in, decisions and answers out. Pure: no socket, no clock, no store.

Two steps, so that nothing is acknowledged before it is stored: `read` a message, keep its arrival (`Desk.admit` does),
then `reply`. Every name in the zone exists (an NXDOMAIN for a parent would cut what is below it, RFC 8020).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Literal

import dns.name
import dns.rdatatype

from probe import receipts, tokens
from probe.collector import dnswire
from probe.collector.dnswire import OWNER, Query, record
from probe.documents import Arrival
from probe.errors import UserError

if TYPE_CHECKING:
    from probe.collector.desk import Known

# Seconds for what does not change. What carries a token has TTL 0: an answer from a resolver's cache would be an answer
# without an arrival, and its receipt would be for another question.
_TTL = 60
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?")
_PLAIN = re.compile(rb"[a-z0-9_.-]+")
_A, _NS, _SOA, _AAAA, _IXFR, _AXFR = 1, 2, 6, 28, 251, 252
_SERVER, _ADDRESSES = b"\x03ns1", b"\x02at"
_SERIAL_AND_TIMES = (1).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in (3600, 600, 86_400))

# Of a record in the presentation format that `receipts.records` writes, its data on the wire.
_RDATA: dict[str, Callable[[str], bytes]] = {
    "TXT": lambda text: _string(text.strip('"').encode()),
    "NULL": lambda text: bytes.fromhex(text.split(" ")[2]),
    "A": lambda text: IPv4Address(text).packed,
    "AAAA": lambda text: IPv6Address(text).packed,
    "CNAME": dnswire.name,
    "MX": lambda text: _numbered(text),
    "HTTPS": lambda text: _numbered(text),  # without parameters
    "SVCB": lambda text: _numbered(text),
}
_KINDS: dict[int, str] = {int(dns.rdatatype.from_text(kind)): kind for kind in receipts.TYPES}


@dataclass(frozen=True, slots=True)
class Zone:
    """The delegated zone. `addresses` in wire format, by record type."""

    name: str
    wire: bytes
    addresses: dict[int, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class Question:
    """A DNS message that gets an answer once `Desk.admit` says so."""

    query: Query
    zone: Zone
    source: str
    port: int
    over: Literal["tcp", "udp", "tls", "https"]
    known: "Known | None" = None
    arrival: Arrival | None = None
    forged: bool = False  # something stands in its name that looks like a token and does not verify


def make_zone(name: str, addresses: tuple[str, ...]) -> Zone:
    """The zone of that name, whose own names point to `addresses`. Raises UserError."""
    plain = name.lower().removesuffix(".")
    # 100 characters must be left for what stands before the zone in a probe's names and in a receipt's.
    if len(plain) > 150 or not all(_LABEL.fullmatch(label) and len(label) < 64 for label in plain.split(".")):
        raise UserError(f"--zone {name}: expected a domain name of at most 150 letters, digits, hyphens and dots")
    found: dict[int, tuple[bytes, ...]] = {_A: (), _AAAA: ()}
    for text in addresses:
        try:
            address = ip_address(text)
        except ValueError:
            raise UserError(f"--address {text}: expected an IPv4 or IPv6 address") from None
        kind = _A if address.version == 4 else _AAAA
        found[kind] = (*found[kind], address.packed)
    return Zone(plain, dnswire.name(plain), found)


def read(
    data: bytes,
    zone: Zone,
    recognise: "Callable[[bytes], Known | None]",
    source: str,
    port: int,
    at: int,
    over: Literal["tcp", "udp", "tls", "https"],
    now: float,
) -> Question | None:
    """The question in `data`, with its arrival if a token stands in its name, whatever the zone, class or opcode.

    None: no DNS query, or an answer; nothing is to be said. `at`: the port asked for; `now`: seconds since 1970.
    """
    query = dnswire.parse(data)
    if query is None:
        return None
    known = recognise(query.name)
    if known is None:
        forged = tokens.FORM.search(query.name) is not None
        return Question(query, zone, source, port, over, forged=forged)
    kind = dns.rdatatype.to_text(dns.rdatatype.RdataType.make(query.type))
    arrival = Arrival(known.check, now, "dns", over, source, port, at, kind, _text(query.name))
    return Question(query, zone, source, port, over, known, arrival)


def reply(question: Question) -> bytes:
    """The answer's bytes, at most as many as the asker takes."""
    query = question.query
    most = dnswire.room(query, question.over == "udp")
    if query.problem:
        return dnswire.build(query, query.problem, most, authoritative=False)
    below = _below(query.name, question.zone)
    if below is None or query.rdclass != dnswire.IN or query.type in (_AXFR, _IXFR):
        return dnswire.build(query, dnswire.REFUSED, most, authoritative=False)
    apex = (0xC00C + len(b"".join(below))).to_bytes(2, "big")  # a pointer to the zone's name in the question
    answers = _answers(question, below, apex)
    if answers:
        glue = _glue(question.zone, apex) if query.type == _NS else ()
        return dnswire.build(query, 0, most, answers, additional=glue)
    ttl = 0 if question.known or question.forged else _TTL
    return dnswire.build(query, 0, most, authority=(record(apex, _SOA, ttl, _soa(apex, ttl)),))


def _answers(question: Question, below: list[bytes], apex: bytes) -> tuple[bytes, ...]:
    query, zone, known = question.query, question.zone, question.known
    if query.type in zone.addresses and (below[-1:] == [_ADDRESSES] or below in ([], [_SERVER])):
        return tuple(record(OWNER, query.type, 0 if known else _TTL, data) for data in zone.addresses[query.type])
    if known is not None and (kind := _KINDS.get(query.type)):
        made = receipts.records(kind, known.key, known.token, question.source, question.port, zone.name)
        return tuple(record(OWNER, query.type, 0, _RDATA[kind](text)) for text in made)
    if not below and query.type == _NS:
        return (record(OWNER, _NS, _TTL, _SERVER + apex),)
    if not below and query.type == _SOA:
        return (record(OWNER, _SOA, _TTL, _soa(apex, _TTL)),)
    return ()


def _glue(zone: Zone, apex: bytes) -> tuple[bytes, ...]:
    return tuple(record(_SERVER + apex, kind, _TTL, data) for kind, some in zone.addresses.items() for data in some)


def _soa(apex: bytes, minimum: int) -> bytes:
    # The last field is for how long a "no such record" may be kept, RFC 2308, 4.
    return _SERVER + apex + b"\x0ahostmaster" + apex + _SERIAL_AND_TIMES + minimum.to_bytes(4, "big")


def _below(name: bytes, zone: Zone) -> list[bytes] | None:
    # The labels before the zone's name, each with its length; None for a name outside of the zone.
    if not name.endswith(zone.wire):
        return None
    found, at, end = [], 0, len(name) - len(zone.wire)
    while at < end:
        found.append(name[at : at + 1 + name[at]])
        at += 1 + name[at]
    return found if at == end else None


def _text(name: bytes) -> str:
    labels = dnswire.labels_of(name)
    plain = b".".join(labels)
    if _PLAIN.fullmatch(plain) and plain.count(b".") == len(labels) - 1:
        return plain.decode()
    return dns.name.Name([*labels, b""]).to_text(omit_final_dot=True)


def _string(data: bytes) -> bytes:
    return bytes([len(data)]) + data


def _numbered(text: str) -> bytes:
    number, _, target = text.partition(" ")
    return int(number).to_bytes(2, "big") + dnswire.name(target)

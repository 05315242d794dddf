"""DNS messages as bytes: the question of a query, and an answer made of records. Pure; knows nothing of the zone.

Written out because an authoritative answer needs little of dnspython's generality and the collector must keep up with a
flood; the tests hold every answer against dnspython's own. RFC 1035 (messages), RFC 6891 (EDNS).
"""

import struct
from dataclasses import dataclass

PAYLOAD = 1232  # bytes over UDP that are not fragmented anywhere: https://www.dnsflagday.net/2020/
MOST = 65535
FORMERR, NOTIMP, REFUSED, BADVERS = 1, 4, 5, 16
IN = 1
_OPT = 41
_QR, _AA, _TC, _RD = 0x8000, 0x0400, 0x0200, 0x0100
_OPCODE = 0x7800
_DO = 0x8000  # of an OPT record's TTL
_MOST_RECORDS = 8  # after the question: a query has one OPT, perhaps a signature; more is somebody's game

_HEADER = struct.Struct("!6H")
_TWO = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")  # after the owner: type, class, TTL, length
OWNER = b"\xc0\x0c"  # a pointer to the question's name, RFC 1035, 4.1.4


@dataclass(frozen=True, slots=True)
class Query:
    """A message that asks. `problem`: the response code that it earns by its form alone, 0 for none."""

    id: int
    flags: int
    problem: int = 0
    question: bytes = b""  # name, type and class as they stood, to be echoed; empty where they cannot be
    name: bytes = b""  # in wire format, lower case
    type: int = 0
    rdclass: int = 0
    payload: int | None = None  # what EDNS says that fits; None without EDNS
    wants_dnssec: bool = False


def is_answer(data: bytes) -> bool:
    """Whether `data` would be an answer (its QR bit), if it is a DNS message at all."""
    return len(data) > 2 and data[2] & 0x80 != 0


def parse(data: bytes) -> Query | None:
    """The query in `data`; None where there is no header, or the message is itself an answer (never answer those)."""
    if len(data) < _HEADER.size:
        return None
    number, flags, questions, answers, authority, additional = _HEADER.unpack_from(data)
    if flags & _QR:
        return None
    end = _name_end(data, _HEADER.size)
    if questions != 1 or end is None or end + 4 > len(data):
        return Query(number, flags, NOTIMP if flags & _OPCODE else FORMERR)
    # Lengths are below 64 and letters are not, so that a whole name can be lowered at once.
    name = data[_HEADER.size : end].lower()
    kind, rdclass = _TWO.unpack_from(data, end)
    question = data[_HEADER.size : end + 4]
    if flags & _OPCODE:
        return Query(number, flags, NOTIMP, b"", name, kind, rdclass)  # its sections mean something else: not echoed
    try:
        edns = _edns(data, end + 4, answers + authority, additional)
    except ValueError:
        return Query(number, flags, FORMERR, question, name, kind, rdclass)
    if edns is None:
        return Query(number, flags, 0, question, name, kind, rdclass)
    payload, ttl = edns
    problem = BADVERS if ttl >> 16 & 255 else 0
    return Query(number, flags, problem, question, name, kind, rdclass, payload, bool(ttl & _DO))


def record(owner: bytes, kind: int, ttl: int, data: bytes) -> bytes:
    """One record of class IN. `owner`: a name in wire format, or a pointer."""
    return owner + _RECORD.pack(kind, IN, ttl, len(data)) + data


def name(text: str) -> bytes:
    """A name in wire format, from plain labels between dots. Raises ValueError for one that is too long or empty."""
    labels = [label.encode("ascii") for label in text.removesuffix(".").split(".")]
    if not all(0 < len(label) < 64 for label in labels):
        raise ValueError("a label has 1 to 63 characters")
    made = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    if len(made) > 255:
        raise ValueError("a name has at most 253 characters")
    return made


def labels_of(wire: bytes) -> list[bytes]:
    """The labels of an uncompressed name, without the root's."""
    found, at = [], 0
    while wire[at]:
        found.append(wire[at + 1 : at + 1 + wire[at]])
        at += 1 + wire[at]
    return found


def build(
    query: Query,
    code: int,
    most: int,
    answers: tuple[bytes, ...] = (),
    authority: tuple[bytes, ...] = (),
    additional: tuple[bytes, ...] = (),
    authoritative: bool = True,
) -> bytes:
    """The answer. Over `most` bytes, what is additional goes first; then all goes, and TC says so."""
    opt = () if query.payload is None else (_opt(code, query.wants_dnssec),)
    flags = _QR | query.flags & (_OPCODE | _RD) | (_AA if authoritative else 0) | code & 15
    for sections in ((answers, authority, additional), (answers, authority, ())):
        body = b"".join((query.question, *sections[0], *sections[1], *sections[2], *opt))
        if _HEADER.size + len(body) <= most:
            counts = len(sections[0]), len(sections[1]), len(sections[2]) + len(opt)
            return _HEADER.pack(query.id, flags, 1 if query.question else 0, *counts) + body
    return _HEADER.pack(query.id, flags | _TC, 1, 0, 0, len(opt)) + b"".join((query.question, *opt))


def room(query: Query, over_udp: bool) -> int:
    """How many bytes an answer may have: over UDP 512 without EDNS, else what both sides take (RFC 6891, 6.2.5)."""
    if not over_udp:
        return MOST
    return 512 if query.payload is None else min(max(query.payload, 512), PAYLOAD)


def _opt(code: int, wants_dnssec: bool) -> bytes:
    # The TTL's first byte is the upper part of the code; the DO bit is copied (RFC 3225, 3).
    return b"\0" + _RECORD.pack(_OPT, PAYLOAD, code >> 4 << 24 | (_DO if wants_dnssec else 0), 0)


def _name_end(data: bytes, at: int) -> int | None:
    # Where an uncompressed name ends. Nothing stands before the question that a pointer could honestly lead to.
    start = at
    while at < len(data) and at - start < 255:
        length = data[at]
        if length == 0:
            return at + 1
        if length > 63:
            return None
        at += 1 + length
    return None


def _edns(data: bytes, at: int, others: int, additional: int) -> tuple[int, int] | None:
    # Payload and TTL of the OPT record. ValueError for records that do not end with the message, and for an OPT record
    # that is not at the root, not alone or not among what is additional (RFC 6891, 6.1.1).
    if others + additional > _MOST_RECORDS:
        raise ValueError
    found = None
    for index in range(others + additional):
        start, at = at, _skip_name(data, at)
        if at + _RECORD.size > len(data):
            raise ValueError
        kind, payload, ttl, length = _RECORD.unpack_from(data, at)
        if kind == _OPT:
            if found or at - start != 1 or index < others:
                raise ValueError
            found = payload, ttl
        at += _RECORD.size + length
    if at != len(data):
        raise ValueError
    return found


def _skip_name(data: bytes, at: int) -> int:
    # A pointer ends a name, and is not followed: only the question's name is of interest.
    while at < len(data):
        length = data[at]
        if length == 0:
            return at + 1
        if length >= 0xC0:
            return at + 2
        if length > 63:
            raise ValueError
        at += 1 + length
    raise ValueError

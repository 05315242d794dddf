"""What the zone answers, held against dnspython: every answer parses, and equals what a plain build of it gives."""

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import receipts, tokens
from probe.collector import dnswire, names
from probe.collector.desk import Known
from probe.documents import Arrival
from probe.errors import UserError

RUN = tokens.new_run_id(1_790_000_000_000, b"0123456789")
KEY = b"k" * 32
TOKEN = tokens.token(RUN, 7, KEY)
KNOWN = Known(RUN, 7, TOKEN, KEY)
FORGED = TOKEN[:-1] + ("a" if TOKEN[-1] != "a" else "b")
FOUR, SIX = ("203.0.113.53", "203.0.113.54"), ("2001:db8:53::53",)
ZONE = names.make_zone("Exfil.example.", (*FOUR, *SIX))
SOURCE, PORT = "203.0.113.7", 40312


def recognise(data: bytes) -> Known | None:
    return KNOWN if TOKEN.encode() in data.lower() else None


def read(data: bytes, over: str = "udp", zone: names.Zone = ZONE) -> names.Question | None:
    return names.read(data, zone, recognise, SOURCE, PORT, 53, over, 100.0)


def ask(query: dns.message.Message, over: str = "udp", zone: names.Zone = ZONE) -> dns.message.Message:
    question = read(query.to_wire(), over, zone)
    assert question is not None
    wire = names.reply(question)
    assert len(wire) <= dnswire.room(question.query, over == "udp")
    answer = dns.message.from_wire(wire, one_rr_per_rrset=False)
    assert query.is_response(answer) or answer.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP)
    assert [str(q) for q in answer.question] == [str(q) for q in query.question]  # the spelling is echoed (0x20)
    return answer


def rrset(name: str, ttl: int, kind: str, *records: str) -> dns.rrset.RRset:
    return dns.rrset.from_text(name, ttl, "IN", kind, *records)


def soa(ttl: int) -> dns.rrset.RRset:
    return rrset("exfil.example.", ttl, "SOA", f"ns1.exfil.example. hostmaster.exfil.example. 1 3600 600 86400 {ttl}")


def plain(query: dns.message.Message, answers=(), authority=(), additional=(), aa=True, rcode=0) -> dns.message.Message:
    """The same answer as dnspython builds it."""
    made = dns.message.make_response(query, our_payload=1232)
    made.flags |= dns.flags.AA if aa else 0
    made.set_rcode(rcode)
    made.ednsflags |= query.ednsflags & dns.flags.DO  # RFC 3225, 3: dnspython leaves it out
    made.answer, made.authority, made.additional = list(answers), list(authority), list(additional)
    return dns.message.from_wire(made.to_wire())


def same(ours: dns.message.Message, theirs: dns.message.Message) -> None:
    assert ours == theirs  # sections, flags, id, and what EDNS adds to them
    assert (ours.edns, ours.ednsflags, ours.payload) == (theirs.edns, theirs.ednsflags, theirs.payload)
    for mine, its in zip(ours.sections, theirs.sections, strict=True):
        assert {(str(rr.name).lower(), rr.rdtype, rr.ttl) for rr in mine} == {
            (str(rr.name).lower(), rr.rdtype, rr.ttl) for rr in its
        }


@pytest.mark.parametrize("edns", [None, 0])
@pytest.mark.parametrize(
    "name", [f"{TOKEN}.exfil.example", f"{TOKEN.upper()}.Permitted.eXfil.example", f"x.{TOKEN}.y.exfil.example"]
)
@pytest.mark.parametrize("kind", receipts.TYPES)
def test_a_token_is_answered_with_its_receipt(kind: str, name: str, edns: int | None) -> None:
    query = dns.message.make_query(name, kind, use_edns=edns, want_dnssec=edns is not None)
    answer = ask(query)
    records = receipts.records(kind, KEY, TOKEN, SOURCE, PORT, "exfil.example")
    same(answer, plain(query, [rrset(f"{name}.", 0, kind, *records)]))
    seen = [(SOURCE, PORT)]
    assert receipts.are_valid(kind, [rr.to_text() for rr in answer.answer[0]], KEY, TOKEN, seen, "exfil.example")
    assert not receipts.are_valid(
        kind, [rr.to_text() for rr in answer.answer[0]], b"x" * 32, TOKEN, seen, "exfil.example"
    )


def test_the_arrival() -> None:
    query = dns.message.make_query(f"{TOKEN.upper()}.Exfil.example", "TYPE1234")
    question = read(query.to_wire(), "tls")
    assert question is not None
    assert question.known == KNOWN
    assert question.arrival == Arrival(7, 100.0, "dns", "tls", SOURCE, PORT, 53, "TYPE1234", f"{TOKEN}.exfil.example")
    odd = dns.name.Name([b'a.b\0"\xff', TOKEN.encode(), b"exfil", b"example", b""])
    question = read(dns.message.make_query(odd, "A").to_wire())
    assert question is not None
    assert question.arrival is not None
    assert dns.name.from_text(question.arrival.name or "") == odd


ADDRESSES = {"A": FOUR, "AAAA": SIX}


@pytest.mark.parametrize("kind", ADDRESSES)
@pytest.mark.parametrize(
    "name", ["exfil.example", "ns1.exfil.example", "at.exfil.example", "AT.exfil.Example", "a.b.at.exfil.example"]
)
def test_the_zones_own_addresses(name: str, kind: str) -> None:
    query = dns.message.make_query(name, kind)
    same(ask(query), plain(query, [rrset(f"{name}.", 60, kind, *ADDRESSES[kind])]))


def test_a_token_under_at_leads_to_the_addresses_and_is_never_cached() -> None:
    query = dns.message.make_query(f"{TOKEN}.at.exfil.example", "A")
    same(ask(query), plain(query, [rrset(f"{TOKEN}.at.exfil.example.", 0, "A", *FOUR)]))
    query = dns.message.make_query(f"{TOKEN}.at.exfil.example", "TXT")
    assert ask(query).answer[0].ttl == 0


def test_the_apex() -> None:
    query = dns.message.make_query("exfil.example", "SOA")
    same(ask(query), plain(query, [soa(60)]))
    query = dns.message.make_query("exfil.example", "NS", use_edns=0)
    glue = [rrset("ns1.exfil.example.", 60, kind, *some) for kind, some in ADDRESSES.items()]
    same(ask(query), plain(query, [rrset("exfil.example.", 60, "NS", "ns1.exfil.example.")], additional=glue))


NO_DATA = [
    ("exfil.example", "TXT", 60),
    ("exfil.example", "ANY", 60),
    ("ns1.exfil.example", "TXT", 60),
    ("permitted.exfil.example", "A", 60),  # QNAME minimisation asks for parents
    ("permitted.exfil.example", "NS", 60),
    ("whatever.exfil.example", "A", 60),
    ("notat.exfil.example", "A", 60),
    ("at.x.exfil.example", "A", 60),
    (r"x\.at.exfil.example", "A", 60),  # one label with a dot in it
    ("made.r.exfil.example", "A", 60),  # where receipts point to
    (f"{TOKEN}.exfil.example", "SRV", 0),
    (f"{TOKEN}.exfil.example", "ANY", 0),
    (f"{FORGED}.exfil.example", "TXT", 0),
    (f"{FORGED}.exfil.example", "A", 0),
]


@pytest.mark.parametrize(("name", "kind", "ttl"), NO_DATA)
def test_every_name_exists_and_what_it_has_not_is_no_data(name: str, kind: str, ttl: int) -> None:
    query = dns.message.make_query(name, kind)
    same(ask(query), plain(query, authority=[soa(ttl)]))


def test_a_zone_without_ipv6_has_no_such_record() -> None:
    query = dns.message.make_query("at.exfil.example", "AAAA")
    answer = ask(query, zone=names.make_zone("exfil.example", FOUR))
    same(answer, plain(query, authority=[soa(60)]))


REFUSED = [
    ("example.com", "A", "IN"),
    ("example", "A", "IN"),
    (".", "NS", "IN"),
    ("notexfil.example", "A", "IN"),
    (r"x\.exfil.example", "A", "IN"),  # the label is `x.exfil`
    ("exfil.example.com", "A", "IN"),
    ("version.bind", "TXT", "CH"),
    ("id.server", "TXT", "CH"),
    ("exfil.example", "SOA", "CH"),
    ("exfil.example", "A", "ANY"),
    ("exfil.example", "AXFR", "IN"),
    ("exfil.example", "IXFR", "IN"),
    (f"{TOKEN}.example.com", "TXT", "IN"),
    (f"{TOKEN}.exfil.example", "TXT", "CH"),
]


@pytest.mark.parametrize(("name", "kind", "rdclass"), REFUSED)
def test_what_is_refused(name: str, kind: str, rdclass: str) -> None:
    query = dns.message.make_query(name, kind, rdclass)
    same(ask(query), plain(query, aa=False, rcode=dns.rcode.REFUSED))


def changed(**changes: int) -> bytes:
    """A query for a token, with header fields overwritten."""
    query = dns.message.make_query(f"{TOKEN}.exfil.example", "TXT", use_edns=0, id=0x1234)
    wire = bytearray(query.to_wire())
    for field, value in changes.items():
        at = {"flags": 2, "questions": 4, "answers": 6, "authority": 8, "additional": 10}[field]
        wire[at : at + 2] = value.to_bytes(2, "big")
    return bytes(wire)


WHOLE = changed()
OPT = WHOLE[-11:]


@pytest.mark.parametrize(
    ("data", "rcode", "arrived"),
    [
        (changed(flags=0x2000), dns.rcode.NOTIMP, True),  # NOTIFY
        (changed(flags=0x2800), dns.rcode.NOTIMP, True),  # UPDATE
        (changed(flags=0x7800), dns.rcode.NOTIMP, True),
        (changed(flags=0x2000, questions=0), dns.rcode.NOTIMP, False),
        (changed(questions=0), dns.rcode.FORMERR, False),
        (changed(questions=2), dns.rcode.FORMERR, False),
        (changed(additional=0), dns.rcode.FORMERR, True),  # bytes after the end
        (changed(additional=2), dns.rcode.FORMERR, True),
        (changed(additional=65535), dns.rcode.FORMERR, True),
        (changed(answers=1, additional=0), dns.rcode.FORMERR, True),  # OPT is no answer
        (changed(additional=2) + OPT, dns.rcode.FORMERR, True),  # two of them
        (WHOLE[:-11] + b"\x01x" + OPT, dns.rcode.FORMERR, True),  # not at the root
        (WHOLE[:-1], dns.rcode.FORMERR, True),
        (WHOLE + b"\0", dns.rcode.FORMERR, True),
        (WHOLE[:12], dns.rcode.FORMERR, False),
        (WHOLE[:40], dns.rcode.FORMERR, False),
        (WHOLE[:12] + b"\xc0\x0c" + WHOLE[-15:], dns.rcode.FORMERR, False),  # a name that points to itself
        (WHOLE[:12] + b"\x40" + WHOLE[13:], dns.rcode.FORMERR, False),
        (WHOLE[:12] + b"\x01a" * 127 + WHOLE[12:], dns.rcode.FORMERR, False),  # a name of more than 255 bytes
        (WHOLE[:-11] + b"\x40" + OPT, dns.rcode.FORMERR, True),  # RFC 2673's labels, which nobody speaks (RFC 6891, 5)
        (WHOLE[:-6] + b"\x00\x01" + WHOLE[-4:], dns.rcode.BADVERS, True),
    ],
)  # fmt: skip
def test_odd_messages(data: bytes, rcode: int, arrived: bool) -> None:
    question = read(data)
    assert question is not None
    assert (question.known is not None) is arrived
    answer = dns.message.from_wire(names.reply(question))
    assert answer.rcode() == rcode
    assert answer.id == int.from_bytes(data[:2], "big")
    assert answer.flags & dns.flags.QR
    assert not answer.answer


@pytest.mark.parametrize(
    "data", [b"", WHOLE[:11], changed(flags=0x8000), changed(flags=0x8180), names.reply(read(WHOLE))]
)
def test_what_is_never_answered(data: bytes) -> None:
    assert read(data) is None


def test_edns() -> None:
    query = dns.message.make_query(
        "exfil.example", "A", use_edns=0, payload=4096, options=[dns.edns.GenericOption(10, b"12345678")]
    )
    answer = ask(query)
    assert (answer.edns, answer.payload, answer.options) == (0, 1232, ())
    assert ask(dns.message.make_query("exfil.example", "A")).edns == -1


def test_a_signature_beside_the_question_is_passed_over() -> None:
    """Its owner may be written as a pointer; what it signs is not looked at."""
    signed = changed(additional=2) + b"\xc0\x0c" + b"\x00\xfa\x00\xff\x00\x00\x00\x00\x00\x03abc"
    question = read(signed)
    assert question is not None
    assert (question.query.problem, question.known) == (0, KNOWN)


@pytest.mark.parametrize("text", ["", "a..b", "a" * 64, "ab." * 90])
def test_names_that_cannot_be_written(text: str) -> None:
    with pytest.raises(ValueError, match="characters"):
        dnswire.name(text)


LARGE = names.make_zone("exfil.example", tuple(f"2001:db8::{n}" for n in range(1, 60)))


@pytest.mark.parametrize(
    ("payload", "over", "whole"),
    [
        (None, "udp", False),
        (100, "udp", False),
        (1232, "udp", False),
        (65535, "udp", False),
        (None, "tcp", True),
        (None, "tls", True),
        (512, "https", True),
    ],
)
def test_what_does_not_fit_is_truncated_over_udp_only(payload: int | None, over: str, whole: bool) -> None:
    query = dns.message.make_query(
        "at.exfil.example", "AAAA", use_edns=None if payload is None else 0, payload=payload or 0
    )
    answer = ask(query, over, LARGE)
    assert bool(answer.flags & dns.flags.TC) is not whole
    assert sum(len(found) for found in answer.answer) == (59 if whole else 0)


def test_glue_that_does_not_fit_is_left_out_without_a_word() -> None:
    answer = ask(dns.message.make_query("exfil.example", "NS"), "udp", LARGE)
    assert not answer.flags & dns.flags.TC
    assert len(answer.answer) == 1
    assert answer.additional == []


def test_the_longest_names() -> None:
    zone = names.make_zone(f"{'z' * 63}.{'y' * 63}.example", FOUR)
    before = "a." * ((253 - len(zone.name) - len(TOKEN) - 2) // 2)
    query = dns.message.make_query(f"{before}{TOKEN}.{zone.name}", "MX", use_edns=0)
    records = receipts.records("MX", KEY, TOKEN, SOURCE, PORT, zone.name)
    same(ask(query, zone=zone), plain(query, [rrset(f"{before}{TOKEN}.{zone.name}.", 0, "MX", *records)]))
    query = dns.message.make_query("a." * 120 + "exfil.example", "A")  # the zone's name stands behind byte 255
    same(ask(query), plain(query, authority=[soa(60)]))


@pytest.mark.parametrize(
    ("name", "addresses", "said"),
    [
        ("", (), "--zone : expected a domain name"),
        ("a..b", (), "--zone a..b"),
        ("-a.example", (), "--zone -a.example"),
        ("a" * 64, (), "--zone"),
        ("ab." * 51, (), "--zone"),
        ("exfil example", (), "--zone"),
        ("exfil.example", ("203.0.113.256",), "--address 203.0.113.256: expected an IPv4 or IPv6 address"),
        ("exfil.example", ("localhost",), "--address localhost"),
    ],
)  # fmt: skip
def test_zones_that_are_refused(name: str, addresses: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        names.make_zone(name, addresses)


# --- hostile bytes ----------------------------------------------------------------------------------------------------

LABELS = st.lists(st.binary(min_size=1, max_size=63), max_size=8)
ENDS = st.sampled_from(
    [(b"exfil", b"example"), (TOKEN.encode(), b"exfil", b"example"), (TOKEN.upper().encode(), b"com"), ()]
)
HEADERS = st.tuples(*[st.integers(0, 65535) | st.integers(0, 3)] * 6).map(
    lambda some: b"".join(n.to_bytes(2, "big") for n in some)
)


def checked(data: bytes, over: str) -> None:
    """It never raises, and what it answers parses, is no larger than asked for, and is never answered itself."""
    question = read(data, over)
    if question is None:
        assert len(data) < 12 or data[2] & 0x80
        return
    wire = names.reply(question)
    assert len(wire) <= dnswire.room(question.query, over == "udp")
    assert dns.message.from_wire(wire).id == int.from_bytes(data[:2], "big")
    assert read(wire, over) is None


@given(data=st.binary(max_size=600), over=st.sampled_from(["udp", "tcp"]))
def test_any_bytes(data: bytes, over: str) -> None:
    checked(data, over)


@given(header=HEADERS, labels=LABELS, end=ENDS, rest=st.binary(max_size=60), over=st.sampled_from(["udp", "tcp"]))
def test_any_header_and_name(
    header: bytes, labels: list[bytes], end: tuple[bytes, ...], rest: bytes, over: str
) -> None:
    wire = b"".join(bytes([len(label)]) + label for label in [*labels, *end]) + b"\0"
    checked(header + wire + rest, over)
    checked(b"\0\1\0\0\0\1\0\0\0\0\0\0" + wire + rest, over)


@given(at=st.integers(0, len(WHOLE) - 1), value=st.integers(0, 255))
def test_one_byte_changed(at: int, value: int) -> None:
    checked(WHOLE[:at] + bytes([value]) + WHOLE[at + 1 :], "udp")


@given(labels=LABELS, end=ENDS, kind=st.integers(0, 65535), rdclass=st.integers(0, 65535), edns=st.booleans())
def test_every_well_formed_query_is_read_as_dnspython_reads_it(
    labels: list[bytes], end: tuple[bytes, ...], kind: int, rdclass: int, edns: bool
) -> None:
    try:
        name = dns.name.Name([*labels, *end, b""])
    except dns.exception.DNSException:
        return
    query = dns.message.make_query(name, kind, rdclass, use_edns=0 if edns else None)
    question = read(query.to_wire())
    assert question is not None
    assert question.query.problem == 0
    found = dns.name.Name([*dnswire.labels_of(question.query.name), b""])
    assert (found, question.query.type, question.query.rdclass) == (name, kind, rdclass)
    assert (question.known is not None) == (TOKEN.encode() in name.to_wire().lower())
    if question.arrival is not None:
        assert dns.name.from_text(question.arrival.name or "") == name

"""HTTP as bytes: requests in pieces, DNS questions in them, answers, and whatever else."""

import base64

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.collector import sniff, web
from probe.collector.web import Reading, Request

WIRE = bytes(range(20))
DNS = "application/dns-message"


def encoded(data: bytes = WIRE) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def read(data: bytes, piece: int = 1000) -> Reading:
    reading = Reading()
    for at in range(0, len(data), piece):
        reading.feed(data[at : at + piece])
    return reading


@pytest.mark.parametrize("piece", [1, 1000])
def test_a_request_is_read_in_whatever_pieces(piece: int) -> None:
    data = b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Type: Text/Plain; charset=x\r\nauthorization: Bearer y\r\n"
    reading = read(data + b"Content-Length: 3\r\n\r\nabc", piece)
    assert reading.request == Request("POST", "/a?b", "text/plain", "Bearer y")
    assert (bytes(reading.body), reading.done, reading.broken) == (b"abc", True, False)


@pytest.mark.parametrize(
    "data", [b"GET\r\n\r\n", b"\0", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5000]
)
def test_what_is_no_request_is_done_and_broken(data: bytes) -> None:
    reading = read(data)
    assert reading.done
    assert reading.broken
    reading.feed(b"more")


def test_an_end_ends_it() -> None:
    reading = read(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab")
    assert not reading.done
    reading.feed(b"")
    assert reading.done
    empty = Reading()
    empty.feed(b"")
    assert empty.done
    assert empty.request is None


@pytest.mark.parametrize(
    ("request_", "body", "found"),
    [
        (Request("GET", f"/dns-query?dns={encoded()}"), b"", WIRE),
        (Request("GET", f"/dns-query?a=b&dns={encoded()}"), b"", WIRE),
        (Request("GET", f"https://c.example/dns-query?dns={encoded()}"), b"", WIRE),
        (Request("POST", "/dns-query", DNS), WIRE, WIRE),
        (Request("POST", "/dns-query", "text/plain"), WIRE, None),
        (Request("POST", "/dns-query", DNS), b"short", None),
        (Request("POST", "/dns-query", DNS), bytes(5000), None),
        (Request("GET", "/dns-query"), b"", None),
        (Request("GET", "/dns-query?dns=AAAA"), b"", None),
        (Request("GET", f"/dns-query?dns={encoded()}="), b"", None),
        (Request("GET", f"/dns-query?dns={encoded() + 'AA'}"), b"", None),
        (Request("GET", f"/dns-query?dns={'A' * 9000}"), b"", None),
        (Request("PUT", f"/dns-query?dns={encoded()}"), b"", None),
        (Request("GET", f"/other?dns={encoded()}"), b"", None),
    ],
)
def test_dns_questions_in_requests(request_: Request, body: bytes, found: bytes | None) -> None:
    assert web.dns_question(request_, body) == found


def test_an_answer_is_http() -> None:
    for data, body in (
        (web.answer(200, b"abc", "text/plain", "X: y"), b"abc"),
        (web.answer(404), b""),
        (web.chunked("text/plain") + web.chunk(b"ab") + web.chunk(b"c") + web.chunk(b""), b"abc"),
    ):
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        found, event = b"", client.next_event()
        assert isinstance(event, h11.Response)
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data)
            found += event.data
        assert found == body


@given(
    st.binary(max_size=200) | st.builds(lambda data: b"GET " + data, st.binary(max_size=200)), st.binary(max_size=50)
)
def test_no_bytes_are_too_odd(data: bytes, body: bytes) -> None:
    reading = read(data, 7)
    reading.feed(b"")
    assert reading.done
    if reading.request is not None:
        web.dns_question(reading.request, body)


@given(st.text(max_size=40), st.binary(max_size=40), st.sampled_from(["GET", "POST"]))
def test_no_target_is_too_odd(text: str, body: bytes, method: str) -> None:
    web.dns_question(Request(method, f"/dns-query?dns={text}", DNS), body)


QUERY = b"\0\x1d" + b"\x12\x34\1\0\0\1" + bytes(20)


@pytest.mark.parametrize(
    ("data", "dns", "spoken"),
    [
        (b"", False, None),
        (b"\x16", True, None),
        (b"\x16\x03", True, "tls"),
        (b"\x16\x02", False, "raw"),
        (b"G", True, None),
        (b"GET", False, None),
        (b"GET /", True, "http"),
        (b"GETX", False, "raw"),
        (b"OPTIONS", False, None),
        (b"OPTIONS *", False, "http"),
        (b"BREW / HTCPCP/1.0", False, "raw"),
        (b"0123456", True, None),
        (b"01234567", True, "raw"),
        (b"0123456", False, "raw"),
        (QUERY, True, "dns"),
        (QUERY[:7], True, None),
        (QUERY, False, "raw"),
        (QUERY[:4] + b"\x81" + QUERY[5:], True, "raw"),  # an answer
        (QUERY[:7] + b"\2" + QUERY[8:], True, "raw"),  # two questions: nobody asks like that
    ],
)
def test_first_bytes_tell_the_protocol(data: bytes, dns: bool, spoken: str | None) -> None:
    assert sniff.sniff(data, dns) == spoken


@given(st.binary(max_size=20), st.booleans())
def test_what_was_told_stays_told(data: bytes, dns: bool) -> None:
    spoken = sniff.sniff(data, dns)
    assert spoken is None or sniff.sniff(data + b"more", dns) == spoken

"""TLS hellos: of real clients, spread over records, cut short, and of whatever bytes."""

import ssl
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.collector import hello
from probe.collector.hello import Hello


def real(name: str | None, *protocols: str) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def spread(data: bytes, size: int) -> bytes:
    """The same message over records of `size` bytes."""
    body = data[5:]
    return b"".join(
        struct.pack(">BHH", 22, 0x0301, len(body[at : at + size])) + body[at : at + size]
        for at in range(0, len(body), size)
    )


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (real("a.example"), Hello("a.example")),
        (real("a.example", "http/1.1", "dot"), Hello("a.example", (b"http/1.1", b"dot"))),
        (real(None), Hello()),
        (spread(real("a.example"), 100), Hello("a.example")),
        (real("a.example") + b"what follows", Hello("a.example")),
        (real("a.example").replace(b"a.example", b"a.exam\nle"), Hello()),
        (spread(real("a.example"), 3), None),
        (b"", None),
        (b"GET / HTTP/1.1", None),
        (b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", None),
        (b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", None),
        (b"\x16\x03\x01\x00\x00" * 5, None),
        (b"\x16\x03\x01\x00\x04\x01\xff\xff\xff", None),
    ],
)
def test_what_a_hello_says(data: bytes, found: Hello | None) -> None:
    assert hello.parse(data) == found


def test_a_hello_without_extensions() -> None:
    body = bytes(34) + b"\0" + b"\0\2\x13\x01" + b"\1\0"
    message = b"\1" + len(body).to_bytes(3, "big") + body
    assert hello.parse(b"\x16\x03\1" + len(message).to_bytes(2, "big") + message) == Hello()


@pytest.mark.parametrize("size", [1500, 100])
def test_what_is_missing_is_told_until_it_is_whole(size: int) -> None:
    data = spread(real("a.example"), size)
    have = 0
    while lacking := hello.missing(data[:have]):
        assert hello.parse(data[:have]) is None
        have += lacking
    assert have == len(data)


@given(
    st.binary(max_size=300) | st.builds(lambda data: b"\x16\x03\x01" + len(data).to_bytes(2, "big") + data, st.binary())
)
def test_no_bytes_are_too_odd(data: bytes) -> None:
    lacking, found = hello.missing(data), hello.parse(data)
    assert lacking >= 0
    assert not (lacking and found)


@given(st.data())
def test_nor_is_a_damaged_hello(data: st.DataObject) -> None:
    whole = bytearray(_REAL)
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=5)):
        whole[place] = data.draw(st.integers(0, 255))
    hello.missing(bytes(whole))
    hello.parse(bytes(whole))


_REAL = real("a.example", "http/1.1")

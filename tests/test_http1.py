"""HTTP/1.1 answers, whole and in part, as RFC 9112 6.3 tells their length."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.http1 import parse

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("data", "body", "whole"),
    [
        (OK + b"\r\n", b"", False),  # it ends with the connection
        (OK + b"\r\nabc", b"abc", False),
        (OK + b"Content-Length: 0\r\n\r\n", b"", True),
        (OK + b"content-length:3\r\n\r\nab", b"ab", False),
        (OK + b"Content-Length: 3\r\n\r\nabcd", b"abc", True),
        (OK + b"Content-Length: -3\r\n\r\nabc", b"abc", False),
        (OK + b"Content-Length: 99999999999999\r\n\r\nabc", b"abc", False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"", False),
        (
            OK + b"Transfer-Encoding: gzip, Chunked\r\nContent-Length: 1\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            b"abc",
            True,
        ),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", b"ab", False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab", b"", False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\nab", b"ab", False),
        (b"HTTP/1.1 204 No Content\r\n\r\nx", b"", True),
        (b"HTTP/1.0 304 x\r\n\r\nx", b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nx", b"", True),
        (b"HTTP/2 403\r\n\r\nx", b"x", False),
    ],
)
def test_bodies(data: bytes, body: bytes, whole: bool) -> None:
    found = parse(data)
    assert found is not None
    assert (found.body, found.whole) == (body, whole)


@pytest.mark.parametrize("data", [b"", OK, b"220 hello\r\n\r\n", b"HTTP/1.1 20\r\n\r\n", b"\r\n\r\n" + OK])
def test_what_is_none_or_not_there_yet(data: bytes) -> None:
    assert parse(data) is None


def test_headers() -> None:
    found = parse(OK + b"Via: a\r\nVIA:b\r\nnonsense\r\nX:\xff\r\n\r\nrest")
    assert found is not None
    assert found.headers == (("via", "a"), ("via", "b"), ("nonsense", ""), ("x", "\xff"))
    assert (found.status, found.header("via"), found.header("y"), found.rest) == (200, "a", "", b"rest")


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    parse(data)
    for head in (b"", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 9\r\n"):
        found = parse(OK + head + b"\r\n" + data)
        assert found is not None
        assert len(found.body) <= len(data)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.integers(0, 10))
def test_chunks_are_put_together(chunks: list[bytes], missing: int) -> None:
    coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    coded = coded[: max(len(coded) - missing, 0)]
    found = parse(OK + b"Transfer-Encoding: chunked\r\n\r\n" + coded)
    assert found is not None
    assert b"".join(chunks).startswith(found.body)
    assert found.whole is (missing <= 2)

"""HTTP/1.1 answers as bytes (RFC 9112): how much of one has come, and its parts. Pure, and total over any bytes."""

import re
from typing import NamedTuple

STATUS = re.compile(rb"HTTP/\d(?:\.\d)? (\d{3})")
HEAD_END = b"\r\n\r\n"
_NUMBER = re.compile(rb"[0-9]{1,10}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")


class Answer(NamedTuple):
    """`body` is what has come of it, decoded; `whole`: there is no more of it. `rest`: what follows the head, as it is.

    A body without a stated length ends with the connection, so it is never whole.
    """

    status: int
    headers: tuple[tuple[str, str], ...]  # names in lower case
    body: bytes
    whole: bool
    rest: bytes

    def header(self, name: str) -> str:
        """The header's first value; empty where there is none."""
        return next((value for known, value in self.headers if known == name), "")


def parse(data: bytes) -> Answer | None:
    """The answer that starts `data`; None until its head is whole, and for what is no HTTP."""
    status = STATUS.match(data)
    head, end, rest = data.partition(HEAD_END)
    if status is None or not end:
        return None
    code = int(status[1])
    headers = tuple(map(_header, head.split(b"\r\n")[1:]))
    answer = Answer(code, headers, rest, False, rest)
    length = answer.header("content-length").encode()
    # RFC 9112 6.3: what comes first here goes before what comes later.
    if code in (204, 304) or code < 200:
        return answer._replace(body=b"", whole=True)
    if "chunked" in answer.header("transfer-encoding").lower():
        body, whole = _unchunked(rest)
        return answer._replace(body=body, whole=whole)
    if _NUMBER.fullmatch(length):
        return answer._replace(body=rest[: int(length)], whole=len(rest) >= int(length))
    return answer


def _header(line: bytes) -> tuple[str, str]:
    name, _, value = line.partition(b":")
    return name.strip().lower().decode("latin-1"), value.strip().decode("latin-1")


def _unchunked(data: bytes) -> tuple[bytes, bool]:
    """RFC 9112 7.1. What follows a size that is none is left out."""
    body, place = bytearray(), 0
    while size := _CHUNK.match(data, place):
        length = int(size[1], 16)
        if length == 0:
            return bytes(body), True
        body += data[size.end() : size.end() + length]
        place = size.end() + length + 2  # the line end after it
    return bytes(body), False

"""What a TLS ClientHello says in the clear: the server name and the protocols. Pure; total over any bytes.

RFC 8446, section 4.1.2 (the message), section 5.1 (records, over which it may be spread); RFC 6066, section 3 (server
name); RFC 7301 (ALPN).
"""

import re
import struct
from dataclasses import dataclass

MOST = 16 * 1024  # bytes of a hello that are looked at
_MOST_RECORDS = 16  # that a hello may be spread over
_RECORD = struct.Struct(">BHH")
_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_ALPN = 16
_NAME = re.compile(rb"[A-Za-z0-9._-]{1,253}")


@dataclass(frozen=True, slots=True)
class Hello:
    """`name` is None where none was said, or one that no host can have."""

    name: str | None = None
    protocols: tuple[bytes, ...] = ()


class _ShortError(Exception):
    """The message ends before a field does."""


class _Fields:
    """Reads fields one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) < count:
            raise _ShortError
        self._at += count
        return found

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """A field that stands behind its own length, of `size` bytes."""
        return self.take(self.number(size))


def looks_like(data: bytes) -> bool:
    """Whether these first bytes begin a TLS handshake record (version 3.x)."""
    return data[:2] == b"\x16\x03"


def missing(data: bytes) -> int:
    """How many bytes, at least, the hello still lacks; 0 when it is whole, or never will be one."""
    return _gather(data)[1]


def parse(data: bytes) -> Hello | None:
    """The hello in the records at the start of `data`; None where there is no whole one."""
    message, lacking = _gather(data)
    if lacking or not message:
        return None
    try:
        return _hello(_Fields(message[4:]))
    except _ShortError:
        return None


def _gather(data: bytes) -> tuple[bytes, int]:
    """The handshake message out of its records, and how many bytes are missing. Nothing and 0: it is no hello."""
    message, at = b"", 0
    for _ in range(_MOST_RECORDS):
        if len(data) - at < _RECORD.size:
            return b"", _RECORD.size - (len(data) - at)
        kind, _, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        message += data[at : at + length]
        at += length
        if kind != _HANDSHAKE or not length or message[:1] not in (b"", bytes((_CLIENT_HELLO,))):
            break
        whole = 4 + int.from_bytes(message[1:4], "big")
        if len(message) >= 4 and whole > MOST:
            break
        if len(message) >= max(4, whole):
            return message[:whole], 0
        if at > len(data):
            return b"", at - len(data)
    return b"", 0


def _hello(fields: _Fields) -> Hello:
    fields.take(2 + 32)  # legacy version, random
    fields.vector(1)  # session
    fields.vector(2)  # cipher suites
    fields.vector(1)  # compression
    if not fields:
        return Hello()
    extensions = _Fields(fields.vector(2))
    name: str | None = None
    protocols: tuple[bytes, ...] = ()
    while extensions:
        kind, value = extensions.number(2), _Fields(extensions.vector(2))
        if kind == _SERVER_NAME and name is None:
            name = _server_name(_Fields(value.vector(2)))
        elif kind == _ALPN:
            protocols = _protocols(_Fields(value.vector(2)))
    return Hello(name, protocols)


def _server_name(names: _Fields) -> str | None:
    while names:
        kind, value = names.number(1), names.vector(2)
        if kind == 0:
            return value.decode() if _NAME.fullmatch(value) else None
    return None


def _protocols(names: _Fields) -> tuple[bytes, ...]:
    found = []
    while names:
        found.append(names.vector(1))
    return tuple(found)

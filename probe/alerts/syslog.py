"""Channel `syslog`: RFC 5424 with structured data, to a local socket, as a datagram (RFC 5426), or over TCP (RFC 6587).

Value: `local` (/dev/log), `/PATH/OF/SOCKET`, `udp://HOST:PORT` or `tcp://HOST:PORT`.
"""

import os
import re
import socket
from urllib.parse import urlsplit

import trio

from probe.alert import Alert
from probe.alerts.base import Channel, socket_errors, socket_path
from probe.alerts.words import APPLICATION, PRIORITY, message, repeated_fields, single_fields
from probe.errors import UserError, one_line

OPTION = "--alert syslog"
LOCAL = "/dev/log"
DEADLINE = 10.0  # seconds
MOST_DATAGRAM = 2048  # bytes that every receiver should take (RFC 5424, 6.1)
MOST_TCP = 8192  # rsyslog's own limit
_ELEMENT = "egress-probe@32473"  # the private enterprise number for documentation, RFC 5612: we have none
_FACILITY = 3  # system daemons
_MOST_SINGLE = 96  # bytes of a field that stands once
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")


def make(value: str, deadline: float = DEADLINE) -> Channel:
    """The channel; `deadline` in seconds. Raises UserError."""
    if value == "local" or value.startswith("/"):
        return _local(value, socket_path(OPTION, value, LOCAL), deadline)
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not port or not _HOST.fullmatch(host) or parts.scheme not in ("udp", "tcp") or value != _bare(value):
        raise UserError(f"{OPTION}: expected local, /PATH/OF/SOCKET, udp://HOST:PORT or tcp://HOST:PORT")

    async def send(alert: Alert) -> None:
        with socket_errors(deadline):
            if parts.scheme == "tcp":
                await _stream(host, port, frame(_formatted(alert, MOST_TCP)))
            else:
                await _datagram(host, port, _formatted(alert, MOST_DATAGRAM))

    return Channel(f"syslog {value}", send)


def _bare(value: str) -> str:
    """Scheme, host and port of `value`: nothing else may stand there."""
    parts = urlsplit(value)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _local(value: str, path: str, deadline: float) -> Channel:
    async def send(alert: Alert) -> None:
        with socket_errors(deadline), trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            await to.connect(path)
            await to.send(_formatted(alert, MOST_DATAGRAM))

    return Channel(f"syslog {one_line(value)}", send)


async def _datagram(host: str, port: int, data: bytes) -> None:
    """That it was sent is all that can be known."""
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    family, kind, protocol, _, address = found[0]
    with trio.socket.socket(family, kind, protocol) as to:
        await to.connect(address)
        await to.send(data)


async def _stream(host: str, port: int, data: bytes) -> None:
    """Syslog over TCP acknowledges nothing: that the receiver read to the end and then closed is the only sign."""
    async with await trio.open_tcp_stream(host, port) as to:
        await to.send_all(data)
        await to.send_eof()
        while await to.receive_some(4096):
            pass


def _formatted(alert: Alert, most: int) -> bytes:
    return format_5424(alert, socket.gethostname(), os.getpid(), most)


def frame(data: bytes) -> bytes:
    """Octet counting (RFC 6587, 3.4.1)."""
    return str(len(data)).encode("ascii") + b" " + data


def format_5424(alert: Alert, host: str, process: int, most: int) -> bytes:
    """One message of at most `most` bytes (1024 or more). Pure, and total over any text in the alert."""
    priority = _FACILITY * 8 + PRIORITY[alert.severity]
    time = alert.time if _TIME.fullmatch(alert.time) else "-"
    name = host if re.fullmatch(r"[\x21-\x7e]{1,255}", host) else "-"
    head = f"<{priority}>1 {time} {name} {APPLICATION} {process} {alert.change.kind} ".encode("ascii")
    start = head + _structured(alert, most // 2) + b" \xef\xbb\xbf"  # the BOM says UTF-8 (6.4)
    return start + _cut(message(alert).encode(), most - len(start))


def _structured(alert: Alert, most: int) -> bytes:
    """The SD-ELEMENT, in at most `most` bytes. What may stand many times is there whole, or counted as left out."""
    data = f"[{_ELEMENT}".encode("ascii")
    for name, value in single_fields(alert):
        data += _parameter(name, _cut_escaped(value, _MOST_SINGLE))
    left_out = 0
    for name, value in repeated_fields(alert):
        whole = _parameter(name, _escaped(value))
        # 24 bytes: what says how many were left out, and the end
        fits = len(data) + len(whole) + 24 <= most
        data += whole if fits else b""
        left_out += not fits
    return data + (_parameter("left_out", str(left_out).encode("ascii")) if left_out else b"") + b"]"


def _parameter(name: str, escaped: bytes) -> bytes:
    return b' %s="%s"' % (name.encode("ascii"), escaped)


def _escaped(value: str) -> bytes:
    r"""A PARAM-VALUE (6.3.3): `"`, `\` and `]` behind a backslash; control characters made visible first."""
    return re.sub(r'(["\\\]])', r"\\\1", one_line(value)).encode()


def _cut_escaped(value: str, most: int) -> bytes:
    """The same in at most `most` bytes, cut between two characters, never after a backslash that escapes."""
    made = b""
    for character in value[:most]:
        part = _escaped(character)
        if len(made) + len(part) > most:
            break
        made += part
    return made


def _cut(data: bytes, most: int) -> bytes:
    """UTF-8 of at most `most` bytes, cut between two characters."""
    return data[:most].decode("utf-8", "ignore").encode() if len(data) > most else data

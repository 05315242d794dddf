"""Channel `journald`: an entry in the journal with fields to search by. Value: `local`, or `/PATH/OF/SOCKET`.

Source: systemd's page "Native Journal Protocol". `journalctl PROBE_TYPE=egress_path_validation` finds our entries.
"""

import socket
import struct
from collections.abc import Iterable

import trio

from probe.alert import Alert
from probe.alerts.base import Channel, socket_errors, socket_path
from probe.alerts.words import APPLICATION, PRIORITY, message, repeated_fields, single_fields
from probe.errors import one_line

OPTION = "--alert journald"
SOCKET = "/run/systemd/journal/socket"
DEADLINE = 10.0  # seconds
# So that an entry is one datagram, and needs no file handed over: a socket takes some 200,000 bytes.
_MOST_VALUE = 400  # characters
_MOST_REPEATED = 64


def make(value: str, deadline: float = DEADLINE) -> Channel:
    """The channel; `deadline` in seconds. Raises UserError."""
    path = socket_path(OPTION, value, SOCKET)

    async def send(alert: Alert) -> None:
        with socket_errors(deadline), trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            await to.connect(path)
            await to.send(serialize(fields(alert)))

    return Channel(f"journald {one_line(value)}", send)


def fields(alert: Alert) -> list[tuple[str, str]]:
    """The entry's fields. Values are as they are, line ends too, so that they can be searched for exactly."""
    repeated = repeated_fields(alert)
    left_out = len(repeated) - _MOST_REPEATED
    return [
        ("MESSAGE", message(alert)),
        ("PRIORITY", str(PRIORITY[alert.severity])),
        ("SYSLOG_IDENTIFIER", APPLICATION),
        *((name.upper(), value[:_MOST_VALUE]) for name, value in (*single_fields(alert), *repeated[:_MOST_REPEATED])),
        *([("LEFT_OUT", str(left_out))] if left_out > 0 else []),
    ]


def serialize(entry: Iterable[tuple[str, str]]) -> bytes:
    """The datagram. A field is `NAME=value`; where the value has a line end, it is the name on a line of its own, the
    value's length (64 bits, little endian) and the value.
    """
    made = b""
    for name, value in entry:
        data = value.encode("utf-8", "backslashreplace")  # a lone surrogate is no UTF-8
        if b"\n" in data:
            made += name.encode("ascii") + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
        else:
            made += name.encode("ascii") + b"=" + data + b"\n"
    return made

"""The nonce step as one conversation that starts before its connection does: what is said first, and what comes back.

TLS and HTTP as in probe.talk; here the first bytes are ready before there is a socket, so that a SYN may carry them.
"""

import functools
import ssl
from collections.abc import Awaitable, Callable

import trio

from probe.documents import Data, Tls
from probe.model import HttpRequest
from probe.talk import TLS_PORTS, hear, http_request, parse_answer, tls_facts, tls_problem
from probe.tls_layer import Layer

# What one conversation starts after its SYN: TLS hello, TLS finished, request.
PACKETS = 3
_MOST = 16 * 1024  # bytes that are read of an answer
_ALERT = 0x15  # TLS record type


class NotYetError(Exception):
    """There is no connection to read from: what was to be said before it is in `ahead`."""


class Wire:
    """What is said before there is a connection is kept in `ahead`; afterwards it carries bytes both ways."""

    def __init__(self) -> None:
        self.sock: trio.socket.SocketType | None = None
        self.ahead = bytearray()
        self.raw = bytearray()

    async def send(self, data: bytes) -> None:
        if self.sock is None:
            self.ahead += data
            return
        while data:
            data = data[await self.sock.send(data) :]

    async def receive(self) -> bytes:
        if self.sock is None:
            raise NotYetError
        part = await self.sock.recv(_MOST)
        self.raw += part
        return part


class Words:
    """The nonce step: HTTP, inside TLS on ports where the client speaks TLS first."""

    def __init__(self, address: str, port: int, host: str | None, token: str) -> None:
        tls = port in TLS_PORTS
        name = host or (f"[{address}]" if ":" in address else address)
        authority = name if port == (443 if tls else 80) else f"{name}:{port}"
        self.token = token
        self.message = http_request(HttpRequest(), token, authority)
        self.wire = Wire()
        self.layer = Layer(self.wire, _context(), host) if tls else None
        self.data: Data | None = None
        self.tls: Tls | None = None

    async def prepare(self) -> None:
        """Put the first bytes into `wire.ahead`."""
        if self.layer is None:
            await self.wire.send(self.message)
            return
        try:
            await self.layer.handshake()
        except NotYetError:
            return

    async def say(self, sock: trio.socket.SocketType, taken: int) -> None:
        """Everything that the SYN did not take along, and what comes back. Raises OSError."""
        self.wire.sock = sock
        await self.wire.send(bytes(self.wire.ahead[taken:]))
        if self.layer is None:
            await self._listen(self.wire.receive, self.wire.raw)
            return
        try:
            await self.layer.handshake()
        except ssl.SSLError as error:
            self.tls = tls_problem(error)
            # A plain server's words count; a TLS alert says only that somebody speaks TLS, a filter perhaps.
            if self.wire.raw and self.wire.raw[0] != _ALERT:
                self.data = parse_answer(bytes(self.wire.raw), self.token, "reply")
            return
        self.tls = tls_facts(self.layer)
        await self.layer.send(self.message)
        await self._listen(self.layer.receive, self.layer.clear)

    async def _listen(self, receive: Callable[[], Awaitable[bytes]], seen: bytearray) -> None:
        try:
            await hear(receive, seen)
        finally:
            if seen:
                self.data = parse_answer(bytes(seen), self.token, "reply")


@functools.cache
def _context() -> ssl.SSLContext:
    """The certificate is evidence to be looked at, not to be trusted: tls_hello verifies."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

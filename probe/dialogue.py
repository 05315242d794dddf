"""A TCP connection that is opened in another way than by a plain connect(), and the conversation over that same socket.

A second, plain connection might meet the very filter that the first one went round. So nothing is listened for first:
the nonce step (TLS hello, HTTP request) is ready before the connection is, and may travel in its SYN.
"""

import errno
import functools
import hashlib
import select
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal

import trio

from probe.documents import Attempt, Data, Tls
from probe.model import HttpRequest
from probe.sockets import (
    event_words,
    has_route,
    icmp_error,
    limit,
    open_socket,
    os_error,
    own_address,
    pending_error,
    rst_on_close,
    sockaddr,
    tcp_info,
    version,
)
from probe.talk import TLS_PORTS, Leave, http_request, parse_answer, printable
from probe.tls_layer import Layer

# What one conversation starts after its SYN: TLS hello, TLS finished, request.
PACKETS = 3
_ANSWER = 2.0  # seconds for a handshake and an answer
_MOST = 16 * 1024  # bytes that are read of an answer
_ALERT = 0x15  # TLS record type


def plain_start(sock: socket.socket, address: str, port: int, ahead: bytes) -> tuple[int, int]:  # noqa: ARG001
    """connect(): its errno, and how many bytes of `ahead` it took along (none)."""
    return sock.connect_ex(sockaddr(address, port)), 0


@dataclass(frozen=True, slots=True)
class Way:
    """How a connection is opened. `create` takes the IP version; both it and `start` may raise OSError."""

    create: Callable[[int], socket.socket]
    start: Callable[[socket.socket, str, int, bytes], tuple[int, int]] = plain_start


PLAIN = Way(lambda family: open_socket(family, socket.SOCK_STREAM))


async def open_and_talk(
    address: str, port: int, host: str | None, token: str, way: Way, total: float, leave: Leave, started: float
) -> list[Attempt]:
    """The attempt to connect and, over the same socket if it was accepted, the conversation.

    `total`: seconds until a connect that is not answered is called silent.
    """
    words = _Words(address, port, host, token)
    await words.prepare()
    async with _Connection(address, port, way, started) as line:
        first = await line.open(bytes(words.wire.ahead), total, leave)
        if first.result != "connected":
            return [first]
        return [first, await line.talk(words, leave)]


async def open_near(address: str, port: int, way: Way, total: float, leave: Leave, started: float) -> Attempt:
    """The same, with a hop limit of one: only the next hop can answer. Nothing is said to it."""
    async with _Connection(address, port, way, started, hops=1) as line:
        return replace(await line.open(b"", total, leave), step="walk")


class _NotYetError(Exception):
    """There is no connection to read from: what was to be said before it is in `ahead`."""


class _Wire:
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
            raise _NotYetError
        part = await self.sock.recv(_MOST)
        self.raw += part
        return part


class _Words:
    """The nonce step: HTTP, inside TLS on ports where the client speaks TLS first."""

    def __init__(self, address: str, port: int, host: str | None, token: str) -> None:
        tls = port in TLS_PORTS
        name = host or (f"[{address}]" if ":" in address else address)
        authority = name if port == (443 if tls else 80) else f"{name}:{port}"
        self.token = token
        self.message = http_request(HttpRequest(), token, authority)
        self.wire = _Wire()
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
        except _NotYetError:
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
            self.tls = Tls(handshake=False, problem=printable((error.reason or str(error)).encode()))
            # A plain server's words count; a TLS alert says only that somebody speaks TLS, a filter perhaps.
            if self.wire.raw and self.wire.raw[0] != _ALERT:
                self.data = parse_answer(bytes(self.wire.raw), self.token, "reply")
            return
        certificate = self.layer.tls.getpeercert(binary_form=True) or b""
        self.tls = Tls(
            handshake=True,
            version=self.layer.tls.version(),
            certificate_sha256=hashlib.sha256(certificate).hexdigest(),
        )
        await self.layer.send(self.message)
        await self._listen(self.layer.receive, self.layer.clear)

    async def _listen(self, receive: Callable[[], Awaitable[bytes]], seen: bytearray) -> None:
        """Read until the answer's head is whole, the end, or enough. What came counts even if the connection breaks."""
        try:
            while len(seen) < _MOST and b"\r\n\r\n" not in seen:
                if not await receive():
                    break
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


class _Connection:
    """One socket: opened, talked over, closed with an RST."""

    def __init__(self, address: str, port: int, way: Way, started: float, hops: int | None = None) -> None:
        self._way = way
        self._started = started
        self._plain: socket.socket | None = None
        self._taken = 0
        self._made = Attempt(0.0, 0.0, "connect", "silent", address=address, port=port, hops=hops)

    async def __aenter__(self) -> "_Connection":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._plain is not None:
            rst_on_close(self._plain)
            self._plain.close()

    async def open(self, ahead: bytes, total: float, leave: Leave) -> Attempt:
        """The attempt. Silence is said only after a last look at the socket."""
        family = version(self._made.address or "")
        budget = await leave(1)
        begin = trio.current_time()
        made = replace(self._made, t=begin - self._started)
        if not budget:
            return replace(made, result="error", stage="socket", error="budget")
        stage: Literal["socket", "connect", "send", "receive"] = "socket"
        try:
            self._plain = plain = self._way.create(family)
            limit(plain, family, made.hops, None)
            # An error of a call that carries bytes is one of sending.
            stage = "connect" if self._way.start is plain_start else "send"
            number, self._taken = self._way.start(plain, made.address or "", made.port or 0, ahead)
            if number == errno.EINPROGRESS:
                stage = "receive"
                number = await _settled(plain, total)
            if number != errno.EINPROGRESS:
                made = replace(made, events=_events(plain)) if stage == "receive" else made
            if number not in (0, errno.EINPROGRESS):
                raise OSError(number, "")  # noqa: TRY301 - one place below turns every errno into evidence
        except OSError as error:
            made = replace(made, result="error", stage=stage, error=os_error(error))
            if self._plain is not None:
                made = replace(made, icmp=icmp_error(self._plain))
            if error.errno == errno.EADDRNOTAVAIL:
                made = replace(made, routed=has_route(made.address or ""))
        else:
            made = replace(made, result="silent" if number else "connected", tcp=tcp_info(plain))
        source = own_address(self._plain) if self._plain is not None else None
        return replace(made, elapsed=trio.current_time() - begin, source=source)

    async def talk(self, words: _Words, leave: Leave) -> Attempt:
        """The conversation, at most two seconds of it."""
        assert self._plain is not None
        budget = await leave(PACKETS)
        begin = trio.current_time()
        made = replace(self._made, t=begin - self._started, step="talk", source=own_address(self._plain))
        if not budget:
            return replace(made, result="error", stage="socket", error="budget")
        failed: OSError | None = None
        # A second file descriptor of the same socket: trio's wrapper may be closed, and ours still says its last word.
        with trio.socket.from_stdlib_socket(self._plain.dup()) as sock, trio.move_on_after(_ANSWER):
            try:
                await words.say(sock, self._taken)
            except OSError as error:
                failed = error
        answered = words.data is not None or (words.tls is not None and words.tls.handshake)
        made = replace(made, elapsed=trio.current_time() - begin, data=words.data, tls=words.tls)
        if answered:
            return replace(made, result="answered")
        if failed is None:
            return made
        return replace(made, result="error", stage="receive", error=os_error(failed), icmp=icmp_error(self._plain))


async def _settled(plain: socket.socket, total: float) -> int:
    """SO_ERROR when the handshake ended, or EINPROGRESS where it did not within `total` seconds."""
    with trio.move_on_after(total):
        await trio.lowlevel.wait_writable(plain)
    return pending_error(plain) if _events(plain) else errno.EINPROGRESS


def _events(plain: socket.socket) -> str | None:
    poll = select.poll()
    poll.register(plain, select.POLLIN | select.POLLOUT)
    return next((event_words(mask) for _, mask in poll.poll(0)), None)

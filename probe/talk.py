"""What follows an accept: a second connection that listens for a banner, then says the nonce and reads what comes.

The bytes are built and parsed by pure functions; only `converse` touches a socket. It records facts: that somebody
spoke, the HTTP status and header names, the certificate. Who that was, is judged outside.
"""

import functools
import hashlib
import math
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal

import trio

from probe import http1, receipts, stream
from probe.documents import Attempt, Data, Tls
from probe.model import HttpRequest
from probe.sockets import limited_socket
from probe.stream import Leave
from probe.timing import BANNER
from probe.tls_layer import Layer

# Ports on which the client speaks TLS first (IANA service names https, imaps, submissions, ldaps, domain-s, https-alt).
TLS_PORTS = frozenset((443, 465, 636, 853, 993, 8443))
# What one conversation starts: SYN, TLS hello, TLS finished, request.
PACKETS = 4
_ANSWER = 2.0  # seconds for a connection, a handshake, an answer
_MOST = 16 * 1024  # bytes that are read of an answer
_EXCERPT = 200
ALERT = 0x15  # TLS record type
_BODY = 0.5  # seconds for a body after its head: a receipt may stand in it
# Seconds for a receipt after a TLS handshake that named the nonce: the far end waits a moment for a request first.
_RECEIPT = 1.0
USER_AGENT = "egress-probe (probe_type=egress_path_validation)"


@dataclass(frozen=True, slots=True)
class Saying:
    """What to say. `listen`: wait for a banner first. `request` None: no HTTP, only the TLS handshake."""

    token: str
    host: str | None
    tls: bool
    request: HttpRequest | None
    listen: bool = True


def nonce_step(token: str, host: str | None, port: int) -> Saying:
    """The saying that fits a port: TLS and HTTP on TLS ports, else HTTP, which line-based servers answer too."""
    return Saying(token, host, port in TLS_PORTS, HttpRequest())


def http_request(request: HttpRequest, token: str, authority: str) -> bytes:
    """The request's bytes. It carries the nonce, and nothing of this machine."""
    body = token.encode() if request.method == "POST" else b""
    lines = [
        f"{request.method} /egress-probe/{token} HTTP/1.1",
        f"Host: {authority}",
        f"User-Agent: {USER_AGENT}",
        "Accept: */*",
        "Connection: close",
    ]
    if body:
        lines += ["Content-Type: text/plain", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode("ascii", "replace") + b"\r\n\r\n" + body


def parse_answer(data: bytes, token: str, kind: Literal["banner", "reply"]) -> Data:
    """The facts of an answer. Total over any bytes."""
    status = http1.STATUS.match(data)
    head = data.split(http1.HEAD_END, 1)[0] if status else b""
    names = [line.split(b":", 1)[0].strip().lower() for line in head.split(b"\r\n")[1:] if b":" in line]
    return Data(
        bytes=len(data),
        kind=kind,
        excerpt=printable(data),
        http_status=int(status[1]) if status else None,
        http_headers=tuple(printable(name, 40) for name in names[:40]),
        token_echoed=token.encode() in data,
        receipt=receipts.find(data),
    )


def printable(data: bytes, most: int = _EXCERPT) -> str:
    """At most `most` characters of printable ASCII; everything else is a dot."""
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data[:most])


async def converse(
    address: str,
    port: int,
    saying: Saying,
    leave: Leave,
    started: float,
    again: bool = False,
    least: int | None = None,
) -> list[Attempt]:
    """The conversation as attempts: one, or two where a certificate had to be looked at without trusting it.

    `least`: what arrives with a lower TTL is not heard (RFC 5082).
    """

    if not saying.tls:
        return [await _once(address, port, saying, leave, started, None, again, least)]
    verifying = _context(verify=saying.host is not None)
    first = await _once(address, port, saying, leave, started, verifying, again, least)
    if first.tls is None or first.tls.verified is not False:
        return [first]
    unheard = replace(saying, listen=False)
    return [first, await _once(address, port, unheard, leave, started, _context(verify=False), again, least)]


@functools.cache
def _context(verify: bool) -> ssl.SSLContext:
    """Verifying where asked, and where this place has trust anchors at all: a bare container has none."""
    context = ssl.create_default_context() if verify else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not verify or not context.cert_store_stats()["x509_ca"]:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Wire:
    """A connection that remembers what came in, and what it meant."""

    def __init__(self, sock: trio.socket.SocketType, token: str) -> None:
        self.sock = sock
        self.token = token
        self.raw = bytearray()
        self.data: Data | None = None
        self.tls: Tls | None = None

    async def receive(self) -> bytes:
        part = await self.sock.recv(_MOST)
        self.raw += part
        return part

    async def send(self, data: bytes) -> None:
        await self.sock.send(data)


async def _once(
    address: str,
    port: int,
    saying: Saying,
    leave: Leave,
    started: float,
    context: ssl.SSLContext | None,
    again: bool,
    least: int | None,
) -> Attempt:
    wire: Wire | None = None

    async def say(sock: trio.socket.SocketType) -> None:
        nonlocal wire
        wire = Wire(sock, saying.token)
        await _speak(wire, saying, context, address, port)

    factory = functools.partial(limited_socket, hops=None, least=least)
    made = await stream.converse(address, port, say, PACKETS, leave, started, "talk", _ANSWER, factory)
    made = replace(made, again=again, least=least)
    return made if wire is None else spoken(made, wire.data, wire.tls)


def spoken(made: Attempt, data: Data | None, tls: Tls | None) -> Attempt:
    """A conversation's attempt: answered where bytes came or a TLS handshake was completed."""
    made = replace(made, data=data, tls=tls)
    if data is not None or (tls is not None and tls.handshake):
        return stream.answered(made)
    return replace(made, result="silent") if made.result == "connected" else made


async def _speak(wire: Wire, saying: Saying, context: ssl.SSLContext | None, address: str, port: int) -> None:
    if saying.listen:
        with trio.move_on_after(BANNER):
            if await wire.receive():
                wire.data = parse_answer(bytes(wire.raw), wire.token, "banner")
                return
    default = 443 if saying.tls else 80
    name = saying.host or (f"[{address}]" if ":" in address else address)
    authority = name if port == default else f"{name}:{port}"
    message = http_request(saying.request, saying.token, authority) if saying.request else None
    if context is not None:
        await _speak_tls(wire, saying, context, message)
    elif message is not None:
        await wire.send(message)
        await _listen(wire, wire.receive, wire.raw)


async def _listen(wire: Wire, receive: Callable[[], Awaitable[bytes]], seen: bytearray) -> None:
    try:
        await hear(receive, seen)
    finally:
        if seen:
            wire.data = parse_answer(bytes(seen), wire.token, "reply")


async def hear(receive: Callable[[], Awaitable[bytes]], seen: bytearray) -> None:
    """Read until the answer in `seen` is whole, the end, or enough. What came counts even if it raises OSError."""
    with trio.CancelScope() as patience:
        while not is_enough(seen):
            if http1.HEAD_END in seen and patience.deadline == math.inf:
                patience.deadline = trio.current_time() + _BODY
            if not await receive():
                return


def is_enough(seen: bytes | bytearray) -> bool:
    """Whether nothing more need be read: a whole HTTP answer, the head of anything else, or a receipt without one."""
    if len(seen) >= _MOST:
        return True
    if http1.HEAD_END in seen:
        answer = http1.parse(bytes(seen))
        return answer is None or answer.whole
    return receipts.find(bytes(seen)) is not None and not http1.STATUS.match(seen)


async def _speak_tls(wire: Wire, saying: Saying, context: ssl.SSLContext, message: bytes | None) -> None:
    layer = Layer(wire, context, saying.host)
    try:
        await layer.handshake()
    except ssl.SSLError as error:
        wire.tls = tls_problem(error)
        # A plain server's words count; a TLS alert says only that somebody speaks TLS, a filter perhaps.
        if wire.tls.verified is None and wire.raw and wire.raw[0] != ALERT:
            wire.data = parse_answer(bytes(wire.raw), wire.token, "reply")
        return
    wire.tls = tls_facts(layer, verified=True if context.verify_mode is ssl.CERT_REQUIRED else None)
    if message is not None:
        await layer.send(message)
        await _listen(wire, layer.receive, layer.clear)
    elif saying.host is not None and saying.token in saying.host:
        # The nonce was in the hello: who knows it has got everything that we say, and may answer.
        with trio.move_on_after(_RECEIPT):
            await _listen(wire, layer.receive, layer.clear)


def tls_facts(layer: Layer, verified: bool | None = None) -> Tls:
    """What a completed handshake showed."""
    certificate = layer.tls.getpeercert(binary_form=True) or b""
    return Tls(
        handshake=True,
        version=layer.tls.version(),
        verified=verified,
        certificate_sha256=hashlib.sha256(certificate).hexdigest(),
    )


def tls_problem(error: ssl.SSLError) -> Tls:
    """Why a handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Tls(handshake=False, verified=False, problem=printable(error.verify_message.encode()))
    return Tls(handshake=False, problem=printable((error.reason or str(error)).encode()))

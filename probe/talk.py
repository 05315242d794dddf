"""What follows an accept: a second connection that listens for a banner, then says the nonce and reads what comes.

The bytes are built and parsed by pure functions; only `converse` touches a socket. It records facts: that somebody
spoke, the HTTP status and header names, the certificate. Who that was, is judged outside.
"""

import functools
import hashlib
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal

import trio

from probe.documents import Attempt, Data, Tls
from probe.model import HttpRequest
from probe.sockets import connect, icmp_error, limited_socket, os_error, own_address, rst_on_close, version
from probe.timing import BANNER
from probe.tls_layer import Layer

# Ports on which the client speaks TLS first (IANA service names https, imaps, submissions, ldaps, domain-s, https-alt).
TLS_PORTS = frozenset((443, 465, 636, 853, 993, 8443))
# What one conversation starts: SYN, TLS hello, TLS finished, request.
PACKETS = 4
_ANSWER = 2.0  # seconds for a connection, a handshake, an answer
_MOST = 16 * 1024  # bytes that are read of an answer
_EXCERPT = 200
_ALERT = 0x15  # TLS record type
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)? (\d{3})")


# Waits for leave to start so many packets; False: the budget is spent.
Leave = Callable[[int], Awaitable[bool]]


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
        "User-Agent: egress-probe (probe_type=egress_path_validation)",
        "Accept: */*",
        "Connection: close",
    ]
    if body:
        lines += ["Content-Type: text/plain", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode("ascii", "replace") + b"\r\n\r\n" + body


def parse_answer(data: bytes, token: str, kind: Literal["banner", "reply"]) -> Data:
    """The facts of an answer. Total over any bytes."""
    status = _STATUS.match(data)
    head = data.split(b"\r\n\r\n", 1)[0] if status else b""
    names = [line.split(b":", 1)[0].strip().lower() for line in head.split(b"\r\n")[1:] if b":" in line]
    return Data(
        bytes=len(data),
        kind=kind,
        excerpt=printable(data),
        http_status=int(status[1]) if status else None,
        http_headers=tuple(printable(name, 40) for name in names[:40]),
        token_echoed=token.encode() in data,
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

    async def once(words: Saying, context: ssl.SSLContext | None) -> Attempt:
        if not await leave(PACKETS):
            now = trio.current_time() - started
            return Attempt(now, 0.0, "talk", "error", address=address, port=port, stage="socket", error="budget")
        return replace(await _once(address, port, words, started, context, again, least), least=least)

    if not saying.tls:
        return [await once(saying, None)]
    first = await once(saying, _context(verify=saying.host is not None))
    if first.tls is None or first.tls.verified is not False:
        return [first]
    return [first, await once(replace(saying, listen=False), _context(verify=False))]


@functools.cache
def _context(verify: bool) -> ssl.SSLContext:
    """Verifying where asked, and where this place has trust anchors at all: a bare container has none."""
    context = ssl.create_default_context() if verify else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not verify or not context.cert_store_stats()["x509_ca"]:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _Wire:
    """A connection that remembers what came in, and where it failed."""

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
    started: float,
    context: ssl.SSLContext | None,
    again: bool,
    least: int | None,
) -> Attempt:
    begin = trio.current_time()
    made = Attempt(begin - started, 0.0, "talk", "silent", address=address, port=port, again=again)
    try:
        plain = limited_socket(version(address), socket.SOCK_STREAM, None, least)
    except OSError as error:
        return replace(made, result="error", stage="socket", error=os_error(error))
    wire = _Wire(trio.socket.from_stdlib_socket(plain), saying.token)
    with wire.sock:
        failed: OSError | None = None
        stage: Literal["connect", "receive"] = "connect"
        try:
            with trio.move_on_after(_ANSWER):
                stage, number = await connect(plain, address, port)
                if number:
                    raise OSError(number, "")  # noqa: TRY301 - one place below turns every errno into evidence
                stage = "receive"
                await _speak(wire, saying, context, address, port)
        except OSError as error:
            failed = error
        made = replace(
            made,
            elapsed=trio.current_time() - begin,
            source=own_address(plain),
            data=wire.data,
            tls=wire.tls,
            result="answered" if wire.data or (wire.tls and wire.tls.handshake) else "silent",
        )
        if failed is not None and made.result == "silent":
            made = replace(made, result="error", stage=stage, error=os_error(failed), icmp=icmp_error(plain))
        rst_on_close(plain)
    return made


async def _speak(wire: _Wire, saying: Saying, context: ssl.SSLContext | None, address: str, port: int) -> None:
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
        await _speak_tls(wire, saying.host, context, message)
    elif message is not None:
        await wire.send(message)
        await _listen(wire, wire.receive, wire.raw)


async def _listen(wire: _Wire, receive: Callable[[], Awaitable[bytes]], seen: bytearray) -> None:
    """Read until the answer's head is whole, the end, or enough. What came counts even if the connection breaks."""
    try:
        while len(seen) < _MOST and b"\r\n\r\n" not in seen:
            if not await receive():
                break
            wire.data = parse_answer(bytes(seen), wire.token, "reply")
    finally:
        if seen:
            wire.data = parse_answer(bytes(seen), wire.token, "reply")


async def _speak_tls(wire: _Wire, host: str | None, context: ssl.SSLContext, message: bytes | None) -> None:
    layer = Layer(wire, context, host)
    try:
        await layer.handshake()
    except ssl.SSLCertVerificationError as error:
        wire.tls = Tls(handshake=False, verified=False, problem=printable(error.verify_message.encode()))
        return
    except ssl.SSLError as error:
        wire.tls = Tls(handshake=False, problem=printable((error.reason or str(error)).encode()))
        # A plain server's words count; a TLS alert says only that somebody speaks TLS, a filter perhaps.
        if wire.raw and wire.raw[0] != _ALERT:
            wire.data = parse_answer(bytes(wire.raw), wire.token, "reply")
        return
    certificate = layer.tls.getpeercert(binary_form=True) or b""
    wire.tls = Tls(
        handshake=True,
        version=layer.tls.version(),
        verified=True if context.verify_mode is ssl.CERT_REQUIRED else None,
        certificate_sha256=hashlib.sha256(certificate).hexdigest(),
    )
    if message is not None:
        await layer.send(message)
        await _listen(wire, layer.receive, layer.clear)

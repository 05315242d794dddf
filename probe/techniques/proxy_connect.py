"""`proxy_connect`: asks the configured HTTP proxy for a tunnel to the destination's name (RFC 9110 9.3.6, CONNECT).

Our own host does not look that name up: the proxy does, so a name that is denied here may be resolved, and reached,
there. The proxy's user name and password go to the proxy and nowhere else.
"""

import base64
import functools
import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

import trio

from probe import http1, stream
from probe.documents import Attempt, Data, Order, Traits
from probe.model import Channel, HttpRequest
from probe.place import redacted
from probe.talk import USER_AGENT, hear, http_request, parse_answer, printable, spoken
from probe.techniques.base import NotRun, Probe
from probe.techniques.tcp_connect import connect_one
from probe.timing import syn_retransmissions
from probe.tokens import asked_again

# In the order in which they are looked at; the first one that names a plain HTTP proxy is taken.
VARIABLES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_STATUS_SECONDS = 6.0  # a proxy looks the name up and connects before it answers
_FAR_SECONDS = 2.0  # … and then the far end
_CONVERSATION = 2.0 + _STATUS_SECONDS + _FAR_SECONDS
_DEFAULT_PORT = 80
_FAR_PORT = 443
_MOST = 16 * 1024  # bytes that are read of either
_SHORTEST_SECRET = 4
_LOOKUP = 2 * 3 * 2  # of the proxy's own name: A and AAAA, from up to three servers, twice
_ADDRESSES = 4
_PACKETS = 3  # SYN, the request for a tunnel, the request inside

TRAITS = Traits(
    channel=Channel.PROXY,
    # Should the proxy fall silent after the first connect, the kernel sends the second one's SYN again.
    packets=_LOOKUP + 2 * _ADDRESSES + max(_PACKETS, 1 + syn_retransmissions(_CONVERSATION)),
    connects=2 * _ADDRESSES,
    sends=lambda check: (
        f"to the proxy of the environment: SYN and CONNECT {check.destination}; if granted, HTTP GET with the nonce"
    ),
    resolves=False,
)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_PLACE = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A plain HTTP proxy. `secret`: `user:password`, empty where there is none; it is in no repr and in no evidence."""

    host: str
    port: int
    secret: str = field(default="", repr=False)


async def run(orders: Sequence[Order], probe: Probe) -> None:
    """Every order, a bounded number together."""
    await probe.each(orders, attempt)


async def attempt(order: Order, probe: Probe) -> list[Attempt] | NotRun:
    """The proxy's addresses, one after the other until one accepts; then the request for a tunnel."""
    proxy = configured(os.environ)
    if isinstance(proxy, NotRun):
        return proxy
    addresses, looked_up = await _addresses(proxy.host, probe)
    attempts = list(looked_up)
    for address in addresses:
        attempts.append(await connect_one(address, proxy.port, probe))
        if attempts[-1].result == "connected":
            attempts += await _tunnel(order, proxy, address, probe)
            break
    return attempts


# --- which proxy ------------------------------------------------------------------------------------------------------


def configured(environ: Mapping[str, str]) -> Proxy | NotRun:
    """The proxy of the environment. A reason names the variable, and of its value only what is no secret."""
    unfit: list[str] = []
    for name in VARIABLES:
        url = environ.get(name, "").strip()
        proxy = parse_proxy(url)
        if proxy is not None:
            return proxy
        if url:
            unfit.append(f"{name} is {redacted(url)}")
    return NotRun(f"{unfit[0]}, no plain HTTP proxy" if unfit else "no proxy is configured here (HTTPS_PROXY …)")


def parse_proxy(url: str) -> Proxy | None:
    """The proxy that `url` names, with or without `http://`; None for another scheme, or for what is no URL."""
    scheme = _SCHEME.fullmatch(url)
    if scheme is not None and scheme[1].lower() != "http":
        return None
    rest = scheme[2] if scheme is not None else url
    authority, tail = re.split(r"(?=[/?#\\])|$", rest, maxsplit=1)
    secret, _, place = authority.rpartition("@")
    found = _PLACE.fullmatch(place)
    # A password may hold an unescaped `/`, a path an `@`: the one cannot be told from the other.
    if found is None or "@" in tail or (found[1] and not _is_address(found[1])):
        return None
    port = int(found[3] or _DEFAULT_PORT)
    return Proxy(found[1] or found[2], port, unquote(secret)) if 0 < port < 65536 else None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


async def _addresses(host: str, probe: Probe) -> tuple[tuple[str, ...], list[Attempt]]:
    if _is_address(host):
        return (host,), []
    # RFC 6761 6.3: never asked of a server. The operator put the proxy there; no resolver led us to it.
    if host.lower().removesuffix(".") == "localhost":
        return ("127.0.0.1", "::1"), []
    return await probe.names.lookup(host, probe.pace, probe.started)


# --- the tunnel -------------------------------------------------------------------------------------------------------


def build_connect(authority: str, secret: str) -> bytes:
    """The request for a tunnel. `authority`: host and port. `secret` goes as RFC 7617's Basic credentials."""
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", f"User-Agent: {USER_AGENT}"]
    if secret:
        lines.append(f"Proxy-Authorization: Basic {_basic(secret)}")
    return "\r\n".join(lines).encode("ascii", "replace") + http1.HEAD_END


def _basic(secret: str) -> str:
    return base64.b64encode(secret.encode("utf-8", "replace")).decode()


def split_grant(data: bytes) -> tuple[bytes, bytes] | None:
    """The proxy's own words and what the tunnel brought after them; None where no tunnel was granted.

    RFC 9110 9.3.6: any 2xx opens the tunnel right after the head, whatever lengths the head states.
    """
    head, end, rest = data.partition(http1.HEAD_END)
    status = http1.STATUS.match(head)
    return (head + end, rest) if status and end and 200 <= int(status[1]) < 300 else None


def without_secret(data: bytes, secret: str) -> bytes:
    """`data` with stars for what an error page may show of the secret. A few characters by chance are no secret."""
    for shown in (_basic(secret), secret, secret.partition(":")[2]):
        if len(shown) >= _SHORTEST_SECRET:
            found = shown.encode("utf-8", "replace")
            data = data.replace(found, b"*" * len(found))
    return data


class _Line:
    """A connection to the proxy: what the proxy said, and then what the far end said through it."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock
        self.near = bytearray()
        self.far = bytearray()
        self.granted: float | None = None  # when, on trio's clock

    async def ask(self, request: bytes) -> None:
        await self._sock.send(request)
        while http1.HEAD_END not in self.near and len(self.near) < _MOST:
            if not await self._receive(self.near):
                return
        grant = split_grant(bytes(self.near))
        if grant is None:
            await hear(functools.partial(self._receive, self.near), self.near)
            return
        self.granted = trio.current_time()
        self.near, self.far = bytearray(grant[0]), bytearray(grant[1])

    async def say(self, message: bytes) -> None:
        await self._sock.send(message)
        await hear(functools.partial(self._receive, self.far), self.far)

    async def _receive(self, into: bytearray) -> bytes:
        part = await self._sock.recv(_MOST)
        into += part
        return part


async def _tunnel(order: Order, proxy: Proxy, address: str, probe: Probe) -> list[Attempt]:
    """What the proxy said; and, where the far end spoke through it, what that said."""
    host = order.destination.host or ""
    # A proxy may keep what it looked up: at the end of a run it is asked for another name.
    host = asked_again(host, order.token) if probe.again else host
    target = f"{host}:{order.destination.port or _FAR_PORT}"
    line: _Line | None = None

    async def say(sock: trio.socket.SocketType) -> None:
        nonlocal line
        line = _Line(sock)
        with trio.move_on_after(_STATUS_SECONDS):
            await line.ask(build_connect(target, proxy.secret))
        if line.granted is not None:
            with trio.move_on_after(_FAR_SECONDS):
                await line.say(http_request(HttpRequest(), order.token, target))

    made = await stream.converse(
        address, proxy.port, say, _PACKETS, probe.pace.leave, probe.started, "talk", _CONVERSATION
    )
    made = replace(made, again=probe.again)
    if line is None:
        return [spoken(made, None, None)]
    near, far = (_read(bytes(part), order, proxy) for part in (line.near, line.far))
    if line.granted is None:
        return [spoken(made, near, None)]
    opened = line.granted - probe.started - made.t
    first = spoken(replace(made, elapsed=opened), near, None)
    if far is None:
        return [first]
    return [first, spoken(replace(made, t=made.t + opened, elapsed=max(made.elapsed - opened, 0.0)), far, None)]


def _read(data: bytes, order: Order, proxy: Proxy) -> Data | None:
    if not data:
        return None
    return replace(parse_answer(data, order.token, "reply"), excerpt=printable(without_secret(data, proxy.secret)))

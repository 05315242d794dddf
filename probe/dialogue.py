"""A TCP connection that is opened in another way than by a plain connect(), and the conversation over that same socket.

A second, plain connection might meet the very filter that the first one went round. So nothing is listened for first:
the nonce step (TLS hello, HTTP request) is ready before the connection is, and may travel in its SYN.
"""

import errno
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import trio

from probe.documents import Attempt
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
from probe.stream import Leave
from probe.words import PACKETS, Words

_ANSWER = 2.0  # seconds for a handshake and an answer


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
    words = Words(address, port, host, token)
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
                number, events = await _settled(plain, total)
                made = replace(made, events=events)
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

    async def talk(self, words: Words, leave: Leave) -> Attempt:
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


async def _settled(plain: socket.socket, total: float) -> tuple[int, str | None]:
    """SO_ERROR and what poll said when the handshake ended; EINPROGRESS where it did not within `total` seconds."""
    with trio.move_on_after(total):
        await trio.lowlevel.wait_writable(plain)
    poll = select.poll()
    poll.register(plain, select.POLLIN | select.POLLOUT)
    found = [event_words(mask) for _, mask in poll.poll(0)]  # before SO_ERROR, which clears some of it
    return (pending_error(plain), found[0]) if found else (errno.EINPROGRESS, None)

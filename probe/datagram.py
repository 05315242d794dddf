"""One datagram exchange on a connected UDP socket, so that ICMP errors and answers come back to us, and nothing else.

The first answer that `wanted` takes ends it. A datagram may be lost, so it is sent again at each time of `schedule`.
Who lingers hears what comes after it: an answer that was forged on the way is there before the real one.
"""

import errno
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import trio

from probe.documents import Attempt
from probe.model import Transport
from probe.sockets import has_route, icmp_error, open_socket, os_error, own_address, pending_error, sockaddr, version

# Seconds after the start at which the datagram is sent; the first is 0.
TWICE = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Linger:
    """After the first answer: `heard` gets whatever else the same address and port send within so many seconds."""

    seconds: float
    heard: Callable[[bytes], None]


async def exchange(
    address: str,
    port: int,
    payload: bytes,
    wanted: Callable[[bytes], bool],
    leave: Callable[[], Awaitable[bool]],
    started: float,
    step: Literal["send", "query", "walk", "twin"],
    total: float,
    schedule: Sequence[float] = TWICE,
    factory: Callable[[int, int], socket.socket] = open_socket,
    linger: Linger | None = None,
) -> tuple[Attempt, bytes | None]:
    """The attempt, and the answer's bytes. `leave` is awaited before each packet; False when none is left."""
    begin = trio.current_time()
    made = Attempt(begin - started, 0.0, step, "silent", Transport.UDP, address=address, port=port, tries=0)
    try:
        plain = factory(version(address), socket.SOCK_DGRAM)
    except OSError as error:
        return replace(made, result="error", stage="socket", error=os_error(error)), None
    sock = trio.socket.from_stdlib_socket(plain)
    stage: Literal["connect", "send", "receive"] = "connect"
    answer: bytes | None = None
    with sock:
        try:
            plain.connect(sockaddr(address, port))
            for index, offset in enumerate(schedule):
                await trio.sleep_until(begin + offset)
                if not await leave():
                    return replace(made, result="error", stage="socket", error="budget"), None
                if index == 0:  # the clock starts with the first datagram, never in a queue
                    begin = trio.current_time()
                    made = replace(made, t=begin - started)
                stage = "send"
                plain.send(payload)
                made = replace(made, tries=index + 1)
                stage = "receive"
                until = schedule[index + 1] if index + 1 < len(schedule) else total
                with trio.move_on_at(begin + until):
                    answer = await _receive(sock, wanted)
                    break
        except OSError as error:
            made = replace(made, result="error", stage=stage, error=os_error(error), icmp=icmp_error(plain))
            if error.errno == errno.EADDRNOTAVAIL:
                made = replace(made, routed=has_route(address))
        else:
            late = pending_error(plain)
            if answer is None and late:  # an error that came after the last look
                made = replace(made, result="error", stage="receive", error=os_error(OSError(late, "")),
                               icmp=icmp_error(plain))  # fmt: skip
        made = replace(made, elapsed=trio.current_time() - begin, source=own_address(plain))
        if answer is not None:
            made = replace(made, result="answered")
            await _linger(sock, linger)
    return made, answer


async def _linger(sock: trio.socket.SocketType, linger: Linger | None) -> None:
    if linger is None:
        return
    # An error is no answer: whatever it says of this exchange came too late.
    with trio.move_on_after(linger.seconds), suppress(OSError):
        while True:
            linger.heard(await sock.recv(65535))


async def _receive(sock: trio.socket.SocketType, wanted: Callable[[bytes], bool]) -> bytes:
    while True:
        data = await sock.recv(65535)
        if wanted(data):
            return data

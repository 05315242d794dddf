"""One conversation over a TCP connection of its own, closed with an RST: the twin of datagram.py.

Every network failure is a value of the attempt. What was said and heard is `say`'s own business.
"""

import errno
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Literal

import trio

from probe.documents import Attempt
from probe.sockets import icmp_error, open_socket, os_error, own_address, pending_error, rst_on_close, sockaddr, version

# Waits for leave to start so many packets; False: the budget is spent.
Leave = Callable[[int], Awaitable[bool]]


async def converse(
    address: str,
    port: int,
    say: Callable[[trio.socket.SocketType], Awaitable[None]],
    packets: int,
    leave: Leave,
    started: float,
    step: Literal["talk", "query"],
    total: float,
    factory: Callable[[int, int], socket.socket] = open_socket,
) -> Attempt:
    """`connected` where the handshake was completed, whatever followed but an error; silence lasts `total` seconds.

    `packets`: what the conversation starts, its SYN included.
    """
    budget = await leave(packets)
    begin = trio.current_time()
    made = Attempt(begin - started, 0.0, step, "silent", address=address, port=port)
    if not budget:
        return replace(made, result="error", stage="socket", error="budget")
    try:
        plain = factory(version(address), socket.SOCK_STREAM)
    except OSError as error:
        return replace(made, result="error", stage="socket", error=os_error(error))
    stage: Literal["connect", "receive"] = "connect"
    with trio.socket.from_stdlib_socket(plain) as sock:
        try:
            with trio.move_on_after(total):
                stage, number = await connect(plain, address, port)
                if number:
                    raise OSError(number, "")  # noqa: TRY301 - one place below turns every errno into evidence
                stage = "receive"
                made = replace(made, result="connected")
                await say(sock)
        except OSError as error:
            made = replace(made, result="error", stage=stage, error=os_error(error), icmp=icmp_error(plain))
        made = replace(made, elapsed=trio.current_time() - begin, source=own_address(plain))
        rst_on_close(plain)
    return made


def answered(made: Attempt) -> Attempt:
    """The attempt with an answer: whatever broke the connection afterwards is no failure."""
    return replace(made, result="answered", stage=None, error=None, icmp=None)


async def connect(sock: socket.socket, address: str, port: int) -> tuple[Literal["connect", "receive"], int]:
    """Connect once. The errno (0: connected), and whether the call gave it at once or the network did later."""
    number = sock.connect_ex(sockaddr(address, port))
    if number != errno.EINPROGRESS:
        return "connect", number
    await trio.lowlevel.wait_writable(sock)
    return "receive", pending_error(sock)

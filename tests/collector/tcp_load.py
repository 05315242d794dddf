"""Many short TCP connections, as fast as one core makes them: connect, say a token, read the receipt, close.

A program of its own, so that it runs on another core than the collector: ADDRESS PORT COUNT AT_A_TIME RATE [forged].
RATE: connections per second, 0 for no cap. Prints `ready`, then how many receipts came, and in how many seconds.
"""

import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from tests.collector.house import token


def load(
    address: str,
    port: int,
    said: list[bytes],
    at_a_time: int,
    rate: float,
    heard: Callable[[bytes], object] = lambda _: None,
) -> tuple[int, float]:
    """How many were answered with a receipt, and the seconds that it took. `heard` gets each message that was."""
    poll, waiting, answered, began = (
        select.epoll(),
        dict[int, tuple[socket.socket, bytes, bytes]](),
        0,
        time.monotonic(),
    )
    started = 0
    while started < len(said) or waiting:
        due = min(len(said), int((time.monotonic() - began) * rate) + 1 if rate else len(said))
        while started < due and len(waiting) < at_a_time:
            message = said[started]
            started += 1
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            # Nothing is left in TIME_WAIT: ports run out else.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.connect_ex((address, port))
            waiting[sock.fileno()] = sock, message, message
            poll.register(sock, select.EPOLLOUT)
        for number, mask in poll.poll(0.01):
            sock, left, message = waiting[number]
            if mask & select.EPOLLOUT and left:
                with suppress(OSError):  # reset: then there is no receipt either
                    sock.send(left)
                waiting[number] = sock, b"", message
                poll.modify(sock, select.EPOLLIN)
                continue
            if _answered(sock):
                answered += 1
                heard(message)
            del waiting[number]
            sock.close()
    return answered, time.monotonic() - began


def _answered(sock: socket.socket) -> bool:
    try:
        return sock.recv(4096).startswith(b"egress-probe-receipt=v1,tcp,")
    except OSError:
        return False


def main(address: str, port: str, count: str, at_a_time: str, rate: str, forged: str = "") -> None:
    """See the module's docstring."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {1})
    keys = {"key": b"another"} if forged else {}
    # A stranger's tokens need not differ: making a hundred thousand would take the core from who loads beside it.
    made = [token(check, **keys).encode() + b"\n" for check in range(1000 if forged else int(count))]
    said = [made[n % len(made)] for n in range(int(count))]
    print("ready", flush=True)
    print(*load(address, int(port), said, int(at_a_time), float(rate)))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Accepts TCP connections, gives each a seat and a deadline, and counts what said nothing that is known.

Whoever floods the collector takes his own seats first: the oldest connection of a source makes room for its newest.
"""

import errno
import socket
from collections import Counter
from collections.abc import Awaitable, Callable

import trio

from probe.collector.halves import site
from probe.collector.house import DEADLINE
from probe.collector.line import Line
from probe.collector.listening import normal

SEATS = 4096
SEATS_PER_SOURCE = 512  # of one IPv4 address, or one IPv6 /64
_BURST = 64  # accepts before the others get their turn
_PAUSE = 0.05  # seconds, when the system has no file or memory left
# What accept() says of this host, not of the connection (accept(2)).
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

_GLANCE = 4096  # bytes

Handler = Callable[[Line], Awaitable[None]]
# Whether a source whose first bytes are these is turned away at once.
Glance = Callable[[bytes, str], bool]


class Seats:
    """Who is connected, oldest first. A connection that loses its seat is cancelled, and counted in `tally`."""

    def __init__(self, most: int, per_source: int, tally: Counter[str]) -> None:
        self._most = most
        self._per_source = per_source
        self._taken: dict[Line, int] = {}
        self._by_source: dict[int, dict[Line, None]] = {}
        self._tally = tally

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, line: Line) -> None:
        """A seat for `line`; the oldest of its source, or of all, makes room."""
        source = site(line.source)
        own = self._by_source.setdefault(source, {})
        if len(own) >= self._per_source:
            self._evict(next(iter(own)))
        elif len(self._taken) >= self._most:
            self._evict(next(iter(self._taken)))
        self._taken[line] = source
        self._by_source.setdefault(source, {})[line] = None

    def leave(self, line: Line) -> None:
        """Free its seat, if it still has one."""
        source = self._taken.pop(line, None)
        if source is not None:
            own = self._by_source[source]
            del own[line]
            if not own:
                del self._by_source[source]

    def _evict(self, line: Line) -> None:
        self.leave(line)
        self._tally["evicted"] += 1
        line.scope.cancel()


class Door:
    """Lets connections in: each is handled in `nursery`, for at most `deadline` seconds.

    When many wait, their first bytes are here already: `glance` then saves a seat and a task for what deserves none.
    """

    def __init__(
        self,
        handle: Handler,
        nursery: trio.Nursery,
        seats: Seats,
        deadline: float = DEADLINE,
        glance: Glance = lambda _data, _source: False,
    ) -> None:
        self._handle = handle
        self._nursery = nursery
        self._seats = seats
        self._deadline = deadline
        self._glance = glance

    async def accept(self, listener: socket.socket) -> None:
        """For ever."""
        while True:
            await trio.lowlevel.wait_readable(listener)
            for _ in range(_BURST):
                try:
                    sock, peer = listener.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno in _EXHAUSTED:
                        await trio.sleep(_PAUSE)
                        break
                    continue  # the peer left before it was accepted
                self._let_in(sock, peer)

    def _let_in(self, sock: socket.socket, peer: tuple[str, int]) -> None:
        try:
            ahead = _waiting(sock)
            if ahead and self._glance(ahead, normal(peer[0])):
                sock.close()
                return
            line = Line(sock, peer[:2], ahead)
        except OSError:  # the peer reset the connection
            sock.close()
            return
        self._seats.take(line)
        self._nursery.start_soon(self._serve, line)

    async def _serve(self, line: Line) -> None:
        line.scope.deadline = trio.current_time() + self._deadline
        try:
            with line.scope:
                await self._handle(line)
        finally:
            self._seats.leave(line)
            line.close()


def _waiting(sock: socket.socket) -> bytes:
    try:
        return sock.recv(_GLANCE, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""

"""The connect engine: many non-blocking connects, one trio task, one epoll of our own, one heap of timers.

A task per socket costs three to five times the CPU, and its queue turns into wrong verdicts: the clock of a try starts
at its own `connect_ex`, never in a queue, and epoll is drained once more before anything is called silent. Earlier
sockets of the same address stay open while later tries are made: any answer to any of them counts.
"""

import errno
import heapq
import select
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, Protocol

import trio

from probe.documents import Icmp, TcpInfo
from probe.sockets import (
    error_name,
    event_words,
    has_route,
    icmp_error,
    limit,
    open_socket,
    own_address,
    pending_error,
    sockaddr,
    tcp_info,
    version,
)
from probe.timing import Deadlines

_BURST = 128  # starts between two looks at epoll
Result = Literal["connected", "silent", "error"]
Stage = Literal["socket", "connect", "receive"]

_CONNECTED: Final = "connected"
_PENDING = (errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK)


class Pacer(Protocol):
    """Gives leave to start packets. `next_start`: when the next one may; `take` books it, False = budget spent."""

    def next_start(self) -> float: ...

    def take(self) -> bool: ...


class Connect:
    """One address to connect to, and what came of it. `result` None until it is known."""

    __slots__ = (
        *("address", "port", "tag", "hops", "least", "tries", "started", "elapsed", "result", "stage", "error", "icmp"),
        *("source", "routed", "events", "tcp", "open"),
    )

    def __init__(
        self, address: str, port: int, tag: object = None, hops: int | None = None, least: int | None = None
    ) -> None:
        self.address = address
        self.port = port
        self.tag = tag
        self.hops = hops  # where its packets die
        self.least = least  # the lowest TTL of an answer that it hears
        self.tries = 0
        self.started: float | None = None  # when its first try was made
        self.elapsed = 0.0
        self.result: Result | None = None
        self.stage: Stage | None = None
        self.error: str | None = None
        self.icmp: Icmp | None = None
        self.source: str | None = None
        self.routed: bool | None = None
        self.events: str | None = None
        self.tcp: TcpInfo | None = None
        self.open: list[tuple[int, socket.socket, float]] = []


async def connect_many(
    targets: Iterable[Connect],
    deadlines: Deadlines,
    pacer: Pacer,
    done: Callable[[Connect], None],
    concurrency: int,
    factory: Callable[[int, int], socket.socket] = open_socket,
) -> None:
    """Connect to every target and close at once; `done` is called for each, in the order of their ends."""
    with select.epoll() as epoll:
        engine = _Engine(epoll, deadlines, pacer, done, concurrency, factory)
        try:
            await engine.run(iter(targets))
        finally:
            engine.close()


class _Engine:
    def __init__(
        self,
        epoll: select.epoll,
        deadlines: Deadlines,
        pacer: Pacer,
        done: Callable[[Connect], None],
        concurrency: int,
        factory: Callable[[int, int], socket.socket],
    ) -> None:
        self._epoll = epoll
        self._deadlines = deadlines
        self._pacer = pacer
        self._done = done
        self._concurrency = concurrency
        self._factory = factory
        self._by_fd: dict[int, tuple[Connect, float]] = {}
        self._timers: list[tuple[float, int, Connect]] = []  # (when, sequence, target): the next try, or the end
        self._sequence = 0
        self._active = 0

    def close(self) -> None:
        for target, _ in list(self._by_fd.values()):
            self._release(target)

    async def run(self, waiting: Iterator[Connect]) -> None:
        fresh = next(waiting, None)
        while fresh is not None or self._active:
            for _ in range(_BURST):
                if fresh is None or self._active >= self._concurrency or trio.current_time() < self._pacer.next_start():
                    break
                self._active += 1
                self._try(fresh)
                fresh = next(waiting, None)
            if fresh is not None or self._active:
                await self._wait(may_start=fresh is not None and self._active < self._concurrency)
            # What has arrived is read before any timer may call it silence.
            self._collect()
            self._expire(trio.current_time())

    async def _wait(self, may_start: bool) -> None:
        until = self._timers[0][0] if self._timers else float("inf")
        if may_start:
            until = min(until, self._pacer.next_start())
        if until <= trio.current_time():
            await trio.lowlevel.checkpoint()
            return
        with trio.move_on_at(until):
            await trio.lowlevel.wait_readable(self._epoll.fileno())

    def _try(self, target: Connect) -> None:
        """One connect. It either ends the target at once, or leaves a socket in epoll and a timer."""
        target.tries += 1
        try:
            if not self._pacer.take():
                return self._no_socket(target, "budget")
            sock = self._socket(target)
        except OSError as error:
            return self._no_socket(target, error_name(error.errno or 0))
        now = trio.current_time()
        if target.tries == 1:
            target.started = now
        number = sock.connect_ex(sockaddr(target.address, target.port))
        if number not in _PENDING:
            target.source = own_address(sock)
            target.icmp = icmp_error(sock) if number else None
            sock.close()
            return self._end(target, _CONNECTED if number == 0 else "error", "connect", error_name(number), now)
        fd = sock.fileno()
        target.open.append((fd, sock, now))
        self._by_fd[fd] = (target, now)
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP)
        self._timer(self._after_try(target, now), target)
        return None

    def _socket(self, target: Connect) -> socket.socket:
        family = version(target.address)
        sock = self._factory(family, socket.SOCK_STREAM)
        if target.hops is not None or target.least is not None:
            try:
                limit(sock, family, target.hops, target.least)
            except OSError:
                sock.close()
                raise
        return sock

    def _after_try(self, target: Connect, now: float) -> float:
        """When the next try is made; after the last one, when silence is called silence."""
        if target.tries < self._deadlines.tries:
            return now + self._deadlines.spacing
        return max(now + self._deadlines.answer, (target.started or now) + self._deadlines.hold)

    def _timer(self, when: float, target: Connect) -> None:
        self._sequence += 1  # keeps the heap from comparing targets
        heapq.heappush(self._timers, (when, self._sequence, target))

    def _no_socket(self, target: Connect, error: str) -> None:
        """A try that never became a packet. Earlier sockets of the target may still be answered."""
        if not target.open:
            return self._end(target, "error", "socket", error)
        target.tries = self._deadlines.tries
        return self._timer(trio.current_time() + self._deadlines.answer, target)

    def _collect(self) -> None:
        while True:
            events = self._epoll.poll(0, 256)
            for fd, mask in events:
                if fd in self._by_fd:  # a sibling in this batch may have ended the target
                    self._answered(fd, mask, *self._by_fd[fd])
            if len(events) < 256:
                return

    def _answered(self, fd: int, mask: int, target: Connect, started: float) -> None:
        sock = next(sock for number, sock, _ in target.open if number == fd)
        number = pending_error(sock)
        target.source = own_address(sock)
        if number:
            target.icmp = icmp_error(sock)
            if number == errno.ETIMEDOUT:  # the kernel gave up before we did: our own timers decide
                return self._forget(fd, target)
        else:
            target.tcp = tcp_info(sock)
        target.events = event_words(mask)
        return self._end(target, "error" if number else _CONNECTED, "receive", error_name(number), started)

    def _forget(self, fd: int, target: Connect) -> None:
        del self._by_fd[fd]
        sock = next(sock for number, sock, _ in target.open if number == fd)
        target.open = [entry for entry in target.open if entry[0] != fd]
        sock.close()

    def _expire(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            target = self._timers[0][2]
            again = target.result is None and target.tries < self._deadlines.tries
            heapq.heappop(self._timers)
            if again and self._pacer.next_start() > now:
                # The cap on packets delays the next try; the target's own clock does not suffer from it.
                self._timer(self._pacer.next_start(), target)
            elif again:
                self._try(target)
            elif target.result is None:
                self._end(target, "silent", None, None)

    def _end(
        self, target: Connect, result: Result, stage: Stage | None, error: str | None, started: float | None = None
    ) -> None:
        now = trio.current_time()
        failed = result == "error"
        target.result = result
        target.stage = stage if failed else None
        target.error = error if failed else None
        since = target.started if started is None else started
        target.elapsed = 0.0 if since is None else now - since
        if failed and error == "EADDRNOTAVAIL":
            target.routed = has_route(target.address)
        if result == "silent" and target.open:
            oldest = target.open[0][1]  # the one on which the kernel had most time to send its SYN again
            target.source = own_address(oldest)
            target.tcp = tcp_info(oldest)
        self._release(target)
        self._active -= 1
        self._done(target)

    def _release(self, target: Connect) -> None:
        for fd, sock, _ in target.open:
            self._by_fd.pop(fd, None)
            sock.close()  # also leaves epoll
        target.open = []

"""The connect engine: exact times under a virtual clock, real sockets of a quiet kernel, no false silence.

The fake is a socket factory: a pair of connected local sockets whose connect_ex says what the row says. Epoll, the heap
and the pacing are the real ones; the clock jumps.
"""

import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing

from probe.engine import Connect, connect_many
from probe.techniques.base import Pace
from probe.timing import Deadlines, deadlines

FAST = Deadlines(answer=1.0, spacing=0.5, tries=2)


Row = dict[str, Any]


class FakeSocket:
    """Its connect is pending until `after` seconds, then succeeds or fails with `error`; or ends `now`; or never ends."""

    def __init__(self, nursery: trio.Nursery, choose: Callable[[str], Row]) -> None:
        self._nursery = nursery
        self._choose = choose
        self._row: Row = {}
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        with suppress(BlockingIOError):
            while True:  # a full send buffer is not writable: pending
                self._ours.send(b"x" * 65536)

    def connect_ex(self, where: tuple[str, int]) -> int:
        self._row = self._choose(where[0])
        if "now" in self._row:
            return int(self._row["now"])
        if "after" in self._row:
            self._nursery.start_soon(self._answer)
        return errno.EINPROGRESS

    async def _answer(self) -> None:
        await trio.sleep(self._row["after"])
        with suppress(OSError):
            while self._theirs.recv(1 << 20):
                pass

    def getsockopt(self, level: int, name: int, size: int = 0) -> Any:
        return bytes(self._row.get("info", b"")) if size else int(self._row.get("error", 0))

    def getsockname(self) -> tuple[str, int]:
        return ("10.0.0.2", 1)

    def recvmsg(self, *_: int) -> Any:
        raise BlockingIOError

    def fileno(self) -> int:
        return self._ours.fileno()

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


async def play(
    rows: list[list[Row]], limits: Deadlines = FAST, rate: float = 0, packets: int = 1000, concurrency: int = 10
) -> dict[int, Connect]:
    """Target i meets rows[i][0] with its first try, rows[i][1] with its second, …; a row `socket` fails that call."""
    left = {f"10.0.0.{i}": list(tries) for i, tries in enumerate(rows)}
    refusals = [row.get("socket", None) for row in rows[0]]
    done: list[Connect] = []
    async with trio.open_nursery() as nursery:

        def choose(address: str) -> Row:
            tries = left[address]
            return tries.pop(0) if len(tries) > 1 else tries[0]

        def factory(family: int, kind: int) -> Any:
            refused = refusals.pop(0) if refusals else None
            if refused is not None:
                raise OSError(refused, "no socket")
            return FakeSocket(nursery, choose)

        targets = [Connect(f"10.0.0.{i}", 80, i) for i in range(len(rows))]
        await connect_many(targets, limits, Pace(rate, packets, "s"), done.append, concurrency, factory)
        nursery.cancel_scope.cancel()
    assert sorted(str(target.tag) for target in done) == sorted(str(i) for i in range(len(rows)))  # each exactly once
    return {int(str(target.tag)): target for target in done}


def told(target: Connect) -> tuple[Any, ...]:
    return target.result, target.stage, target.error, round(target.elapsed, 6), target.tries


CASES: list[tuple[str, list[dict[str, Any]], tuple[Any, ...]]] = [
    ("silence", [{}], ("silent", None, None, 1.5, 2)),
    ("accepted", [{"after": 0.1}], ("connected", None, None, 0.1, 1)),
    ("refused", [{"after": 0.1, "error": errno.ECONNREFUSED}], ("error", "receive", "ECONNREFUSED", 0.1, 1)),
    ("no route", [{"now": errno.ENETUNREACH}], ("error", "connect", "ENETUNREACH", 0.0, 1)),
    ("at once", [{"now": 0}], ("connected", None, None, 0.0, 1)),
    ("no socket", [{"socket": errno.EPERM}], ("error", "socket", "EPERM", 0.0, 1)),
    ("the second try is answered", [{}, {"after": 0.2}], ("connected", None, None, 0.2, 2)),
    ("the first try is answered late", [{"after": 1.2}, {}], ("connected", None, None, 1.2, 2)),
    ("answered in the last moment", [{"after": 1.499}, {}], ("connected", None, None, 1.499, 2)),
    ("no second socket, and the first is answered", [{"after": 0.9}, {"socket": errno.EMFILE}], ("connected", None, None, 0.9, 2)),
    ("no second socket, and silence", [{}, {"socket": errno.EMFILE}], ("silent", None, None, 1.5, 2)),
    ("the kernel gave up before us", [{"after": 0.3, "error": errno.ETIMEDOUT}, {}], ("silent", None, None, 1.5, 2)),
    ("an unknown errno keeps its number", [{"now": 9999}], ("error", "connect", "E9999", 0.0, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
async def test_one_target(
    rows: list[dict[str, Any]], expected: tuple[Any, ...], autojump_clock: trio.testing.MockClock
) -> None:
    assert told((await play([rows]))[0]) == expected


async def test_targets_do_not_wait_for_each_other(autojump_clock: trio.testing.MockClock) -> None:
    done = await play([[{}], [{"after": 0.2}], [{"now": errno.EPERM}], [{}]])
    assert [done[i].result for i in range(4)] == ["silent", "connected", "error", "silent"]
    assert trio.current_time() == pytest.approx(1.5)


async def test_a_cap_on_addresses_only_delays_the_clock_of_each_is_its_own(
    autojump_clock: trio.testing.MockClock,
) -> None:
    done = await play([[{}]] * 4, concurrency=1)
    assert [round(done[i].elapsed, 3) for i in range(4)] == [1.5] * 4
    assert trio.current_time() == pytest.approx(6.0)


async def test_the_rate_is_kept_on_average(autojump_clock: trio.testing.MockClock) -> None:
    await play([[{"now": errno.EPERM}]] * 200, rate=100, packets=200)
    assert 1.6 < trio.current_time() < 2.4  # 200 packets at 100 per second, with jitter


async def test_a_spent_budget_starts_nothing(autojump_clock: trio.testing.MockClock) -> None:
    done = await play([[{}], [{}]], packets=3)
    assert told(done[0]) == ("silent", None, None, 1.5, 2)
    assert done[1].result == "silent"  # its second try was not paid for
    assert told((await play([[{}]], packets=0))[0])[:3] == ("error", "socket", "budget")


async def test_cancelling_closes_every_socket(autojump_clock: trio.testing.MockClock) -> None:
    with trio.move_on_after(0.2) as scope:
        await play([[{}]] * 5)
    assert scope.cancelled_caught


# --- real sockets ---


async def real(targets: list[Connect], limits: Deadlines, **more: Any) -> list[Connect]:
    done: list[Connect] = []
    await connect_many(
        targets, limits, Pace(more.pop("rate", 0), 100_000, ""), done.append, more.pop("concurrency", 1000)
    )
    return done


async def test_the_kernel_agrees_with_the_fake() -> None:
    with socket.socket() as listening, socket.socket() as bound:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        bound.bind(("127.0.0.1", 0))
        targets = [
            Connect("127.0.0.1", s.getsockname()[1], name) for s, name in ((listening, "open"), (bound, "closed"))
        ]
        targets.append(Connect("203.0.113.1", 80, "no route"))
        seen = {target.tag: target for target in await real(targets, deadlines(5.0, 1))}
    assert (seen["open"].result, seen["open"].source) == ("connected", "127.0.0.1")
    assert (seen["closed"].result, seen["closed"].error) == ("error", "ECONNREFUSED")
    assert (seen["no route"].error, seen["no route"].stage) == ("ENETUNREACH", "connect")


async def test_a_full_backlog_is_silence() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        held = []
        for _ in range(3):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listening.getsockname())
            held.append(sock)
        (seen,) = await real([Connect("127.0.0.1", listening.getsockname()[1])], deadlines(0.2, 2))
        for sock in held:
            sock.close()
    assert (seen.result, seen.tries) == ("silent", 2)


async def test_ten_thousand_accepting_targets_and_not_one_called_silent() -> None:
    listening = trio.socket.socket()
    await listening.bind(("127.0.0.1", 0))
    listening.listen(4096)
    port = listening.getsockname()[1]

    async def accept() -> None:
        while True:
            (await listening.accept())[0].close()

    with listening:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            done = await real(
                [Connect("127.0.0.1", port) for _ in range(10_000)], deadlines(0.1, 2), rate=5000, concurrency=4000
            )
            nursery.cancel_scope.cancel()
    assert len(done) == 10_000
    assert {target.result for target in done} == {"connected"}

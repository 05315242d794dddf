"""The inside half: orders in, one JSON line of evidence per check out. It knows no policy and judges nothing.

Order of a run: early rows (self-tests, controls, baseline) → their round trips set the deadline → all other rows →
lone retries where an ICMP rate limit may have turned rejections into silence → the controls once more.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace

import trio

from probe import latch
from probe.codec import DecodeError, decode, parse_json, to_line
from probe.documents import EVIDENCE_SCHEMA, Attempt, Calibration, End, Order, Orders, Record, Start
from probe.errors import UserError, first_user_error
from probe.sockets import raise_file_limit
from probe.techniques import load
from probe.techniques.base import Pace, Probe
from probe.techniques.names import Names
from probe.timing import ALONE, LONE_GAP, LONGEST, deadlines, estimate
from probe.vantage import look, tentative

_DAD_SECONDS = 3.0
_MOST_RETRIES = 10
_OPEN_FILES_SHARE = 0.9

Emit = Callable[[object], None]


async def run_orders(orders: Orders, emit: Emit) -> None:
    """Attempt everything that is ordered. `emit` gets Start, Calibration, Records and End. Raises LatchError."""
    latch.check(orders.forbid_netns, latch.from_environment(os.environ))
    await _Run(orders, emit).run()


class _Run:
    def __init__(self, orders: Orders, emit: Emit) -> None:
        self._orders = orders
        self._emit = emit
        self._started = trio.current_time()
        settings = orders.settings
        self._pace = Pace(settings.rate, orders.packets, settings.seed or orders.run_id)
        self._names = Names()
        most = int(raise_file_limit() * _OPEN_FILES_SHARE / settings.tries)
        self._concurrency = min(settings.concurrency or most, most)
        self._deadlines = deadlines(settings.deadline or LONGEST, settings.tries)
        self._open: dict[int, tuple[Order, list[Attempt]]] = {}  # controls that are attempted again at the end
        self._silent: dict[int, tuple[Order, list[Attempt]]] = {}  # what a lone retry may still change
        self._rejecters: set[bool] = set()  # families (is it v6?) in which a router rejected something
        self._records = 0

    async def run(self) -> None:
        self._emit(Start(EVIDENCE_SCHEMA, self._orders.run_id, look()))
        complete = False
        try:
            await self._settle()
            await self._phase([order for order in self._orders.orders if order.early])
            self._calibrate()
            await self._phase([order for order in self._orders.orders if not order.early])
            await self._retry()
            await self._close()
            complete = True
        finally:
            for order, attempts in [*self._silent.values(), *self._open.values()]:
                self._record(order, attempts)
            self._emit(End(self._records, complete, round(trio.current_time() - self._started, 6)))

    async def _close(self) -> None:
        """Controls and witnesses once more, slowly and one by one: a limit on new connections does not reach them now.

        Where no control ever answered, no silence can be believed, and nothing is gained by asking again.
        """
        if not any(order.early and any(map(_answered, attempts)) for order, attempts in self._open.values()):
            return
        # A host farther away than the controls, and the kernel's own retransmission, have time: nothing is in a hurry.
        self._deadlines = ALONE
        # Witnesses first: a control's conversation must not use up what a limit still lets pass.
        for order, _ in sorted(self._open.values(), key=lambda pair: pair[0].early):
            await trio.sleep(LONE_GAP)
            await self._phase([order], again=True)

    async def _settle(self) -> None:
        with trio.move_on_after(_DAD_SECONDS):
            while tentative():
                await trio.sleep(0.05)

    async def _phase(self, orders: Iterable[Order], again: bool = False) -> None:
        by_technique: dict[str, list[Order]] = {}
        for order in orders:
            by_technique.setdefault(order.technique, []).append(order)
        probe = self._probe(self._finish_again if again else self._finish, again)
        async with trio.open_nursery() as nursery:
            for name, some in by_technique.items():
                nursery.start_soon(load(name).run, some, probe)

    def _probe(self, finish: Callable[[Order, list[Attempt]], None], again: bool) -> Probe:
        return Probe(self._started, self._pace, self._deadlines, self._names, self._concurrency, finish, again)

    def _finish(self, order: Order, attempts: list[Attempt]) -> None:
        self._rejecters |= {":" in (a.address or "") for a in attempts if _by_a_router(a)}
        if order.repeat:
            self._open[order.n] = (order, attempts)
        elif order.technique == "tcp_connect" and _silent(attempts):
            self._silent[order.n] = (order, attempts)
        else:
            self._record(order, attempts)

    def _finish_again(self, order: Order, attempts: list[Attempt]) -> None:
        _, before = self._open.pop(order.n)
        self._record(order, [*before, *attempts])

    def _calibrate(self) -> None:
        # Loopback says nothing of the network's round trips.
        answered = [
            attempt.elapsed
            for order, attempts in self._open.values()
            if order.self_test is None
            for attempt in attempts
            if attempt.step == "connect" and attempt.result == "connected"
        ]
        settings = self._orders.settings
        answer = settings.deadline or estimate(answered)
        self._deadlines = deadlines(answer, settings.tries)
        self._emit(Calibration(round(self._deadlines.total, 6), len(answered)))

    async def _retry(self) -> None:
        """Alone and slowly, where a router rejects: its limit on ICMP errors makes rejections look like silence."""
        async with trio.open_nursery() as nursery:
            for six in self._rejecters:
                group = [
                    order
                    for order, attempts in self._silent.values()
                    if order.destination.address and (":" in order.destination.address) is six
                ]
                nursery.start_soon(self._retry_slowly, group[:_MOST_RETRIES])

    async def _retry_slowly(self, group: list[Order]) -> None:
        for order in group:
            await trio.sleep(LONE_GAP)
            last: list[Attempt] = []

            def finish(done: Order, attempts: list[Attempt], last: list[Attempt] = last) -> None:
                last += attempts
                _, before = self._silent.pop(done.n)
                self._record(done, [*before, *attempts])

            await load(order.technique).run([order], self._probe(finish, again=True))
            if _silent(last):
                return  # no rate limit made it silent: the others are what they seem

    def _record(self, order: Order, attempts: list[Attempt]) -> None:
        self._records += 1
        # Microseconds: a longer fraction is noise that every reader would have to carry.
        rounded = (replace(a, t=round(a.t, 6), elapsed=round(a.elapsed, 6)) for a in attempts)
        self._emit(Record(order.n, tuple(rounded)))


def _answered(attempt: Attempt) -> bool:
    return attempt.step in ("connect", "send") and attempt.result in ("connected", "answered")


def _silent(attempts: list[Attempt]) -> bool:
    """Every connect was; what follows an accept does not count."""
    connects = [attempt.result for attempt in attempts if attempt.step == "connect"]
    return bool(connects) and set(connects) == {"silent"}


def _by_a_router(attempt: Attempt) -> bool:
    """Rejected by somebody who is neither this host nor the destination. A time exceeded that we asked for is not."""
    asked = attempt.step == "walk"
    return not asked and attempt.icmp is not None and attempt.icmp.offender not in (attempt.source, attempt.address)


def read_orders(text: str) -> Orders:
    """One line of orders. Raises UserError."""
    try:
        return decode(Orders, parse_json(text, "orders"))
    except DecodeError as error:
        raise UserError(f"orders: {error}") from None


def main() -> int:
    """Orders as one line on stdin, evidence lines on stdout. Exit 0, or 2 with one line on stderr."""

    def emit(line: object) -> None:
        sys.stdout.write(to_line(line) + "\n")
        sys.stdout.flush()

    async def until_stopped(orders: Orders) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:

                async def work() -> None:
                    await run_orders(orders, emit)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(work)
                async for _ in signals:
                    nursery.cancel_scope.cancel()
                    break

    status = 0
    try:
        trio.run(until_stopped, read_orders(sys.stdin.readline()))
    except* UserError as errors:
        print(f"egress-probe agent: {first_user_error(errors)}", file=sys.stderr)
        status = 2
    except* BrokenPipeError:
        status = 1  # nobody reads the evidence any more
    return status


if __name__ == "__main__":
    sys.exit(main())

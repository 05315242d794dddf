"""One run of the agent, phase by phase. It decides what is attempted when; the facts go out as evidence lines.

Early rows (self-tests, controls, baseline) → more samples of the controls, which set deadline and number of tries → all
other rows → lone retries where an ICMP rate limit may have turned rejections into silence → hop walks → second looks at
what this host itself may have dropped → witnesses and controls once more, alone.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import trio

from probe.annotate import annotated
from probe.counters import moved, read_counters
from probe.documents import EVIDENCE_SCHEMA, Attempt, Calibration, Counters, End, Order, Orders, Record, Start
from probe.engine import Connect, connect_many
from probe.model import Transport
from probe.placing import Placing
from probe.sockets import raise_file_limit
from probe.techniques import load
from probe.techniques.base import Pace, Probe
from probe.techniques.names import Names
from probe.techniques.tcp_connect import as_attempt
from probe.timing import (
    ALONE,
    FEWEST_TRIES,
    HOLD,
    LONE_GAP,
    LONGEST,
    MOST_RETRIES,
    MOST_SECOND_LOOKS,
    SAMPLES,
    Deadlines,
    deadlines,
    estimate,
    lost_answer,
    tries_for,
)
from probe.vantage import look, tentative

_DAD_SECONDS = 3.0
_OPEN_FILES_SHARE = 0.9
_SAMPLE_GAP = 0.02
_LONE_ANSWER = 0.5

# A later phase asks once more, from another side.
_UNSETTLED = ("ECONNREFUSED", "ENOBUFS", "EACCES", "EPERM")

Emit = Callable[[object], None]
Row = tuple[Order, list[Attempt]]


@dataclass(slots=True)
class _Samples:
    elapsed: list[float] = field(default_factory=list)  # of those that were answered
    tried: int = 0
    missed: int = 0  # … whose first SYN was not answered in time


class Run:
    """The phases share what is held back until the end: rows to which a later phase may add an attempt."""

    def __init__(self, orders: Orders, emit: Emit) -> None:
        self._orders = orders
        self._emit = emit
        self._started = trio.current_time()
        settings = orders.settings
        self._pace = Pace(settings.rate, orders.packets, settings.seed or orders.run_id)
        self._names = Names()
        most = int(raise_file_limit() * _OPEN_FILES_SHARE / max(settings.tries, FEWEST_TRIES))
        self._concurrency = min(settings.concurrency or most, most)
        self._deadlines = self._given(settings.deadline or LONGEST, min(FEWEST_TRIES, settings.tries))
        self._held: dict[int, Row] = {}
        self._rejecters: set[bool] = set()  # families (is it v6?) in which a router rejected something
        self._records = 0

    def _given(self, answer: float, tries: int) -> Deadlines:
        """The operator's deadline is a bound: then silence is not held to see the kernel's own retransmission."""
        return deadlines(answer, tries, 0.0 if self._orders.settings.deadline else HOLD)

    async def run(self) -> None:
        """All phases. What was held back is written whatever happens."""
        self._emit(Start(EVIDENCE_SCHEMA, self._orders.run_id, look()))
        complete = False
        try:
            await self._settle()
            await self._phase([order for order in self._orders.orders if order.early])
            await self._calibrate()
            await self._phase([order for order in self._orders.orders if not order.early])
            await self._retry()
            await self._place()
            await self._look_again()
            await self._close()
            complete = True
        finally:
            for order, attempts in list(self._held.values()):
                self._record(order, attempts)
            self._emit(End(self._records, complete, round(trio.current_time() - self._started, 6)))

    async def _settle(self) -> None:
        with trio.move_on_after(_DAD_SECONDS):
            while tentative():
                await trio.sleep(0.05)

    # --- attempting ---------------------------------------------------------------------------------------------------

    async def _phase(self, orders: Iterable[Order], again: bool = False) -> None:
        by_technique: dict[str, list[Order]] = {}
        for order in orders:
            by_technique.setdefault(order.technique, []).append(order)
        probe = self._probe(self._finish, again)
        async with trio.open_nursery() as nursery:
            for name, some in by_technique.items():
                nursery.start_soon(load(name).run, some, probe)

    def _probe(self, finish: Callable[[Order, list[Attempt]], None], again: bool) -> Probe:
        return Probe(
            self._started,
            self._pace,
            self._deadlines,
            self._names,
            self._concurrency,
            finish,
            again,
            cannot=self._cannot,
        )

    def _cannot(self, order: Order, reason: str) -> None:
        """The technique cannot run here; attempts that it made before stand."""
        _, before = self._held.pop(order.n, (order, []))
        if before:
            self._record(order, before)
        else:
            self._records += 1
            self._emit(Record(order.n, (), not_run=reason))

    def _finish(self, order: Order, attempts: list[Attempt]) -> None:
        made = [annotated(attempt) for attempt in attempts]
        self._rejecters |= {":" in (a.address or "") for a in made if _by_a_router(a)}
        _, before = self._held.get(order.n, (order, []))
        if order.self_test is None and (before or order.repeat or any(map(_may_change, made))):
            self._held[order.n] = (order, [*before, *made])
        else:
            self._record(order, made)

    def _record(self, order: Order, attempts: list[Attempt]) -> None:
        self._held.pop(order.n, None)
        self._records += 1
        # Microseconds: a longer fraction is noise that every reader would have to carry.
        rounded = (replace(a, t=round(a.t, 6), elapsed=round(a.elapsed, 6)) for a in attempts)
        self._emit(Record(order.n, tuple(rounded)))

    # --- calibration --------------------------------------------------------------------------------------------------

    async def _calibrate(self) -> None:
        """Round trips and loss, from the controls. Loopback says nothing of the network and is not among them."""
        found = _Samples()
        answered: list[Attempt] = []
        for order, attempts in self._held.values():
            for attempt in attempts if order.early else ():
                if attempt.step == "connect" and attempt.result == "connected" and attempt.address != attempt.source:
                    answered.append(attempt)
                    found.elapsed.append(attempt.elapsed)
                    found.tried += 1
                    found.missed += attempt.tries > 1
        if self._orders.settings.tries > 1:
            await self._sample(answered, found)
        settings = self._orders.settings
        targets = sum(not order.early for order in self._orders.orders)
        tries = tries_for(targets, found.tried, found.missed, settings.tries)
        self._deadlines = self._given(settings.deadline or estimate(found.elapsed), tries)
        lost = lost_answer(self._deadlines, found.tried, found.missed)
        total = round(self._deadlines.total, 6)
        self._emit(Calibration(total, found.tried, found.missed, tries, None if lost is None else round(lost, 9)))

    async def _sample(self, answered: list[Attempt], found: _Samples) -> None:
        """Further connects, one try each, a little apart: a share of lost first tries needs more than one sample."""
        one = Deadlines(LONGEST, LONGEST, 1)

        def done(target: Connect) -> None:
            found.tried += target.result != "error"
            if target.result == "connected":
                found.elapsed.append(target.elapsed)
            elif target.result == "silent":
                found.missed += 1

        async with trio.open_nursery() as nursery:
            for attempt in answered:
                for index in range(SAMPLES):
                    target = Connect(attempt.address or "", attempt.port or 0)
                    nursery.start_soon(self._after, index * _SAMPLE_GAP, [target], one, done)

    async def _after(
        self, seconds: float, targets: list[Connect], limits: Deadlines, done: Callable[[Connect], None]
    ) -> None:
        await trio.sleep(seconds)
        await connect_many(targets, limits, self._pace, done, len(targets))

    # --- second thoughts ----------------------------------------------------------------------------------------------

    async def _retry(self) -> None:
        """Alone and slowly, where a router rejects: its limit on ICMP errors makes rejections look like silence."""
        async with trio.open_nursery() as nursery:
            for six in self._rejecters:
                nursery.start_soon(self._retry_family, six)

    async def _retry_family(self, six: bool) -> None:
        """Spread over the rows: a sample not all of one kind. The transports share the router's limit, so in turn."""
        for transport in (Transport.TCP, Transport.UDP):
            group = [
                order
                for order, attempts in self._held.values()
                if order.destination.address
                and not (order.repeat and self._will_close())
                and (":" in order.destination.address) is six
                and _silent(attempts)
                and attempts[0].transport is transport
            ]
            gap = LONE_GAP
            for order in _spread(group, MOST_RETRIES):
                if not await self._rejected_alone(order, gap):
                    # Linux charges an error about a missing route twice: for the route, and for the ICMP message.
                    gap = 2 * LONE_GAP
                    if not await self._rejected_alone(order, gap):
                        break  # no rate limit made it silent: the others are what they seem

    async def _rejected_alone(self, order: Order, gap: float) -> bool:
        """One packet, after a silence of `gap`."""
        await trio.sleep(gap)
        known = len(self._held[order.n][1])
        one = Deadlines(max(self._deadlines.answer, _LONE_ANSWER), LONGEST, 1)
        await load(order.technique).run([order], replace(self._probe(self._finish, again=True), deadlines=one))
        row = self._held.get(order.n)
        return row is None or not _silent(row[1][known:])

    async def _place(self) -> None:
        """Hop walks: controls and witnesses, what accepted or refused, and one silence of each group."""
        if self._orders.settings.walk:
            await Placing(self._probe(self._finish, again=False), self._held).run()

    async def _look_again(self) -> None:
        """What the kernel says that it did not send: once more, for longer, to tell a firewall from a full queue."""
        closes = self._will_close()
        rows = [
            (order, attempts)
            for order, attempts in self._held.values()
            if any(map(_never_left, attempts)) and not (order.repeat and closes) and not any(a.again for a in attempts)
        ][:MOST_SECOND_LOOKS]
        targets = [
            Connect(a.address or "", a.port or 0, order)
            for order, attempts in rows
            for a in attempts
            if _never_left(a) and a.step == "connect" and not a.again
        ]
        probe = replace(self._probe(self._finish, again=True), deadlines=ALONE)

        def done(target: Connect) -> None:
            order = target.tag
            assert isinstance(order, Order)
            self._held[order.n][1].append(annotated(as_attempt(target, probe)))

        if targets:
            await connect_many(targets, ALONE, self._pace, done, self._concurrency)
        for order, attempts in rows:
            if attempts[0].error == "ENOBUFS":
                await load(order.technique).run([order], probe)

    async def _close(self) -> None:
        """Controls and witnesses once more, slowly and one by one: a limit on new connections does not reach them now.

        Where no control ever answered, no silence can be believed, and nothing is gained by asking again.
        """
        rows = [row for row in self._held.values() if row[0].repeat]
        if not self._will_close():
            return
        # A host farther away than the controls, and the kernel's own retransmission, have time: nothing is in a hurry.
        self._deadlines = ALONE
        # Witnesses first: a control's conversation must not use up what a limit still lets pass.
        for order, attempts in sorted(rows, key=lambda row: row[0].early):
            await trio.sleep(LONE_GAP)
            before = read_counters()
            known = len(attempts)
            await self._phase([order], again=True)
            self._count(order, known, moved(before, read_counters()))

    def _will_close(self) -> bool:
        """Whether controls and witnesses are tried once more, so that no earlier phase need do it."""
        early = (attempts for order, attempts in self._held.values() if order.repeat and order.early)
        return any(any(map(_answered, attempts)) for attempts in early)

    def _count(self, order: Order, known: int, counted: dict[int, Counters]) -> None:
        """How many packets left this namespace while one silent destination was tried alone."""
        if order.n not in self._held:
            return
        attempts = self._held[order.n][1]
        for place_, attempt in enumerate(attempts):
            if place_ >= known and attempt.result == "silent" and attempt.step == "connect":
                attempts[place_] = replace(attempt, counters=counted.get(_family(attempt)))


def _family(attempt: Attempt) -> int:
    return 6 if ":" in (attempt.address or "") else 4


def _answered(attempt: Attempt) -> bool:
    return attempt.step in ("connect", "send") and attempt.result in ("connected", "answered")


def _may_change(attempt: Attempt) -> bool:
    """A later phase may say more of it: a silence, an accept, an RST, a full queue."""
    if attempt.step not in ("connect", "send", "query"):
        return False
    return attempt.result in ("silent", "connected") or attempt.error in _UNSETTLED


def _silent(attempts: list[Attempt]) -> bool:
    """Every try was; what follows an accept does not count."""
    tried = [attempt.result for attempt in attempts if attempt.step in ("connect", "send", "query")]
    return bool(tried) and set(tried) == {"silent"}


def _never_left(attempt: Attempt) -> bool:
    """The kernel's second SYN did not leave this host, or the datagram met a full queue or a hook that says so."""
    if attempt.error == "ENOBUFS":
        return True
    return attempt.result == "silent" and attempt.tcp is not None and attempt.tcp.resent > attempt.tcp.left == 0


def _by_a_router(attempt: Attempt) -> bool:
    """Rejected by somebody who is neither this host nor the destination. A time exceeded that we asked for is not."""
    asked = attempt.step == "walk"
    return not asked and attempt.icmp is not None and attempt.icmp.offender not in (attempt.source, attempt.address)


def _spread(orders: list[Order], most: int) -> list[Order]:
    """At most `most` of them, from all over the list."""
    step = max(len(orders) / most, 1.0)
    return [orders[int(place_ * step)] for place_ in range(min(most, len(orders)))]

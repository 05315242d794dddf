"""What the phases of a run share: how techniques are run, and the rows that are held back until the end.

A row is held as long as a later phase may add an attempt to it; the others go out as evidence at once.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import trio

from probe.annotate import annotated
from probe.documents import Attempt, Order, Orders, Record
from probe.sockets import raise_file_limit
from probe.techniques import load
from probe.techniques.base import Pace, Probe
from probe.techniques.names import Names
from probe.timing import FEWEST_TRIES, HOLD, LONGEST, Deadlines, deadlines

_OPEN_FILES_SHARE = 0.9

Emit = Callable[[object], None]
Row = tuple[Order, list[Attempt]]

# Errors that a later phase asks about once more, from another side.
_UNSETTLED = ("ECONNREFUSED", "ENOBUFS", "EACCES", "EPERM")
# Steps of a technique itself; the others follow from their results.
STEPS = ("connect", "send", "query", "raw")


class Attempting:
    """`held`: rows by their order's number. `rejecters`: families (is it v6?) in which a router rejected something."""

    def __init__(self, orders: Orders, emit: Emit) -> None:
        settings = orders.settings
        self.started = trio.current_time()
        self.settings = settings
        self.pace = Pace(settings.rate, orders.packets, settings.seed or orders.run_id)
        most = int(raise_file_limit() * _OPEN_FILES_SHARE / max(settings.tries, FEWEST_TRIES))
        self.concurrency = min(settings.concurrency or most, most)
        self.deadlines = self.held_for(settings.deadline or LONGEST, min(FEWEST_TRIES, settings.tries))
        self.held: dict[int, Row] = {}
        self.rejecters: set[bool] = set()
        self.records = 0
        self._names = Names()
        self._emit = emit

    def held_for(self, answer: float, tries: int) -> Deadlines:
        """The operator's deadline is a bound: then silence is not held to see the kernel's own retransmission."""
        return deadlines(answer, tries, 0.0 if self.settings.deadline else HOLD)

    def probe(self, again: bool = False, limits: Deadlines | None = None) -> Probe:
        """What a technique is given in this phase."""
        return Probe(
            self.started,
            self.pace,
            limits or self.deadlines,
            self._names,
            self.concurrency,
            self._finish,
            again=again,
            scan_signature=self.settings.scan_signature,
            cannot=self._cannot,
        )

    async def attempt(self, orders: Iterable[Order], again: bool = False, limits: Deadlines | None = None) -> None:
        """Every order, each technique beside the others."""
        by_technique: dict[str, list[Order]] = {}
        for order in orders:
            by_technique.setdefault(order.technique, []).append(order)
        probe = self.probe(again, limits)
        async with trio.open_nursery() as nursery:
            for name, some in by_technique.items():
                nursery.start_soon(load(name).run, some, probe)

    def attempts_of(self, order: Order) -> list[Attempt]:
        """What is held of a row so far."""
        return self.held.get(order.n, (order, []))[1]

    def will_close(self) -> bool:
        """Whether controls and witnesses are tried once more, so that no earlier phase need do it.

        Where no control ever answered, no silence can be believed, and nothing is gained by asking again.
        """
        early = (attempts for order, attempts in self.held.values() if order.repeat and order.early)
        return any(any(map(_answered, attempts)) for attempts in early)

    def record_all(self) -> None:
        """Everything that is still held goes out."""
        for order, attempts in list(self.held.values()):
            self._record(order, attempts)

    def _cannot(self, order: Order, reason: str) -> None:
        """The technique cannot run here; attempts that it made before stand."""
        before = self.attempts_of(order)
        if before:
            self._record(order, before)
        else:
            self.records += 1
            self._emit(Record(order.n, (), not_run=reason))

    def _finish(self, order: Order, attempts: list[Attempt]) -> None:
        made = [annotated(attempt) for attempt in attempts]
        self.rejecters |= {":" in (a.address or "") for a in made if _by_a_router(a)}
        before = self.attempts_of(order)
        if order.self_test is None and (before or order.repeat or order.lone or any(map(_may_change, made))):
            self.held[order.n] = (order, [*before, *made])
        else:
            self._record(order, made)

    def _record(self, order: Order, attempts: list[Attempt]) -> None:
        self.held.pop(order.n, None)
        self.records += 1
        # Microseconds: a longer fraction is noise that every reader would have to carry.
        rounded = (replace(a, t=round(a.t, 6), elapsed=round(a.elapsed, 6)) for a in attempts)
        self._emit(Record(order.n, tuple(rounded)))


def family_of(attempt: Attempt) -> int:
    """IP version of the socket."""
    return 6 if ":" in (attempt.address or "") else 4


def _answered(attempt: Attempt) -> bool:
    if attempt.dns is not None:
        return attempt.step == "query" and bool(attempt.dns.records)  # a resolver's "no" is no control's answer
    return attempt.step in ("connect", "send") and attempt.result in ("connected", "answered")


def _may_change(attempt: Attempt) -> bool:
    """A later phase may say more of it: a silence, an accept, an RST, a refusal at once, a full queue."""
    if attempt.step not in STEPS:
        return False
    return attempt.result in ("silent", "connected") or attempt.error in _UNSETTLED


def _by_a_router(attempt: Attempt) -> bool:
    """Rejected by somebody who is neither this host nor the destination. A time exceeded that we asked for is not."""
    asked = attempt.step == "walk"
    return not asked and attempt.icmp is not None and attempt.icmp.offender not in (attempt.source, attempt.address)

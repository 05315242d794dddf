"""What a technique is given: the clock, the pace, the deadlines, the names, and where to put its attempts."""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from probe.documents import Attempt, Order
from probe.timing import Deadlines

if TYPE_CHECKING:
    from probe.techniques.names import Names

# Conversations at the same time. They are few, and each holds a socket for seconds.
_TOGETHER = 100


class Pace:
    """The cap on packets per second, with jitter, and the budget of the run. Rate 0 = no cap."""

    def __init__(self, rate: float, packets: int, seed: str) -> None:
        self._gap = 1.0 / rate if rate else 0.0
        self._left = packets
        self._next = 0.0
        self._jitter = random.Random(seed)

    def next_start(self) -> float:
        """The time before which no packet may start."""
        return self._next

    def take(self, packets: int = 1) -> bool:
        """Book the next packets. False: the budget is spent, and nothing may be sent."""
        if self._left < packets:
            return False
        self._left -= packets
        if self._gap:
            # Gaps between half and one and a half: staggered, and still the promised rate.
            now = trio.current_time()
            gap = self._gap * packets * (0.5 + self._jitter.random())
            self._next = max(self._next, now - self._gap) + gap
        return True

    async def leave(self, packets: int = 1) -> bool:
        """Wait for the next packets' time and book them."""
        while (now := trio.current_time()) < self._next:
            await trio.sleep(self._next - now)
        return self.take(packets)


@dataclass(frozen=True, slots=True)
class NotRun:
    """What an attempt is where the technique cannot run: nothing was sent, and `reason` says what is missing."""

    reason: str


def _unheard(order: Order, reason: str) -> None:
    raise RuntimeError(f"{order.technique} cannot run, and nobody asked: {reason}")


@dataclass(slots=True)
class Probe:
    """The surroundings of every attempt in one phase of a run."""

    started: float  # trio's clock at the start of the run
    pace: Pace
    deadlines: Deadlines
    names: "Names"
    concurrency: int
    finish: Callable[[Order, list[Attempt]], None]
    scan_signature: bool = False  # raw SYNs look like the scanner's that defenders know
    again: bool = False  # the closing attempts of controls, or lone retries
    cannot: Callable[[Order, str], None] = _unheard  # instead of `finish`, with the reason
    together: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(_TOGETHER))

    def now(self) -> float:
        """Seconds since the start of the run."""
        return trio.current_time() - self.started

    async def addresses(self, order: Order) -> tuple[tuple[str, ...], list[Attempt]]:
        """The addresses of the order's destination, and the look-ups that gave them."""
        if order.destination.address is not None:
            return (order.destination.address,), []
        return await self.names.lookup(order.destination.host or "", self.pace, self.started)

    async def each(
        self, orders: Sequence[Order], attempt: Callable[[Order, "Probe"], Awaitable[list[Attempt] | NotRun]]
    ) -> None:
        """Run `attempt` for every order, a bounded number together."""

        async def one(order: Order) -> None:
            async with self.together:
                made = await attempt(order, self)
                if isinstance(made, NotRun):
                    self.cannot(order, made.reason)
                else:
                    self.finish(order, made)

        async with trio.open_nursery() as nursery:
            for order in orders:
                nursery.start_soon(one, order)

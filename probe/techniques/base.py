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


@dataclass(slots=True)
class Probe:
    """The surroundings of every attempt in one phase of a run."""

    started: float  # trio's clock at the start of the run
    pace: Pace
    deadlines: Deadlines
    names: "Names"
    concurrency: int
    finish: Callable[[Order, list[Attempt]], None]
    again: bool = False  # the closing attempts of controls, or lone retries
    together: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(_TOGETHER))

    def now(self) -> float:
        """Seconds since the start of the run."""
        return trio.current_time() - self.started

    async def each(
        self, orders: Sequence[Order], attempt: Callable[[Order, "Probe"], Awaitable[list[Attempt]]]
    ) -> None:
        """Run `attempt` for every order, a bounded number together."""

        async def one(order: Order) -> None:
            async with self.together:
                self.finish(order, await attempt(order, self))

        async with trio.open_nursery() as nursery:
            for order in orders:
                nursery.start_soon(one, order)

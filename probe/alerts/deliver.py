"""Delivery: every alert to its channel, now. Nothing is kept here; what is still pending afterwards is the caller's.

Channels run beside each other, the alerts of one channel one after another.
"""

import random as randomness
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from probe.alert import Alert
from probe.alerts.base import Channel, DeliveryError

PAUSES = (0.5, 2.0, 8.0)  # seconds before an alert is sent again, times 0.5 to 1.5
MOST_AFTER = 30.0  # seconds that the other side may ask us to wait for, within one delivery


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one alert. `error`: why it was not delivered, in one line; None: it was.

    `again`: it may be sent again. `tried`: whether it was sent at all.
    """

    error: str | None
    again: bool
    tried: bool = True

    @property
    def delivered(self) -> bool:
        """Whether the channel took it."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class _Way:
    """How to go about it, for every channel."""

    tries: int
    sleep: Callable[[float], Awaitable[object]]
    random: Callable[[], float]


async def deliver(
    pending: Sequence[tuple[Alert, Channel]],
    *,
    tries: int = 3,
    sleep: Callable[[float], Awaitable[object]] = trio.sleep,
    random: Callable[[], float] = randomness.random,
    within: float = 60.0,
) -> list[Outcome]:
    """One outcome per entry of `pending`, in its order, within `within` seconds. `random`: from 0 up to 1.

    Where an alert could not be delivered and may be sent again, the later ones of its channel wait with it: they would
    arrive out of order. The caller must give up on one at some time, or it holds up its channel for good.
    """
    outcomes = [Outcome(f"not sent within {within:g} s", again=True, tried=False)] * len(pending)
    way = _Way(tries, sleep, random)
    with trio.move_on_after(within):
        async with trio.open_nursery() as nursery:
            for channel in dict.fromkeys(channel for _, channel in pending):
                places = [place for place, (_, its) in enumerate(pending) if its == channel]
                nursery.start_soon(_in_order, pending, places, outcomes, way)
    return outcomes


async def _in_order(
    pending: Sequence[tuple[Alert, Channel]], places: Sequence[int], outcomes: list[Outcome], way: _Way
) -> None:
    """The alerts of one channel, until one must be sent again later. Told as it comes: time may run out."""
    for number, place in enumerate(places):
        outcomes[place] = Outcome("no end of it in time: it may have arrived", again=True)
        for attempt in range(1, way.tries + 1):
            outcomes[place], after = await _once(*pending[place])
            # Who asks for more time than there is gets it: the caller comes again.
            if not outcomes[place].again or attempt == way.tries or after > MOST_AFTER:
                break
            await way.sleep(max(after, PAUSES[min(attempt, len(PAUSES)) - 1] * (0.5 + way.random())))
        if outcomes[place].again:
            for later in places[number + 1 :]:
                outcomes[later] = Outcome("not sent: an earlier alert waits", again=True, tried=False)
            return


async def _once(alert: Alert, channel: Channel) -> tuple[Outcome, float]:
    """What became of one try, and for how many seconds the other side asks for peace."""
    try:
        await channel.send(alert)
    except DeliveryError as error:
        return Outcome(str(error), error.again), error.after or 0.0
    return Outcome(None, again=False), 0.0

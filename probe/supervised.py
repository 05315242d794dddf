"""A run under supervision: it ends by itself, by a signal, at its deadline, or when nobody reads it any more.

What was done until then still goes out.
"""

import math
import select
import signal

import trio

from probe.attempting import Emit
from probe.documents import Orders
from probe.phases import run

_STOPS = (signal.SIGINT, signal.SIGTERM)
_LOOK_EVERY = 1.0  # seconds


async def supervised(orders: Orders, emit: Emit, reader: int | None = None) -> None:
    """Everything that is ordered. `reader`: a descriptor whose reader may leave."""
    with trio.open_signal_receiver(*_STOPS) as signals:
        async with trio.open_nursery() as nursery:
            scope = nursery.cancel_scope
            scope.deadline = math.inf if orders.seconds is None else trio.current_time() + orders.seconds

            async def stop() -> None:
                await anext(aiter(signals))
                scope.cancel()

            nursery.start_soon(stop)
            if reader is not None:
                nursery.start_soon(_until_unread, reader, scope)
            await run(orders, emit)
            scope.cancel()


async def _until_unread(reader: int, scope: trio.CancelScope) -> None:
    """Between two lines of evidence much time may pass, and a write would tell only then."""
    poll = select.poll()
    poll.register(reader, 0)  # errors and hang-ups are always told
    while not poll.poll(0):
        await trio.sleep(_LOOK_EVERY)
    scope.cancel()

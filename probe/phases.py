"""One run of the agent, phase by phase: what is attempted when. The facts go out as evidence lines.

A few denied ones alone, before any limit on crowds has seen something → early rows (self-tests, controls, baseline) →
more samples of the controls, which set deadline and number of tries → all other rows → lone retries where an ICMP rate
limit may have turned rejections into silence → hop walks → second looks at what this host itself may have dropped →
witnesses and controls once more, alone.
"""

import trio

from probe.alone import begin, close, look_again, retry, single_out, watch
from probe.attempting import Attempting, Emit
from probe.calibrating import calibrate
from probe.documents import EVIDENCE_SCHEMA, End, Orders, Start
from probe.placing import Placing
from probe.vantage import look, tentative

_DAD_SECONDS = 3.0


async def run(orders: Orders, emit: Emit) -> None:
    """All phases. What is still held back is written whatever happens."""
    attempting = Attempting(orders, emit)
    emit(Start(EVIDENCE_SCHEMA, orders.run_id, look()))
    complete = False
    try:
        await _settle()
        await _phases(attempting, orders, emit)
        complete = True
    finally:
        attempting.record_all()
        emit(End(attempting.records, complete, round(trio.current_time() - attempting.started, 6)))


async def _phases(attempting: Attempting, orders: Orders, emit: Emit) -> None:
    early = [order for order in orders.orders if order.early]
    others = [order for order in orders.orders if not order.early]
    await begin(attempting, orders.orders)
    await attempting.attempt(early)
    emit(await calibrate(attempting, len(others)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, attempting)
        await attempting.attempt(others)
        nursery.cancel_scope.cancel()
    await retry(attempting)
    if orders.settings.walk:
        await Placing(attempting.probe(), attempting.held).run()
    await look_again(attempting)
    await single_out(attempting)
    await close(attempting)


async def _settle() -> None:
    """An IPv6 address in duplicate address detection would fail a connect for that reason alone."""
    with trio.move_on_after(_DAD_SECONDS):
        while tentative():
            await trio.sleep(0.05)

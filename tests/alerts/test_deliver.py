"""Delivery with channels that are functions and a clock that jumps: order, pauses, deadlines, exactly."""

import pytest
import trio
from trio.testing import MockClock

from probe.alert import Alert
from probe.alerts.base import Channel, DeliveryError
from probe.alerts.deliver import Outcome, deliver
from tests.alerts.make import alert

TAKEN = Outcome(None, False)
WAITS = Outcome("not sent: an earlier alert waits", True, tried=False)
ONE, TWO, THREE = (alert(id=str(n)) for n in (1, 2, 3))
BUSY = DeliveryError("busy", again=True)


class Scripted:
    """A channel that does what its script says, one entry per call: None takes the alert; a number of seconds passes."""

    def __init__(self, name: str, *script: DeliveryError | float | None) -> None:
        self.got: list[tuple[float, str]] = []
        self._script = iter(script)
        self.channel = Channel(name, self._send)

    async def _send(self, alert: Alert) -> None:
        self.got.append((round(trio.current_time(), 6), alert.id))
        step = next(self._script, None)
        if isinstance(step, DeliveryError):
            raise step
        await trio.sleep(step or 0)


def half() -> float:
    return 0.5  # of the jitter: each pause is as it stands in the table


async def test_nothing_pending() -> None:
    assert await deliver([]) == []


async def test_outcomes_stand_where_their_alerts_did(autojump_clock: MockClock) -> None:
    a, b = Scripted("a"), Scripted("b", DeliveryError("no such hook", again=False))
    pending = [(ONE, a.channel), (ONE, b.channel), (TWO, a.channel), (TWO, b.channel)]
    refused = Outcome("no such hook", False)
    assert await deliver(pending) == [TAKEN, refused, TAKEN, TAKEN]
    assert [identity for _, identity in b.got] == ["1", "2"]  # what will never be taken holds up nothing
    assert refused.delivered is False
    assert TAKEN.delivered is True


async def test_pauses_grow(autojump_clock: MockClock) -> None:
    a = Scripted("a", *[BUSY] * 5)
    assert await deliver([(ONE, a.channel)], tries=6, random=half) == [TAKEN]
    assert [at for at, _ in a.got] == [0, 0.5, 2.5, 10.5, 18.5, 26.5]


@pytest.mark.parametrize(("random", "second", "third"), [(0.0, 0.25, 1.25), (0.999, 0.7495, 3.7475)])
async def test_pauses_have_jitter(autojump_clock: MockClock, random: float, second: float, third: float) -> None:
    a = Scripted("a", BUSY, BUSY)
    assert await deliver([(ONE, a.channel)], random=lambda: random) == [TAKEN]
    assert [at for at, _ in a.got] == [0, second, third]


async def test_after_the_last_try_the_later_ones_wait_too(autojump_clock: MockClock) -> None:
    a, b = Scripted("a", None, BUSY, BUSY, BUSY), Scripted("b")
    pending = [(ONE, a.channel), (TWO, a.channel), (THREE, a.channel), (THREE, b.channel)]
    assert await deliver(pending) == [TAKEN, Outcome("busy", True), WAITS, TAKEN]
    assert [identity for _, identity in a.got] == ["1", "2", "2", "2"]


@pytest.mark.parametrize(("after", "times"), [(0.0, [0, 0.5]), (7.0, [0, 7]), (30.0, [0, 30]), (30.1, [0])])
async def test_who_asks_for_time_gets_it(autojump_clock: MockClock, after: float, times: list[float]) -> None:
    a = Scripted("a", DeliveryError("busy", again=True, after=after))
    outcomes = await deliver([(ONE, a.channel)], random=half)
    assert [at for at, _ in a.got] == times
    assert outcomes == [TAKEN if len(times) > 1 else Outcome("busy", True)]


async def test_one_that_hangs_delays_no_other(autojump_clock: MockClock) -> None:
    slow, quick = Scripted("slow", 1e9), Scripted("quick")
    pending = [(n, channel) for n in (ONE, TWO) for channel in (slow.channel, quick.channel)]
    assert await deliver(pending, within=60) == [
        Outcome("no end of it in time: it may have arrived", True), TAKEN, Outcome("not sent within 60 s", True, tried=False), TAKEN,
    ]  # fmt: skip
    assert quick.got == [(0, "1"), (0, "2")]
    assert trio.current_time() == pytest.approx(60)


async def test_time_runs_out_in_a_pause(autojump_clock: MockClock) -> None:
    a = Scripted("a", *[BUSY] * 9)
    assert await deliver([(ONE, a.channel), (TWO, a.channel)], within=2, tries=9, random=half) == [
        Outcome("busy", True), Outcome("not sent within 2 s", True, tried=False),
    ]  # fmt: skip
    assert len(a.got) == 2


async def test_two_channels_of_one_name_are_two(autojump_clock: MockClock) -> None:
    a, b = Scripted("same", *[BUSY] * 3), Scripted("same")
    assert await deliver([(ONE, a.channel), (ONE, b.channel)]) == [Outcome("busy", True), TAKEN]


async def test_the_sleep_is_the_callers(autojump_clock: MockClock) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    a = Scripted("a", BUSY, BUSY)
    assert await deliver([(ONE, a.channel)], sleep=sleep, random=half) == [TAKEN]
    assert slept == [0.5, 2.0]
    assert [at for at, _ in a.got] == [0, 0, 0]


async def test_a_bug_is_no_failure_of_a_channel() -> None:
    async def send(made: Alert) -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        await deliver([(ONE, Channel("a", send))])
    assert caught.group_contains(ZeroDivisionError)

"""Tokens that verify and tokens that do not, groups that are committed, strangers who are counted."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import dns.message
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from probe import tokens
from probe.collector import names
from probe.collector.desk import WINDOW, Desk, Known
from probe.collector.halves import Halves
from probe.collector.ratelimit import FOR_ALL, PER_PREFIX, Bucket, Limits, prefix
from probe.collector.store import Store
from probe.documents import Arrival, HalfOpen
from probe.model import Transport

RUN, OTHER = (tokens.new_run_id(1_790_000_000_000, bytes([n]) * 10) for n in (1, 2))
KEY, OTHERS_KEY = b"k" * 32, b"o" * 32
TOKEN = tokens.token(RUN, 7, KEY)
KNOWN = Known(RUN, 7, TOKEN, KEY)
ONE = Arrival(7, 100.0, "tcp", "tcp", "203.0.113.7", 40312, 4444)


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def desk(tmp_path: Path, clock: Clock) -> AsyncIterator[Desk]:
    store = Store(tmp_path / "a", rows=5, now=clock())
    made = Desk(store, clock, clock)
    assert made.register(RUN, KEY, 1000)
    assert made.register(OTHER, OTHERS_KEY, 1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        yield made
        nursery.cancel_scope.cancel()
    store.close()


FORGED = TOKEN[:-1] + ("a" if TOKEN[-1] != "a" else "b")
ANOTHER_CHECK = TOKEN.replace("-000007-", "-000008-")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (TOKEN, KNOWN),
        (TOKEN.upper(), KNOWN),
        (f"GET /{TOKEN} HTTP/1.1", KNOWN),
        (f"2{TOKEN}2", KNOWN),  # letters right beside it
        (f"{FORGED} {TOKEN}", KNOWN),
        (f"{FORGED} " * 3 + TOKEN, KNOWN),
        (f"{FORGED} " * 4 + TOKEN, None),  # work is bounded
        ("-000000-" * 100 + TOKEN, KNOWN),  # what has not even the form of a token is no candidate
        ("x" * (WINDOW - len(TOKEN)) + TOKEN, KNOWN),
        ("x" * (WINDOW - len(TOKEN) + 1) + TOKEN, None),
        (FORGED, None),
        (ANOTHER_CHECK, None),
        (TOKEN[:-1], None),
        (TOKEN[1:], None),
        (TOKEN[:30] + "\0" + TOKEN[30:], None),
        (tokens.token(RUN, 7, OTHERS_KEY), None),  # made with another run's key
        (tokens.token(tokens.new_run_id(0), 7, KEY), None),  # of a run that nobody registered
        (tokens.token(OTHER, 9, OTHERS_KEY), Known(OTHER, 9, tokens.token(OTHER, 9, OTHERS_KEY), OTHERS_KEY)),
        ("", None),
    ],
)
async def test_recognising(desk: Desk, data: str, found: Known | None) -> None:
    assert desk.recognise(data.encode()) == found


async def test_a_token_is_found_wherever_it_stands(desk: Desk) -> None:
    @given(before=st.binary(max_size=60), after=st.binary(max_size=60))
    def found(before: bytes, after: bytes) -> None:
        assert desk.recognise(before + TOKEN.encode() + after) == KNOWN

    found()


async def test_an_expired_run_is_a_stranger(desk: Desk, clock: Clock) -> None:
    clock.now = 1049.9
    assert desk.recognise(TOKEN.encode()) == KNOWN
    clock.now = 1050.0
    assert desk.recognise(TOKEN.encode()) is None
    assert desk.register(RUN, KEY, 10)
    assert desk.recognise(TOKEN.encode()) == KNOWN
    assert not desk.register(RUN, OTHERS_KEY, 10)
    assert desk.recognise(TOKEN.encode()) == KNOWN


async def test_a_run_is_known_by_any_spelling_of_its_id(desk: Desk) -> None:
    assert desk.register(RUN.lower(), KEY, 10)
    assert desk.said(RUN.lower()).run_id == RUN
    assert (desk.key(RUN.lower()), desk.key("NOBODY")) == (KEY, None)


async def test_a_restart_knows_the_runs(tmp_path: Path, clock: Clock) -> None:
    store = Store(tmp_path / "b", now=clock())
    Desk(store, clock).register(RUN, KEY, 1000)
    store.close()
    store = Store(tmp_path / "b", now=clock())
    assert Desk(store, clock).recognise(TOKEN.encode()) == KNOWN
    assert Desk(store, lambda: 1050.0).recognise(TOKEN.encode()) is None
    store.close()


async def test_what_was_kept_is_said_to_its_run_alone(desk: Desk) -> None:
    assert await desk.keep([(KNOWN, ONE)])
    assert await desk.keep([])
    assert desk.said(RUN).arrivals == (ONE,)
    assert desk.said(OTHER).arrivals == ()
    assert [one.port for one in desk.said(OTHER).reachable] == [4444]  # a port is everybody's


async def test_of_an_unknown_run_nothing_may_be_believed(desk: Desk) -> None:
    assert desk.said("NOBODY").lost == 1


async def test_one_run_at_its_cap_does_not_silence_another(desk: Desk) -> None:
    other = Known(OTHER, 9, tokens.token(OTHER, 9, OTHERS_KEY), OTHERS_KEY)
    assert await desk.keep([(KNOWN, ONE)] * 5)
    assert list(await desk.keep_each([(KNOWN, ONE), (other, ONE)])) == [False, True]
    assert not await desk.keep([(KNOWN, ONE), (other, ONE)])
    assert (desk.said(RUN).lost, desk.said(OTHER).lost) == (2, 0)


async def test_many_tasks_share_commits_and_each_gets_its_own_answer(tmp_path: Path) -> None:
    groups: list[int] = []

    class Counting(Store):
        def append(self, arrivals):
            groups.append(len(arrivals))
            return super().append(arrivals)

    store = Counting(tmp_path / "b", rows=60)
    desk = Desk(store)
    desk.register(RUN, KEY, 1000)
    kept: list[bool] = []

    async def one(n: int) -> None:
        kept.append(await desk.keep([(KNOWN, replace(ONE, check=n))]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.run)
        async with trio.open_nursery() as tasks:
            for n in range(100):
                tasks.start_soon(one, n)
        nursery.cancel_scope.cancel()
    assert sorted(kept) == [False] * 40 + [True] * 60
    assert sum(groups) == 100
    assert len(groups) < 10
    said = desk.said(RUN)
    assert (len(said.arrivals), said.lost) == (60, 40)
    store.close()


async def test_strangers_are_counted_and_answered_sparingly(desk: Desk, clock: Clock) -> None:
    answered = sum(desk.unknown(Transport.UDP, "198.51.100.9") for _ in range(1000))
    assert answered == PER_PREFIX[1]
    assert not desk.unknown(Transport.TCP, "198.51.100.77")  # the same /24
    assert desk.unknown(Transport.TCP, "203.0.113.9")
    clock.now += 1
    assert sum(desk.unknown(Transport.UDP, "198.51.100.9") for _ in range(1000)) == PER_PREFIX[0]
    assert desk.said(RUN).forged == 2002
    assert desk.said(RUN).lost == 0


@pytest.mark.parametrize(
    ("label", "admitted", "stored", "forged"),
    [(TOKEN, True, 1, 0), (FORGED, True, 0, 1), ("permitted", True, 0, 0)],
)
async def test_questions_are_admitted(desk: Desk, label: str, admitted: bool, stored: int, forged: int) -> None:
    zone = names.make_zone("exfil.example", ("203.0.113.53",))
    wire = dns.message.make_query(f"{label}.exfil.example", "TXT").to_wire()
    question = names.read(wire, zone, desk.recognise, "203.0.113.7", 40312, 53, "tls", 60.0)
    assert question is not None
    assert await desk.admit(question) is admitted
    said = desk.said(RUN)
    assert (len(said.arrivals), said.forged) == (stored, forged)
    for _ in range(200):
        admitted = await desk.admit(question)
    assert not admitted  # strangers are answered so often, and a run has so many rows


def half(source: str, port: int = 1000, time: float = 60.0) -> HalfOpen:
    return HalfOpen(time, source, port, 443)


async def test_half_open_syns_of_a_runs_own_sources(desk: Desk) -> None:
    mine = half("203.0.113.7"), half("2001:db8:0:1::99"), half("203.0.113.7", 1001)
    desk.half_open([*mine, half("203.0.113.8"), half("2001:db8:0:2::99")])
    assert desk.said(RUN).half_open == ()
    await desk.keep([(KNOWN, ONE), (KNOWN, replace(ONE, source="2001:db8:0:1::1"))])
    assert desk.said(RUN).half_open == mine
    assert desk.said(OTHER).half_open == ()


def test_half_open_syns_that_were_pushed_out_are_told() -> None:
    halves = Halves(most=3)
    start = halves.mark()
    halves.add([half("203.0.113.7", n, float(n)) for n in range(2)])
    middle = halves.mark()
    halves.add([half("203.0.113.7", 2, 2.0)])
    halves.add([half("203.0.113.7", 0, 9.0)])  # seen again: it moves to its newest time
    assert halves.of(["203.0.113.7"], start) == (
        (half("203.0.113.7", 1, 1.0), half("203.0.113.7", 2, 2.0), half("203.0.113.7", 0, 9.0)),
        0,
    )
    halves.add([half("198.51.100.1", 5, 10.0)])
    assert halves.of(["203.0.113.7"], start)[1] == 1
    assert halves.of(["203.0.113.7"], middle)[1] == 0  # what was forgotten is older than this run


async def test_a_clock_that_is_set_back_hides_nothing(desk: Desk, clock: Clock) -> None:
    await desk.keep([(KNOWN, ONE)])
    clock.now -= 30
    late = half("203.0.113.7", time=clock.now)
    desk.half_open([late])
    assert desk.said(RUN).half_open == (late,)
    desk.missed()
    assert desk.said(RUN).lost == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.254", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8::1", "2001:db8:0:ff::1", True),
        ("2001:db8::1", "2001:db8:0:100::1", False),
        ("0.0.1.0", "::", False),
    ],
)
def test_prefixes(one: str, other: str, same: bool) -> None:
    assert (prefix(one) == prefix(other)) is same


def test_whoever_invents_sources_meets_the_limit_for_all() -> None:
    limits = Limits()
    answered = sum(limits.allow(f"{10 + (n >> 16)}.{n >> 8 & 255}.{n & 255}.1", 1.0) for n in range(20_000))
    assert answered == FOR_ALL[1]
    assert len(limits._prefixes) == 4096


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 50)), max_size=30))
def test_a_bucket_never_gives_more_than_it_may(asks: list[tuple[float, int]]) -> None:
    """Whatever the clock does; one that goes back gives nothing."""
    bucket, given, forward, last = Bucket(10, 20, 20, asks[0][0] if asks else 0), 0, 0.0, asks[0][0] if asks else 0
    for now, count in asks:
        forward, last = forward + max(0.0, now - last), now
        given += sum(bucket.take(now) for _ in range(count))
        assert given <= 20 + 10 * forward + 1e-6


async def test_what_nobody_saw_is_lost_to_the_runs_of_that_time(tmp_path: Path) -> None:
    now = [100.0]
    store = Store(tmp_path / "a", now=100.0)
    desk = Desk(store, lambda: now[0])
    before, after = (tokens.new_run_id(1_700_000_000_000 + n, bytes(10)) for n in (1, 2))
    assert desk.register(before, b"k" * 32, 600)
    assert desk.said(before).lost == 0
    now[0] = 110.0
    desk.missed()
    now[0] = 120.0
    assert desk.register(after, b"k" * 32, 600)
    assert (desk.said(before).lost, desk.said(after).lost) == (1, 0)
    store.close()

"""Hop walks, read: distances there and back, what controls calibrate, where a boundary lies."""

from dataclasses import replace
from typing import Any

import pytest

from probe.documents import Attempt, Check, Counters, Icmp, Record
from probe.model import SelfTest, Transport
from probe.paths import Path, Surroundings, hops_lost, is_outside, path_of, seen_outside, survey
from tests.make import VANTAGE, attempt, check

TARGET, GW, FAR, V6 = "192.0.2.1", "10.99.0.1", "198.18.5.5", "2001:db8::1"
REFUSED = {"stage": "receive", "error": "ECONNREFUSED"}


def step(
    result: str = "silent", hops: int | None = None, least: int | None = None, address: str = TARGET, **more: Any
) -> Attempt:
    return attempt(result, address, step="walk", hops=hops, least=least, **more)


def passed(hops: int, router: str = GW, address: str = TARGET) -> Attempt:
    icmp = Icmp(3, 0, router, 65 - hops) if ":" in address else Icmp(11, 0, router, 65 - hops)
    return step("error", hops, address=address, stage="receive", error="EHOSTUNREACH", icmp=icmp)


def accepted(*walk: Attempt, address: str = TARGET) -> Record:
    return Record(1, (attempt("connected", address), *walk))


def refused(*walk: Attempt) -> Record:
    return Record(1, (attempt("error", **REFUSED), *walk))


def back(ttl: int, *values: int, **more: Any) -> list[Attempt]:
    """Connects that hear only `values` and more, where the answer has `ttl`."""
    heard = {"result": "connected"} | more
    return [step(**(heard if value <= ttl else {"result": "silent"}), least=value) for value in values]


@pytest.mark.parametrize(
    ("record", "path"),
    [
        (Record(1, ()), Path()),
        (accepted(), Path()),
        (accepted(passed(1), step("connected", 2), *back(63, 65, 129, 64, 63, 62)), Path(2, 2, 1, GW)),
        (accepted(passed(1), step("connected", 2), *back(64, 65, 129, 64, 63, 62)), Path(2, 1, 1, GW)),  # a SYN proxy
        (refused(passed(1), step("error", 2, **REFUSED), *back(64, 65, 64, result="error", **REFUSED)), Path(2, 1, 1, GW)),
        (refused(passed(1), step("error", 2, **REFUSED), *back(127, 129, 128, 127, result="error", **REFUSED)), Path(2, 2, 1, GW)),
        (accepted(step("connected", 2), step("connected", 3), *back(255, 65, 129, 255, 254)), Path(2, 1)),
        # A value that was never tried, or not heard for another reason, leaves the distance open.
        (accepted(step("connected", 2), *back(64, 64, 63)), Path(2, None)),
        (accepted(step("connected", 2), step("error", least=65, stage="socket", error="EPERM"), *back(64, 64)), Path(2, None)),
        (accepted(step("connected", 2), *back(30, 65, 129, 64, 63, 62)), Path(2, None)),
        # An answer of another kind is not the same answer.
        (accepted(step("error", 1, **REFUSED), step("connected", 2)), Path(2, None)),
        (refused(step("connected", 1), step("error", 2, **REFUSED)), Path(2, None)),
        # The farthest router that spoke counts, and silence in between does not.
        (Record(1, (attempt(), passed(1), step(hops=2), passed(3, FAR), step(hops=4))), Path(None, None, 3, FAR)),
        # What this destination's own connect met is not a router on the way.
        (Record(1, (attempt("error", icmp=Icmp(11, 0, GW), stage="receive", error="EHOSTUNREACH"),)), Path()),
    ],
)  # fmt: skip
def test_a_walk(record: Record, path: Path) -> None:
    assert path_of(record, TARGET) == path


def test_another_address_of_the_row_has_a_walk_of_its_own() -> None:
    record = Record(
        1,
        (
            attempt("connected"),
            step("connected", 2),
            attempt("connected", "192.0.2.9"),
            step("connected", 5, address="192.0.2.9"),
        ),
    )
    assert path_of(record, TARGET).forward == 2
    assert path_of(record, "192.0.2.9").forward == 5


@pytest.mark.parametrize(("ttl", "hops"), [(64, 1), (63, 2), (128, 1), (127, 2), (255, 1), (254, 2), (1, 64), (65, 64)])
def test_hops_lost(ttl: int, hops: int) -> None:
    assert hops_lost(ttl) == hops


# --- what controls calibrate ---


def control(**more: Any) -> Check:
    return check(TARGET, action="allow", early=True, **more)


def far(forward: int, ttl: int) -> Record:
    return accepted(passed(1), step("connected", forward), *back(ttl, 65, 129, *range(ttl + 1, ttl - 3, -1)))


def test_a_control_whose_distances_agree_calibrates() -> None:
    around = survey([(control(), far(2, 63)), (check(n=2), Record(2, (attempt(), passed(1), passed(2, FAR))))])
    assert around[4] == Surroundings(2, True, {1: frozenset((GW,)), 2: frozenset((FAR,))})
    assert around[6] == Surroundings()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(control(), None)], (None, None)),
        ([(control(), accepted())], (None, None)),
        ([(control(), far(2, 64))], (None, False)),  # a router rewrites TTLs, or a proxy answers
        ([(control(), far(2, 64)), (control(), far(2, 63))], (None, False)),
        ([(control(), far(2, 63)), (control(), far(2, 64))], (None, False)),
        ([(control(), far(5, 60)), (control(), far(2, 63))], (2, True)),
        ([(control(), far(1, 64))], (None, None)),  # at the next hop: it says nothing of farther ones
        ([(check(early=True), far(2, 63))], (None, None)),  # a denied one is no control
        ([(check(action="allow"), far(2, 63))], (None, None)),
        ([(control(self_test=SelfTest.OPEN), far(2, 63))], (None, None)),
    ],
)
def test_controls(rows: list[tuple[Check, Record | None]], expected: tuple[int | None, bool | None]) -> None:
    around = survey(rows)[4]
    assert (around.distance, around.honest) == expected


def test_where_routers_or_next_hops_are_odd_no_ttl_is_believed() -> None:
    odd = step("error", 1, stage="receive", error="EHOSTUNREACH", icmp=Icmp(11, 0, GW, 63))  # it starts with 63
    assert survey([(control(), far(2, 63)), (check(n=2), Record(2, (attempt(), odd)))])[4].honest is False
    near = Record(2, (attempt("connected"), step("connected", 1)))  # something ends connections at the next hop
    assert survey([(control(), far(2, 63)), (check(n=2), near)], VANTAGE)[4].honest is False


def test_lone_counts_say_whether_packets_leave() -> None:
    def drops(*counts: tuple[int, int]) -> bool:
        tries = [attempt(again=True, t=float(n), counters=Counters(*pair)) for n, pair in enumerate(counts)]
        return survey([(check(), Record(1, tuple(tries)))])[4].drops

    assert drops((1, 0), (2, 1)) is True
    assert drops((1, 0), (1, 1)) is False
    assert drops() is False


def test_a_v4_mapped_control_tells_of_ipv4() -> None:
    mapped = f"::ffff:{TARGET}"
    record = accepted(step("connected", 2, address=mapped), *[step("silent", least=v, address=mapped) for v in (64, 65, 129)], step("connected", least=63, address=mapped), address=mapped)  # fmt: skip
    around = survey([(check(mapped, action="allow", early=True), record)])
    assert (around[4].distance, around[6].distance) == (2, None)


# --- the boundary ---

AROUND = Surroundings(routers={1: frozenset((GW,)), 2: frozenset((FAR,)), 3: frozenset(("203.0.113.9",))})


@pytest.mark.parametrize(
    ("boundary", "hop", "address", "outside"),
    [
        ("2", 1, GW, False),
        ("2", 2, FAR, True),
        ("2", 3, None, True),
        ("2", None, FAR, None),
        ("198.18.0.0/15", 2, FAR, True),
        ("198.18.0.0/15", 1, GW, False),
        ("198.18.0.0/15", 3, "203.0.113.9", True),  # past a router that stands in it
        ("198.18.0.0/15", 3, None, True),
        ("10.99.0.0/24", 1, GW, False),  # the next hop, whatever address it signs with
        ("198.18.0.0/15", None, GW, None),
        ("172.16.0.0/12", 3, FAR, None),  # nobody was seen in it
    ],
)
def test_the_boundary(boundary: str, hop: int | None, address: str | None, outside: bool | None) -> None:
    assert is_outside(boundary, hop, address, AROUND) is outside


def test_a_packet_that_was_seen_outside() -> None:
    record = Record(1, (attempt(), passed(1), passed(2, FAR), step(hops=3)))
    assert seen_outside(record, "2", {4: AROUND}) == (2, FAR)
    assert seen_outside(record, "198.18.0.0/15", {}) == (2, FAR)
    assert seen_outside(record, "3", {4: AROUND}) is None
    assert seen_outside(record, None, {4: AROUND}) is None
    # Rejected on the way is another matter: a time exceeded only.
    assert seen_outside(Record(1, (attempt("error", icmp=Icmp(3, 13, FAR), hops=2, **REFUSED),)), "2", {}) is None


# --- datagrams ---


def test_where_an_icmp_error_to_a_datagram_comes_from() -> None:
    icmp = Icmp(3, 3, FAR, 63)
    udp = {"transport": Transport.UDP, "stage": "receive", "error": "ECONNREFUSED"}
    first = attempt("error", step="send", icmp=icmp, **udp)
    itself = step("error", 2, icmp=icmp, **udp)
    assert path_of(Record(1, (first,)), TARGET) == Path(None, 2)
    assert path_of(Record(1, (first, itself)), TARGET) == Path(2, 2)
    router = step("error", 2, icmp=Icmp(11, 0, FAR, 63), **udp | {"error": "EHOSTUNREACH"})
    assert path_of(Record(1, (first, router)), TARGET) == Path(None, 2)
    assert path_of(Record(1, (replace(first, icmp=Icmp(3, 3, FAR)), itself)), TARGET) == Path()


def test_packets_that_never_left() -> None:
    near = step("error", 1, again=True, counters=Counters(2, 1), **REFUSED)
    assert path_of(refused(near), TARGET) == Path(1, None, dropped_here=True)
    assert path_of(refused(replace(near, counters=Counters(1, 1))), TARGET) == Path(1, None)

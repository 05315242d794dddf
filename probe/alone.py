"""The phases in which a destination is tried again, slowly: what a crowd or a limit made of it is told from the rest.

A few before all others; lone retries where a router rejects; second looks at what this host itself may have dropped;
witnesses and controls once more, one by one.
"""

from collections.abc import Iterable
from dataclasses import replace

import trio

from probe.annotate import annotated
from probe.attempting import STEPS, Attempting, family_of
from probe.counters import moved, read_counters
from probe.documents import Attempt, Counters, Order
from probe.engine import Connect, connect_many
from probe.model import WAYS, Transport
from probe.techniques.base import Probe
from probe.techniques.tcp_connect import as_attempt
from probe.timing import ALONE, LONE_GAP, LONGEST, MOST_RETRIES, MOST_SECOND_LOOKS, Deadlines

_LONE_ANSWER = 0.5
_WATCH_GAP = 0.5
_DNS_PORT = 53
_ANSWERED = ("connected", "answered")
_MOST_SINGLED = 10  # per IP version and transport
_COUNTED = 4  # lone connects whose packets are counted, per IP version
_COUNT_SECONDS = 0.1


async def watch(run: Attempting) -> None:
    """Controls, now and then, while the crowd is tried: an outage, or a limit on crowds, makes silences of its own."""
    controls = [
        (order, attempt)
        for order, attempts in run.held.values()
        for attempt in attempts
        if order.early and order.repeat and attempt.step == "connect" and attempt.result == "connected"
        if attempt.address != attempt.source
    ]
    probe = run.probe(again=True)
    while controls:
        await trio.sleep(_WATCH_GAP)
        targets = [Connect(first.address or "", first.port or 0, order) for order, first in controls]
        # Not cut off in the middle: a try that is not heard to its end says nothing.
        with trio.CancelScope(shield=True):
            await connect_many(targets, run.deadlines, run.pace, lambda _: None, len(targets))
        for target in targets:
            assert isinstance(target.tag, Order)
            if target.error != "budget":
                run.attempts_of(target.tag).append(as_attempt(target, probe))


async def retry(run: Attempting) -> None:
    """Where a router rejects: its limit on ICMP errors makes rejections look like silence."""
    async with trio.open_nursery() as nursery:
        for six in run.rejecters:
            nursery.start_soon(_retry_family, run, six)


async def _retry_family(run: Attempting, six: bool) -> None:
    """Spread over the rows: a sample not all of one kind. The transports share the router's limit, so in turn."""
    for transport in (Transport.TCP, Transport.UDP):
        gap = LONE_GAP
        for order in _spread(_silent_rows(run, six, transport), MOST_RETRIES):
            if not await _rejected(run, order, gap):
                # Linux charges an error about a missing route twice: for the route, and for the ICMP message.
                gap = 2 * LONE_GAP
                if not await _rejected(run, order, gap):
                    break  # no rate limit made it silent: the others are what they seem


def _silent_rows(run: Attempting, six: bool, transport: Transport) -> list[Order]:
    return [
        order
        for order, attempts in run.held.values()
        if order.destination.address
        and not (order.repeat and run.will_close())
        and (":" in order.destination.address) is six
        and _silent(attempts)
        and attempts[0].transport is transport
        # Another way has limits of its own: an MPTCP socket hears no ICMP error (it refuses IP_RECVERR).
        and order.technique not in WAYS
    ]


async def _rejected(run: Attempting, order: Order, gap: float) -> bool:
    """One packet, after a silence of `gap`."""
    await trio.sleep(gap)
    known = len(run.attempts_of(order))
    await run.attempt([order], again=True, limits=Deadlines(max(run.deadlines.answer, _LONE_ANSWER), LONGEST, 1))
    return not _silent(run.attempts_of(order)[known:])


async def look_again(run: Attempting) -> None:
    """What the kernel says that it did not send: once more, for longer, to tell a firewall from a full queue."""
    closes = run.will_close()
    rows = [
        (order, attempts)
        for order, attempts in run.held.values()
        if any(map(_never_left, attempts)) and not (order.repeat and closes) and not any(a.again for a in attempts)
    ][:MOST_SECOND_LOOKS]
    targets = [
        Connect(a.address or "", a.port or 0, order)
        for order, attempts in rows
        for a in attempts
        if _never_left(a) and a.step == "connect" and not a.again
    ]
    probe = run.probe(again=True, limits=ALONE)
    await _count_alone(run, targets, probe)

    def done(target: Connect) -> None:
        order = target.tag
        assert isinstance(order, Order)
        run.attempts_of(order).append(annotated(as_attempt(target, probe)))

    if targets:
        await connect_many(targets, ALONE, run.pace, done, run.concurrency)
    for order, attempts in rows:
        if attempts[0].error == "ENOBUFS":
            await run.attempt([order], again=True, limits=ALONE)


async def _count_alone(run: Attempting, targets: list[Connect], probe: Probe) -> None:
    """A few of them one by one, after a pause: a limit would let the first packet go, and the counters tell."""
    one = Deadlines(_COUNT_SECONDS, _COUNT_SECONDS, 1)
    for six in (False, True):
        await trio.sleep(LONE_GAP if targets else 0)
        some = [target for target in targets if (":" in target.address) is six]
        for place in range(min(_COUNTED, len(some))):
            chosen = some[place * len(some) // min(_COUNTED, len(some))]
            lone = Connect(chosen.address, chosen.port)
            before = read_counters()
            await connect_many([lone], one, run.pace, lambda _: None, 1)
            counted = moved(before, read_counters()).get(6 if six else 4)
            assert isinstance(chosen.tag, Order)
            run.attempts_of(chosen.tag).append(replace(as_attempt(lone, probe), counters=counted))


async def begin(run: Attempting, orders: Iterable[Order]) -> None:
    """Rows that are tried before all others, one by one in each IP version."""
    lanes: dict[bool, list[Order]] = {}
    for order in orders:
        if order.first:
            lanes.setdefault(":" in (order.destination.address or ""), []).append(order)
    async with trio.open_nursery() as nursery:
        for some in lanes.values():
            nursery.start_soon(_one_by_one, run, some)


async def _one_by_one(run: Attempting, orders: list[Order]) -> None:
    for order in orders:
        await trio.sleep(LONE_GAP)
        await run.attempt([order], again=True, limits=ALONE)


async def single_out(run: Attempting) -> None:
    """Where a row got an answer, those like it that got none are tried once more, one by one and slowly.

    The answered ones go first, one of DNS's port and one of the others: if one is not answered any more, a limit still
    holds, and nothing is gained.
    """
    lanes: dict[tuple[int, str], tuple[dict[bool, Order], list[Order]]] = {}
    for order, attempts in run.held.values():
        answered = any(attempt.result in _ANSWERED for attempt in attempts)
        for lane in {(family_of(a), a.transport.value) for a in attempts} if order.lone else ():
            first, others = lanes.setdefault(lane, ({}, []))
            if answered:
                first.setdefault(order.destination.port == _DNS_PORT, order)
            else:
                others.append(order)
    async with trio.open_nursery() as nursery:
        for first, others in lanes.values():
            if first and others:
                nursery.start_soon(_single_out, run, list(first.values()), others[:_MOST_SINGLED])


async def _single_out(run: Attempting, answered: list[Order], others: list[Order]) -> None:
    before = {order.n: len(run.attempts_of(order)) for order in answered}
    await _one_by_one(run, answered)
    if all(any(a.result in _ANSWERED for a in run.attempts_of(order)[before[order.n] :]) for order in answered):
        await _one_by_one(run, others)


async def close(run: Attempting) -> None:
    """Witnesses, then controls, one by one: a limit on new connections does not reach them now.

    Slowly: a host farther away than the controls, and the kernel's own retransmission, have time.
    """
    if not run.will_close():
        return
    lanes: dict[str, list[Order]] = {}
    for order in sorted((order for order, _ in run.held.values() if order.repeat), key=lambda order: order.early):
        address = order.destination.address
        lanes.setdefault("names" if address is None else ("6" if ":" in address else "4"), []).append(order)
    async with trio.open_nursery() as nursery:
        for lane in ("4", "6"):  # a limit counts for one IP version
            nursery.start_soon(_close_lane, run, lanes.get(lane, []), (lane == "6") in run.rejecters)
    await _close_lane(run, lanes.get("names", []), bool(run.rejecters))


async def _close_lane(run: Attempting, orders: list[Order], rejected: bool) -> None:
    """Host by host, by all ways at once. Witnesses first: a control's conversation uses up what a limit lets pass.

    Where a router rejects, row by row, and as slowly as its limit wants (see _retry_family).
    """
    for batch in [[order] for order in orders] if rejected else _by_host(orders):
        await trio.sleep(2 * LONE_GAP if rejected and not batch[0].early else LONE_GAP)
        before = read_counters()
        known = {order.n: len(run.attempts_of(order)) for order in batch}
        await run.attempt(batch, again=True, limits=ALONE)
        counted = moved(before, read_counters())
        for order in batch:
            _count(run.attempts_of(order), known[order.n], counted)


def _by_host(orders: list[Order]) -> list[list[Order]]:
    hosts: dict[tuple[bool, object], list[Order]] = {}
    for order in orders:
        hosts.setdefault((order.early, order.destination.address or order.destination.host), []).append(order)
    return list(hosts.values())


def _count(attempts: list[Attempt], known: int, counted: dict[int, Counters]) -> None:
    """How many packets left this namespace while one silent destination was tried alone."""
    for place, attempt in enumerate(attempts):
        if place >= known and attempt.result == "silent" and attempt.step == "connect":
            attempts[place] = replace(attempt, counters=counted.get(family_of(attempt)))


def _silent(attempts: list[Attempt]) -> bool:
    """Every try was; what follows an accept does not count."""
    tried = [attempt.result for attempt in attempts if attempt.step in STEPS]
    return bool(tried) and set(tried) == {"silent"}


def _never_left(attempt: Attempt) -> bool:
    """The kernel's second SYN did not leave this host, or the datagram met a full queue or a hook that says so."""
    if attempt.error == "ENOBUFS":
        return True
    return attempt.result == "silent" and attempt.tcp is not None and attempt.tcp.resent > attempt.tcp.left == 0


def _spread(orders: list[Order], most: int) -> list[Order]:
    """At most `most` of them, from all over the list."""
    step = max(len(orders) / most, 1.0)
    return [orders[int(place * step)] for place in range(min(most, len(orders)))]

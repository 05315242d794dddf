"""Which destinations are walked to, and how far: the agent's phase of hop walks (walk.py makes them).

Controls and witnesses first, then what refused or accepted without a word, and one silence of each (IP version,
technique). The first few refusals of an IP version get a whole walk; the others are only compared with them.
"""

import functools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import trio

from probe.annotate import annotated
from probe.attempting import Row, family_of
from probe.counters import moved, read_counters
from probe.datagram import exchange
from probe.documents import Attempt, Order
from probe.paths import INITIAL, alike, hops_lost
from probe.sockets import limited_socket
from probe.talk import converse, nonce_step, parse_answer
from probe.techniques.base import Probe
from probe.timing import MOST_COMPARED, MOST_WALKS
from probe.walk import compare, once_near, place

_WHOLE = 8  # refusals and accepts, each per IP version, that get a whole walk
_TOGETHER = 24
_TWINS = 2  # of each IP version and kind
_TWIN_SECONDS = 0.25
_COUNTED = 8  # refusals by this host or the next hop, which the namespace's counters tell apart

# A walk is made of plain connects: it says nothing of a technique that takes another way.
_PLAIN = frozenset(("tcp_connect", "http_get", "tls_hello"))


@dataclass(slots=True)
class _Target:
    """One address and port, and every row that tried it."""

    first: Attempt
    order: Order
    rows: list[Row] = field(default_factory=list)


class Placing:
    """The walks of one run. Their attempts are added to the rows that are held back."""

    def __init__(self, probe: Probe, held: dict[int, Row]) -> None:
        self._probe = probe
        self._held = held
        self._limiter = trio.CapacityLimiter(_TOGETHER)
        self._answered_near: list[_Target] = []  # refused, by somebody no farther than the next hop
        self._seen: Counter[tuple[int, int, int]] = Counter()  # (IP version, forward, TTL) of whole refusals

    async def run(self) -> None:
        """Twins and whole walks, then the comparisons."""
        async with trio.open_nursery() as nursery:
            for row, first in self._twins():
                nursery.start_soon(self._twin, row, first)
            for row, first in self._closed_datagrams():
                nursery.start_soon(self._walk_datagram, row, first)
        whole, brief = self._sorted()
        for targets, walk in ((whole, self._walk), (brief, self._compare)):
            async with trio.open_nursery() as nursery:
                for target in targets:
                    nursery.start_soon(walk, target)
        for target in self._answered_near[:_COUNTED]:
            await self._count(target)

    def _sorted(self) -> tuple[list[_Target], list[_Target]]:
        whole: list[_Target] = []
        brief: list[_Target] = []
        taken: Counter[int] = Counter()
        of_kind: Counter[tuple[object, ...]] = Counter()
        for target in self._targets():
            first, family = target.first, family_of(target.first)
            kind = (family, first.result, target.order.technique if first.result == "silent" else "")
            most = 1 if first.result == "silent" else _WHOLE
            if taken[family] < MOST_WALKS and (target.order.repeat or of_kind[kind] < most):
                whole.append(target)
                taken[family] += 1
                of_kind[kind] += not target.order.repeat
            elif first.result == "error" and of_kind[family, "brief"] < MOST_COMPARED:
                of_kind[family, "brief"] += 1
                brief.append(target)
        return whole, brief

    def _targets(self) -> Iterator[_Target]:
        """Each address and port once, controls and witnesses first, what never said a word before what did."""
        found: dict[tuple[str | None, int | None, str], _Target] = {}
        plain = [row for row in self._held.values() if row[0].technique in _PLAIN]
        rows = sorted(plain, key=lambda row: (not row[0].repeat, _spoke(row[1]), row[0].n))
        beyond = {family_of(a) for _, attempts in rows for a in attempts if a.result == "connected"}
        for row in rows:
            for first in row[1]:
                if not _can_be_placed(first) or (first.result == "silent" and family_of(first) not in beyond):
                    continue
                if first.result == "connected" and _ends_near(row[1], first):
                    continue  # it ends at the next hop: that is known already
                key = first.address, first.port, first.result
                found.setdefault(key, _Target(first, row[0])).rows.append(row)
        yield from found.values()

    def _twins(self) -> Iterator[tuple[Row, Attempt]]:
        """A few connects of each kind that were silent, or that the kernel refused at once."""
        taken: Counter[tuple[int, str]] = Counter()
        for row in self._held.values():
            for first in row[1]:
                if first.again or first.address in (None, first.source) or first.icmp or not _has_twin(row[0], first):
                    continue
                at_once = first.stage in ("connect", "send") and first.error in ("EACCES", "EPERM")
                kind = family_of(first), first.error or first.result
                if (first.result == "silent" or at_once) and taken[kind] < _TWINS:
                    taken[kind] += 1
                    yield row, first

    async def _twin(self, row: Row, first: Attempt) -> None:
        """A datagram to the same address and port: what stops TCP at this host may let it pass, or say who it is."""
        made, answer = await exchange(
            first.address or "",
            first.port or 0,
            row[0].token.encode(),
            lambda _: True,
            self._probe.pace.leave,
            self._probe.started,
            "twin",
            _TWIN_SECONDS,
            (0.0,),
        )
        if answer is not None:
            made = replace(made, data=parse_answer(answer, row[0].token, "reply"))
        row[1].append(annotated(made))

    async def _walk(self, target: _Target) -> None:
        first = target.first
        walked = _walked(target.rows[0][1], first)
        async with self._limiter:
            address, port = first.address or "", first.port or 0
            made = await place(address, port, first, self._probe, [a.hops or 0 for a in walked])
            forward = min((a.hops for a in [*walked, *made] if a.hops and alike(first, a)), default=None)
            heard = max((a.least for a in made if a.least and alike(first, a)), default=None)
            if forward == 1 and first.result == "error":
                self._answered_near.append(target)
            if forward is not None and heard is not None:
                if first.result == "error":
                    self._seen[family_of(first), forward, heard] += 1
                elif heard in INITIAL and forward > 1:
                    # The handshake came from the next hop although its packets went farther: whose are the bytes?
                    made += await self._converse(target, heard)
        self._add(target, made)

    async def _count(self, target: _Target) -> None:
        """Once more, alone: this host's own firewall makes an RST beside a SYN that never leaves."""
        before = read_counters()
        made = await once_near(target.first.address or "", target.first.port or 0, self._probe)
        counted = moved(before, read_counters()).get(family_of(target.first))
        self._add(target, [replace(attempt, counters=counted) for attempt in made])

    def _closed_datagrams(self) -> Iterator[tuple[Row, Attempt]]:
        """A few refusals of datagrams that a router or the target itself may have sent."""
        taken: Counter[int] = Counter()
        for row in self._held.values():
            for first in row[1]:
                refused = first.step == "send" and first.error == "ECONNREFUSED" and not first.again
                if refused and first.icmp and first.icmp.ttl and first.icmp.offender not in (None, first.source):
                    taken[family_of(first)] += 1
                    if taken[family_of(first)] <= _WHOLE:
                        yield row, first

    async def _walk_datagram(self, row: Row, first: Attempt) -> None:
        """A datagram that dies where the error came from: a router would say time exceeded, the host itself refuses."""
        assert first.icmp is not None
        there = hops_lost(first.icmp.ttl or 1)
        for hops in (there - 1, there) if there > 1 else (there,):
            made, _ = await exchange(
                first.address or "",
                first.port or 0,
                row[0].token.encode(),
                lambda _: True,
                self._probe.pace.leave,
                self._probe.started,
                "walk",
                self._probe.deadlines.answer,
                (0.0,),
                functools.partial(limited_socket, hops=hops, least=None),
            )
            if made.result != "answered":
                row[1].append(replace(made, hops=hops))

    async def _converse(self, target: _Target, least: int) -> list[Attempt]:
        address, port = target.first.address or "", target.first.port or 0
        saying = nonce_step(target.order.token, target.order.destination.host, port)
        return await converse(address, port, saying, self._probe.pace.leave, self._probe.started, least=least)

    async def _compare(self, target: _Target) -> None:
        family = family_of(target.first)
        common = max((key for key in self._seen if key[0] == family), key=lambda key: self._seen[key], default=None)
        if common is None:
            return
        async with self._limiter:
            address, port = target.first.address or "", target.first.port or 0
            self._add(target, await compare(address, port, common[1], common[2], self._probe))

    def _add(self, target: _Target, made: list[Attempt]) -> None:
        for _, attempts in target.rows:
            known = {a.hops for a in _walked(attempts, target.first)}
            attempts += [a for a in made if a.again or a.hops is None or a.hops not in known]


def _spoke(attempts: list[Attempt]) -> bool:
    return any(attempt.data is not None for attempt in attempts)


def _can_be_placed(first: Attempt) -> bool:
    """A silence, an accept or an RST of another host than this one."""
    if first.step != "connect" or first.again or first.address in (None, first.source) or first.icmp is not None:
        return False
    return first.result != "error" or (first.stage, first.error) == ("receive", "ECONNREFUSED")


def _has_twin(order: Order, first: Attempt) -> bool:
    """A plain connect has a datagram beside it; an unconnected datagram has a connected one."""
    if order.technique == "udp_unconnected":
        return first.step == "send" and first.error == "EPERM"
    return first.step == "connect" and order.technique in _PLAIN


def _walked(attempts: list[Attempt], first: Attempt) -> list[Attempt]:
    return [
        a for a in attempts if a.step == "walk" and a.address == first.address and a.hops is not None and not a.again
    ]


def _ends_near(attempts: list[Attempt], first: Attempt) -> bool:
    return any(attempt.result == "connected" for attempt in _walked(attempts, first))

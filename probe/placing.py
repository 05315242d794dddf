"""Which destinations are walked to, and how far: the agent's phase of hop walks (walk.py makes them).

Controls and witnesses first, then what refused or accepted without a word, and one silence of each (IP version,
technique). The first few refusals of an IP version get a whole walk; the others are only compared with them.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import trio

from probe.annotate import annotated
from probe.datagram import exchange
from probe.documents import Attempt, Order
from probe.talk import converse, nonce_step
from probe.techniques.base import Probe
from probe.timing import MOST_WALKS
from probe.walk import INITIAL, alike, compare, place

_WHOLE = 8  # refusals and accepts, each per IP version, that get a whole walk
_TOGETHER = 24
_TWINS = 2  # of each IP version and kind
_TWIN_SECONDS = 0.25

# A walk is made of plain connects: it says nothing of a technique that takes another way.
_PLAIN = frozenset(("tcp_connect", "http_get", "tls_hello"))

Row = tuple[Order, list[Attempt]]


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
        self._seen: Counter[tuple[int, int, int]] = Counter()  # (IP version, forward, TTL) of whole refusals

    async def run(self) -> None:
        """Twins and whole walks, then the comparisons."""
        async with trio.open_nursery() as nursery:
            for row, first in self._twins():
                nursery.start_soon(self._twin, row, first)
        whole, brief = self._sorted()
        for targets, walk in ((whole, self._walk), (brief, self._compare)):
            async with trio.open_nursery() as nursery:
                for target in targets:
                    nursery.start_soon(walk, target)

    def _sorted(self) -> tuple[list[_Target], list[_Target]]:
        whole: list[_Target] = []
        brief: list[_Target] = []
        taken: Counter[int] = Counter()
        of_kind: Counter[tuple[object, ...]] = Counter()
        for target in self._targets():
            first, family = target.first, _family(target.first)
            kind = (family, first.result, target.order.technique if first.result == "silent" else "")
            most = 1 if first.result == "silent" else _WHOLE
            if taken[family] < MOST_WALKS and (target.order.repeat or of_kind[kind] < most):
                whole.append(target)
                taken[family] += 1
                of_kind[kind] += 1
            elif first.result == "error":
                brief.append(target)
        return whole, brief

    def _targets(self) -> Iterator[_Target]:
        """Each address and port once, controls and witnesses first, what never said a word before what did."""
        found: dict[tuple[str | None, int | None, str], _Target] = {}
        plain = [row for row in self._held.values() if row[0].technique in _PLAIN]
        rows = sorted(plain, key=lambda row: (not row[0].repeat, _spoke(row[1]), row[0].n))
        beyond = {_family(a) for _, attempts in rows for a in attempts if a.result == "connected"}
        for row in rows:
            for first in row[1]:
                if not _can_be_placed(first) or (first.result == "silent" and _family(first) not in beyond):
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
                kind = _family(first), first.error or first.result
                if (first.result == "silent" or at_once) and taken[kind] < _TWINS:
                    taken[kind] += 1
                    yield row, first

    async def _twin(self, row: Row, first: Attempt) -> None:
        """A datagram to the same address and port: what stops TCP at this host may let it pass, or say who it is."""
        made, _ = await exchange(
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
        # What a server may have answered is another row's matter: here counts only whether it could be sent.
        row[1].append(replace(made, result="silent") if made.result == "answered" else annotated(made))

    async def _walk(self, target: _Target) -> None:
        first = target.first
        walked = _walked(target.rows[0][1], first)
        async with self._limiter:
            address, port = first.address or "", first.port or 0
            made = await place(address, port, first, self._probe, [a.hops or 0 for a in walked])
            forward = min((a.hops for a in [*walked, *made] if a.hops and alike(first, a)), default=None)
            heard = max((a.least for a in made if a.least and alike(first, a)), default=None)
            if forward is not None and heard is not None:
                if first.result == "error":
                    self._seen[_family(first), forward, heard] += 1
                elif heard in INITIAL and forward > 1:
                    # The handshake came from the next hop although its packets went farther: whose are the bytes?
                    made += await self._converse(target, heard)
        self._add(target, made)

    async def _converse(self, target: _Target, least: int) -> list[Attempt]:
        address, port = target.first.address or "", target.first.port or 0
        saying = nonce_step(target.order.token, target.order.destination.host, port)
        return await converse(address, port, saying, self._probe.pace.leave, self._probe.started, least=least)

    async def _compare(self, target: _Target) -> None:
        family = _family(target.first)
        common = max((key for key in self._seen if key[0] == family), key=lambda key: self._seen[key], default=None)
        if common is None:
            return
        async with self._limiter:
            address, port = target.first.address or "", target.first.port or 0
            self._add(target, await compare(address, port, common[1], common[2], self._probe))

    def _add(self, target: _Target, made: list[Attempt]) -> None:
        for _, attempts in target.rows:
            known = {a.hops for a in _walked(attempts, target.first)}
            attempts += [replace(a) for a in made if a.hops is None or a.hops not in known]


def _family(attempt: Attempt) -> int:
    return 6 if ":" in (attempt.address or "") else 4


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

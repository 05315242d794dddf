"""The hop walk: an unprivileged firewalk. It places an acceptor, a refuser or a silence, by hops, with plain sockets.

Forward: the same SYN with IP_TTL (IPV6_UNICAST_HOPS) 1, 2, 3 …; routers whose hop it is answer with time exceeded, and
the first hop limit that is answered is the answerer's distance. Back: with IP_MINTTL (IPV6_MINHOPCOUNT) the kernel
does not hear answers that arrive with a lower TTL (RFC 5082), which reads that TTL. Facts only: a time exceeded that
does not come means nothing (routers limit their rate), and what the distances mean is judged outside.
"""

from collections.abc import Sequence
from dataclasses import replace

import trio

from probe.documents import Attempt
from probe.engine import Connect, connect_many
from probe.paths import INITIAL, alike
from probe.techniques.base import Probe
from probe.techniques.tcp_connect import as_attempt
from probe.timing import WALK_PACKETS, Deadlines

# Hop limits that are tried together, wave after wave, until one is answered.
_WAVES: tuple[tuple[int, ...], ...] = ((1, 2, 3), (4, 5, 6, 7), tuple(range(8, 16)), tuple(range(16, 31)))
FARTHEST = _WAVES[-1][-1]
_CONFIRMING = 4  # further tries of the connect whose silence decides
# Every hop limit and every TTL, each tried twice.
assert 2 * (FARTHEST + 2 + FARTHEST + 2) + _CONFIRMING <= WALK_PACKETS


def quick(deadlines: Deadlines) -> Deadlines:
    """Deadlines of a walk's single steps: two tries, and no time for the kernel's own."""
    return Deadlines(deadlines.answer, deadlines.answer / 2, 2)


async def place(address: str, port: int, first: Attempt, probe: Probe, known_hops: Sequence[int] = ()) -> list[Attempt]:
    """The walk of one destination, which `first` is an attempt to. `known_hops`: limits that were tried already."""
    attempts: list[Attempt] = []
    for wave in _WAVES:
        made = await _connects([Connect(address, port, hops=hops) for hops in wave if hops not in known_hops], probe)
        attempts += made
        if any(alike(first, attempt) for attempt in made):
            return attempts + await _back(address, port, first, _first_answer(first, attempts), probe)
        # A silence is followed only as far as somebody tells where it went on.
        if first.result == "silent" and not any(a.icmp for a in made):
            break
    return attempts


async def _back(address: str, port: int, first: Attempt, forward: int, probe: Probe) -> list[Attempt]:
    """With which TTL the answer arrives: which initial value it had, then each value that its distance could leave."""
    bands = await _connects([Connect(address, port, least=value + 1) for value in INITIAL[:-1]], probe)
    heard = [attempt.least or 0 for attempt in bands if alike(first, attempt)]
    initial = next(value for value in INITIAL if value + 1 not in heard)
    values = range(initial, max(initial - forward - 2, 0), -1)
    made = bands + await _connects([Connect(address, port, least=value) for value in values], probe)
    heard = [attempt.least or 0 for attempt in made if alike(first, attempt)]
    return made + (await _confirmed(address, port, max(heard), probe) if heard else [])


async def _confirmed(address: str, port: int, ttl: int, probe: Probe) -> list[Attempt]:
    """That nothing arrives with more than `ttl` decides whose answer it is: a lost packet must not look like it."""
    if ttl >= INITIAL[-1]:
        return []
    again = replace(quick(probe.deadlines), tries=_CONFIRMING)
    return await _connects([Connect(address, port, least=ttl + 1)], probe, again, again=True)


async def once_near(address: str, port: int, probe: Probe) -> list[Attempt]:
    """One more connect that the next hop ends, by itself."""
    return await _connects([Connect(address, port, hops=1)], probe, again=True)


async def compare(address: str, port: int, forward: int, ttl: int, probe: Probe) -> list[Attempt]:
    """Whether a destination's answer comes from as far as another's: four connects, on both sides of both distances."""
    hops = [Connect(address, port, hops=value) for value in (forward - 1, forward) if value > 0]
    least = [Connect(address, port, least=value) for value in (ttl, ttl + 1) if value < 256]
    made = await _connects([*hops, *least], probe)
    return made + (await _confirmed(address, port, ttl, probe) if any(a.least == ttl and a.error for a in made) else [])


def _first_answer(first: Attempt, attempts: Sequence[Attempt]) -> int:
    return min(attempt.hops or 0 for attempt in attempts if alike(first, attempt))


async def _connects(
    targets: list[Connect], probe: Probe, deadlines: Deadlines | None = None, again: bool = False
) -> list[Attempt]:
    done: list[Connect] = []
    if targets:
        await connect_many(targets, deadlines or quick(probe.deadlines), probe.pace, done.append, len(targets))
    await trio.lowlevel.checkpoint()
    return [replace(as_attempt(target, probe), step="walk", again=again) for target in done]

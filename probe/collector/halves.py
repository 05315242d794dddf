"""Half-open SYNs that were seen, in memory and bounded: a way out of a sandbox without a way back. Pure; no clock.

Strangers can send SYNs too. When they push one out, that is told, because it may have been a run's own. What came after
what is told by counting, not by a clock, which may be set back.
"""

from collections.abc import Collection, Sequence

from probe.collector.ratelimit import prefix
from probe.documents import HalfOpen

_MOST = 16_384


def site(source: str) -> int:
    """Who is behind an address: itself (IPv4) or its /64 (IPv6, where a host changes the rest at will)."""
    return prefix(source, 32, 64)


class Halves:
    """The latest half-open SYNs, one per (source, port, port asked for)."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._found: dict[tuple[str, int, int], tuple[int, int, HalfOpen]] = {}
        self._count = 0
        self._forgot = 0  # the number of the latest that was pushed out, or that nobody saw

    def mark(self) -> int:
        """A point between what was seen and what will be."""
        return self._count

    def add(self, found: Sequence[HalfOpen]) -> None:
        """Remember them. One that is seen again moves to its newest time."""
        for one in found:
            self._count += 1
            key = one.source, one.port, one.at
            self._found.pop(key, None)
            self._found[key] = self._count, site(one.source), one
        while len(self._found) > self._most:
            number, *_ = self._found.pop(next(iter(self._found)))
            self._forgot = max(self._forgot, number)

    def miss(self) -> None:
        """Until now some may have come that nobody saw."""
        self._count += 1
        self._forgot = self._count

    def of(self, sources: Collection[str], since: int) -> tuple[tuple[HalfOpen, ...], int]:
        """Those from the sites of `sources` after that mark, and 1 if some of them were forgotten."""
        sites = {site(source) for source in sources}
        # `list` takes the values in one go: another thread may ask while ours adds.
        found = list(self._found.values())
        own = tuple(one for number, place, one in found if place in sites and number > since)
        return own, int(self._forgot > since)

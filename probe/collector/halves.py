"""Half-open SYNs that were seen, in memory and bounded: a way out of a sandbox without a way back. Pure; no clock.

Strangers can send SYNs too. When they push one out, that is told, because it may have been a run's own.
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
        self._found: dict[tuple[str, int, int], tuple[int, HalfOpen]] = {}
        self._forgot = float("-inf")  # the time of the latest that was pushed out, or that nobody saw

    def add(self, found: Sequence[HalfOpen]) -> None:
        """Remember them. One that is seen again moves to its newest time."""
        for one in found:
            key = one.source, one.port, one.at
            self._found.pop(key, None)
            self._found[key] = site(one.source), one
        while len(self._found) > self._most:
            _, gone = self._found.pop(next(iter(self._found)))
            self._forgot = max(self._forgot, gone.time)

    def miss(self, now: float) -> None:
        """Until now some may have come that nobody saw."""
        self._forgot = max(self._forgot, now)

    def of(self, sources: Collection[str], since: float) -> tuple[tuple[HalfOpen, ...], int]:
        """Those from the sites of `sources` since that time, and 1 if some of that time were forgotten."""
        sites = {site(source) for source in sources}
        # `list` takes the values in one go: another thread may ask while ours adds.
        own = tuple(one for place, one in list(self._found.values()) if place in sites and one.time >= since)
        return own, int(self._forgot >= since)

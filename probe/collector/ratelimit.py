"""How often strangers are answered: token buckets, one per source prefix and one for all. Pure; no clock of its own.

Bounded in memory: a prefix that has not been heard of for long makes room, and the bucket for all holds whoever invents
source prefixes. What is over the limit is dropped, not queued.
"""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address

# Answers per second, and how many may come at once: a resolver that looks for the zone needs some ten.
PER_PREFIX = (20.0, 100.0)
FOR_ALL = (1000.0, 1000.0)
_MOST_PREFIXES = 4096


@dataclass(slots=True)
class Bucket:
    """A token bucket. `rate` is per second."""

    rate: float
    most: float
    level: float
    last: float

    def take(self, now: float) -> bool:
        """Whether one more is allowed at `now` (seconds of whatever clock; it may jump, and never fills too much)."""
        self.level = min(self.most, self.level + max(0.0, now - self.last) * self.rate)
        self.last = now
        if self.level < 1:
            return False
        self.level -= 1
        return True


@dataclass(slots=True)
class Limits:
    """The buckets of all who ask."""

    per_prefix: tuple[float, float] = PER_PREFIX
    for_all: tuple[float, float] = FOR_ALL
    _prefixes: dict[int, Bucket] = field(default_factory=dict)
    _all: Bucket | None = None

    def allow(self, source: str, now: float) -> bool:
        """Whether `source` may be answered once more."""
        key = prefix(source)
        own = self._prefixes.pop(key, None)
        if own is None:
            own = Bucket(*self.per_prefix, level=self.per_prefix[1], last=now)
            if len(self._prefixes) >= _MOST_PREFIXES:
                del self._prefixes[next(iter(self._prefixes))]
        self._prefixes[key] = own  # at the end: a dict keeps the order, so the first is who was silent longest
        if not own.take(now):
            return False
        if self._all is None:
            self._all = Bucket(*self.for_all, level=self.for_all[1], last=now)
        return self._all.take(now)


def prefix(source: str, bits4: int = 24, bits6: int = 56) -> int:
    """The network of an address as one number: /24 or /56 (what one customer usually holds), unless told otherwise."""
    address = ip_address(source)
    if isinstance(address, IPv4Address):
        return int(address) >> (32 - bits4)
    # A leading one keeps the two families apart.
    return 1 << 128 | int(address) >> (128 - bits6)

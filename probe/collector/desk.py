"""What every listener hands its arrivals to: recognises tokens, commits arrivals in groups, counts what is unknown.

Nothing is kept per token: it is looked up by its run's id and checked by its MAC. No socket is opened here. An arrival
may be acknowledged only after `keep` gave True: then it survives the death of this process (see store.py).
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import trio

from probe import tokens
from probe.collector.halves import Halves
from probe.collector.names import Question
from probe.collector.ratelimit import Limits
from probe.collector.store import Store
from probe.documents import Arrival, Arrivals, HalfOpen
from probe.model import Transport

# A token stands in the first bytes that somebody sends; more is not searched, so that work is bounded.
WINDOW = 16 * 1024
_MOST_CANDIDATES = 4
# The check number, which stands 26 characters after a token's start. To look for it first makes a search of what holds
# no token a hundred times cheaper than FORM alone, which tries 26 characters at every place.
_MIDDLE = re.compile(rb"-[0-9a-f]{6}-", re.IGNORECASE)
_BEFORE = 26
_HOUSEKEEPING = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Known:
    """A token that verified."""

    run_id: str  # upper case ULID as registered
    check: int
    token: str  # lower case
    key: bytes  # the run's key


@dataclass(slots=True)
class _Waiting:
    arrivals: Sequence[tuple[Known, Arrival]]
    done: trio.Event = field(default_factory=trio.Event)
    kept: Sequence[bool] = ()


class Desk:
    """The one desk of a collector. Everything but `said` belongs to trio's thread; `said` may run in another."""

    def __init__(
        self, store: Store, clock: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        """Knows the runs of `store` that have not expired. `clock`: seconds since 1970; `steady`: nobody sets it."""
        self.strangers: Counter[Transport] = Counter()  # unverifiable arrivals since the start
        self.sees_half_open = True  # until the kernel refuses to tell of them
        self._store = store
        self._clock = clock
        self._steady = steady
        self._limits = Limits()
        self._halves = Halves()
        self._queue: list[_Waiting] = []
        self._writer = trio.CapacityLimiter(1)  # its own: who reads much must not keep arrivals waiting
        self._wake = trio.Event()
        self._runs: dict[bytes, tuple[str, bytes, float]] = {}  # until when on the steady clock
        self._marks: dict[str, int] = {}  # what was half-open before a run was registered
        for run_id, key, expires in store.unexpired(clock()):
            self._know(run_id, key, expires)

    def register(self, run_id: str, key: bytes, seconds: float) -> bool:
        """Make a run's tokens known for `seconds` (at most the retention). False: known already with another key.

        Registering it again with the same key makes it last longer. Raises StoreError if it could not be written.
        """
        run_id = run_id.upper()
        expires = self._store.register(run_id, key, self._clock(), seconds)
        if expires is None:
            return False
        self._know(run_id, key, expires)
        self._marks.setdefault(run_id, self._halves.mark())
        return True

    def _know(self, run_id: str, key: bytes, expires: float) -> None:
        self._runs[run_id.lower().encode()] = run_id, key, self._steady() + expires - self._clock()

    def key(self, run_id: str) -> bytes | None:
        """The key of a run in the store, expired or not; None for one that is not there. Raises StoreError."""
        return self._store.key(run_id.upper())

    def recognise(self, data: bytes) -> Known | None:
        """The first token in `data` that verifies for a registered run that has not expired. Bounded work."""
        for found in islice(_candidates(data[:WINDOW]), _MOST_CANDIDATES):
            run = self._runs.get(found[1].lower())
            if run is None or run[2] <= self._steady():
                continue
            text = found[0].decode().lower()
            if tokens.verify(text, run[1]):
                return Known(run[0], int(found[2], 16), text, run[1])
        return None

    async def keep(self, arrivals: Sequence[tuple[Known, Arrival]]) -> bool:
        """Returns after the commit. False: not all of them could be stored, so none of them may be answered."""
        return all(await self.keep_each(arrivals))

    async def keep_each(self, arrivals: Sequence[tuple[Known, Arrival]]) -> Sequence[bool]:
        """`keep` for a burst of many runs: one that has used up its rows does not silence the others."""
        if not arrivals:
            return ()
        waiting = _Waiting(arrivals)
        self._queue.append(waiting)
        self._wake.set()
        await waiting.done.wait()
        return waiting.kept

    async def admit(self, question: Question) -> bool:
        """Whether a DNS question may be answered: after its token was stored, or as often as strangers are answered."""
        if question.known is not None and question.arrival is not None:
            return await self.keep([(question.known, question.arrival)])
        return self.admit_stranger(question)

    def admit_stranger(self, question: Question) -> bool:
        """`admit` for a question without a token. What looks like a token and is none counts as unknown."""
        if question.forged:
            return self.unknown(Transport.UDP if question.over == "udp" else Transport.TCP, question.source)
        return self._limits.allow(question.source, self._clock())

    def unknown(self, transport: Transport, source: str) -> bool:
        """Counts an unverifiable arrival. False: over the rate limit, do not answer."""
        self.strangers[transport] += 1
        return self._limits.allow(source, self._clock())

    def said(self, run_id: str) -> Arrivals:
        """All that is known of a run. `lost` is at least 1 where nothing-arrived must not be believed:

        of a run that is not in the store, after a restart in the middle, and where half-open SYNs were forgotten.
        Raises StoreError if it could not be read.
        """
        run_id = run_id.upper()
        story = self._store.read(run_id)
        forged = self.strangers.total()
        if story is None:
            return Arrivals(run_id, lost=1, forged=forged)
        found, forgot = self._halves.of({arrival.source for arrival in story.arrivals}, self._marks.get(run_id, 0))
        lost = story.lost + forgot
        return Arrivals(run_id, story.arrivals, found, story.reachable, lost, forged, self.sees_half_open)

    def half_open(self, found: Sequence[HalfOpen]) -> None:
        """Remember half-open SYNs, in memory only."""
        self._halves.add(found)

    def missed(self) -> None:
        """Something arrived that nobody saw, whoever sent it: each run of this time has `lost` at least 1."""
        self._halves.miss()

    async def run(self) -> None:
        """The group commit, and the periodic purge; until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._commit)
            nursery.start_soon(self._housekeeping)

    async def _commit(self) -> None:
        # What arrives while one group is being written is the next group: the disk sets the pace, not a timer.
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            group, self._queue = self._queue, []
            rows = [(known.run_id, arrival) for waiting in group for known, arrival in waiting.arrivals]
            kept = await trio.to_thread.run_sync(self._store.append, rows, limiter=self._writer)
            at = 0
            for waiting in group:
                waiting.kept = kept[at : at + len(waiting.arrivals)]
                at += len(waiting.arrivals)
                waiting.done.set()

    async def _housekeeping(self) -> None:
        while True:
            now = self._clock()
            await trio.to_thread.run_sync(self._store.purge, now)
            self._runs = {run: known for run, known in self._runs.items() if known[2] > self._steady()}
            await trio.sleep(_HOUSEKEEPING)


def _candidates(data: bytes) -> Iterator[re.Match[bytes]]:
    for middle in _MIDDLE.finditer(data):
        if middle.start() >= _BEFORE and (found := tokens.FORM.match(data, middle.start() - _BEFORE)):
            yield found

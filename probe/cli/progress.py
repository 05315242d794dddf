"""A progress line on stderr, on a terminal only: checks done, the path that came last, the time left at most."""

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TextIO

_EVERY = 0.2  # seconds
_WIDEST = 44  # characters of a path


class Progress:
    """Counts records as they come. `names`: check number → path in words; `seconds`: the longest that it all takes."""

    def __init__(self, names: Mapping[int, str], seconds: float, stream: TextIO) -> None:
        self._names = names
        self._seconds = seconds
        self._stream = stream
        self._shown = stream.isatty()
        self._done = 0
        self._path = ""
        self._began = time.monotonic()
        self._over = threading.Event()
        # A run mostly waits for silence: the time must go on while no line comes.
        self._clock = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> "Progress":
        if self._shown:
            self._clock.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._over.set()
            self._clock.join()
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def line(self, line: str) -> None:
        """One evidence line went by."""
        if not self._shown or '"kind":"record"' not in line:
            return
        self._done += 1
        number = line.partition('"check":')[2].partition(",")[0]
        self._path = self._names.get(int(number), "") if number.isascii() and number.isdigit() else ""

    def _tick(self) -> None:
        while not self._over.wait(_EVERY):
            self._stream.write("\r\x1b[K" + self.text(time.monotonic() - self._began))
            self._stream.flush()

    def text(self, elapsed: float) -> str:
        """`12 of 200 checks · tcp 192.0.2.1:443 · 9 s left at most`."""
        path = self._path if len(self._path) <= _WIDEST else self._path[: _WIDEST - 1] + "…"
        left = max(self._seconds - elapsed, 0.0)
        parts = [f"{self._done} of {len(self._names)} checks", path, f"{left:.0f} s left at most"]
        return " · ".join(part for part in parts if part)

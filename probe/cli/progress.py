"""A progress line on stderr, on a terminal only: checks done, the path that came last, and the time left."""

import re
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TextIO

_EVERY = 0.2  # seconds
_WIDEST = 30  # characters of a path: the whole fits 80 columns


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
        self._silence = 0.0  # when those that stay silent are over, in seconds after the start
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
        if not self._shown:
            return
        if '"kind":"calibration"' in line:
            deadline = re.search(r'"deadline":([0-9]{1,3}(?:\.[0-9]{1,6})?)[,}]', line)
            self._silence = time.monotonic() - self._began + float(deadline[1] if deadline else 0)
        if '"kind":"record"' not in line:
            return
        self._done += 1
        number = line.partition('"check":')[2].partition(",")[0]
        self._path = (
            self._names.get(int(number), "") if len(number) < 10 and number.isascii() and number.isdigit() else ""
        )

    def _tick(self) -> None:
        while not self._over.wait(_EVERY):
            self._stream.write("\r\x1b[K" + self.text(time.monotonic() - self._began))
            self._stream.flush()

    def text(self, elapsed: float) -> str:
        """`12 of 200 checks · tcp 192.0.2.1:443 · about 9 s left`."""
        path = self._path if len(self._path) <= _WIDEST else self._path[: _WIDEST - 1] + "…"
        parts = [f"{self._done} of {len(self._names)} checks", path, self._left(elapsed)]
        return " · ".join(part for part in parts if part)

    def _left(self, elapsed: float) -> str:
        """As fast as until now, but not before silence has lasted long enough; at first only the bound is known."""
        at_most = max(self._seconds - elapsed, 0.0)
        if self._done * 10 < len(self._names) or not self._done:
            return f"at most {at_most:.0f} s left"
        pace = elapsed * (len(self._names) - self._done) / self._done
        return f"about {min(max(pace, self._silence - elapsed, 0.0), at_most):.0f} s left"

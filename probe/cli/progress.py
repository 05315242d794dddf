"""A progress line on stderr, on a terminal only."""

import time
from types import TracebackType
from typing import TextIO

_EVERY = 0.1  # seconds


class Progress:
    """Counts records as they come."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total = total
        self._stream = stream
        self._shown = stream.isatty()
        self._done = 0
        self._last = 0.0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown and self._last:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def line(self, line: str) -> None:
        """One evidence line went by."""
        self._done += '"kind":"record"' in line
        now = time.monotonic()
        if self._shown and now - self._last >= _EVERY:
            self._last = now
            self._stream.write(f"\r\x1b[K{self._done} of {self._total} checks done")
            self._stream.flush()

"""SIGTERM and SIGINT while something must still be said: noticed, and the command ends by itself."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_STOPS = (signal.SIGTERM, signal.SIGINT)


@dataclass
class Notice:
    """`came`: somebody asked for an end."""

    came: bool = False


@contextmanager
def noticed() -> Iterator[Notice]:
    """Inside, the signals to stop only set `came`. What is done inside must be bounded by itself."""
    notice = Notice()

    def note(_number: int, _frame: FrameType | None) -> None:
        notice.came = True

    before = {number: signal.signal(number, note) for number in _STOPS}
    try:
        yield notice
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

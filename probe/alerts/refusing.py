"""What the answer to a webhook's POST means. Pure: no clock, no socket."""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple

from probe.alerts.base import MOST_WORDS, DeliveryError

# The message itself is refused, or its place is gone. 401, 403 and 404 come and go with a deployment.
_FOR_GOOD = (400, 405, 410, 411, 413, 414, 415, 422, 431)


class Answer(NamedTuple):
    """`after`: its Retry-After, in seconds. `body`: what was read of it, as it came."""

    status: int
    after: float | None
    body: bytes


def refusal(answer: Answer, known: Mapping[str, str] | None = None) -> DeliveryError | None:
    """What to raise for an answer; None: it was taken. `known`: bodies that may be told on, and in which words."""
    status = answer.status
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:  # a captive portal does that too
        return DeliveryError(f"it answered with a redirect ({status}), which is not followed", again=True)
    word = (known or {}).get(answer.body[:MOST_WORDS].decode("latin-1").strip())
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
    said = f"it answered {status} {phrase}".rstrip() + (f": {word}" if word else "")
    return DeliveryError(said, again=status not in _FOR_GOOD, after=answer.after)


def retry_after(value: str, date: str) -> float | None:
    """Seconds (RFC 9110, 10.2.3). A point in time counts from the answer's own date, so that no clocks need agree."""
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, (parsedate_to_datetime(value) - parsedate_to_datetime(date)).total_seconds())
    except (ValueError, TypeError):  # TypeError: one of them has no zone
        return None

"""Alerts on their way: from the outbox of a history, or straight to the channels where there is none to hold them."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from probe.alert import Alert
from probe.history.outbox import Failure, Pending, bury, dead_letters, give_up_unreadable, pending, settle
from probe.history.store import History
from probe.standing import stamp

if TYPE_CHECKING:
    from probe.alerts.base import Channel

_GONE: Final = Failure("the channel is not configured any more", again=True)


def unique(channels: Sequence["Channel"]) -> tuple["Channel", ...]:
    """Channels with a name each: two to the same host are told apart by a number."""
    seen: dict[str, int] = {}
    found = []
    for channel in channels:
        seen[channel.name] = seen.get(channel.name, 0) + 1
        number = seen[channel.name]
        found.append(channel if number == 1 else channel._replace(name=f"{channel.name} ({number})"))
    return tuple(found)


def tell_pending(history: History, channels: Sequence["Channel"]) -> list[str]:
    """Send what waits. What could not be sent, in words. Raises UserError, OSError, sqlite3.Error."""
    waiting, odd = pending(history)
    if odd:
        give_up_unreadable(history, odd, stamp(time.time()))
    problems = [f"{len(odd)} alerts cannot be read, and lie in {dead_letters(history.path)}"] if odd else []
    if not waiting:
        return problems
    by_name = {channel.name: channel for channel in channels}
    known = [one for one in waiting if one.channel in by_name]
    if not channels:  # a run by hand: the next scheduled one tells it
        return problems
    from probe.alerts.deliver import deliver  # only where something is sent: a run has a budget

    outcomes = trio.run(deliver, [(one.alert, by_name[one.channel]) for one in known])
    failed: dict[Pending, Failure] = {one: _GONE for one in waiting if one.channel not in by_name}
    delivered = []
    for one, outcome in zip(known, outcomes, strict=True):
        if outcome.error is None:
            delivered.append(one)
        else:
            failed[one] = Failure(outcome.error, outcome.again, outcome.tried)
    given_up = settle(history, delivered, failed, stamp(time.time()))
    return problems + _words(failed, given_up, dead_letters(history.path))


def _words(failed: dict[Pending, Failure], given_up: int, grave: Path) -> list[str]:
    by_channel: dict[str, list[str]] = {}
    for one, failure in failed.items():
        by_channel.setdefault(one.channel, []).append(failure.words)
    lines = [f"{name}: {len(errors)} alerts not delivered: {errors[0]}" for name, errors in by_channel.items()]
    return lines + ([f"{given_up} alerts were given up, and lie in {grave}"] if given_up else [])


def tell_now(alerts: Sequence[Alert], channels: Sequence["Channel"], path: Path) -> list[str]:
    """Send at once, without a history. What no channel took goes to the dead letters, if those can be written."""
    pairs = [(alert, channel) for alert in alerts for channel in channels]
    if not pairs:
        return []
    from probe.alerts.deliver import deliver

    outcomes = trio.run(deliver, pairs)
    failed: dict[Pending, Failure] = {
        Pending(0, alert, channel.name, 0): Failure(outcome.error, outcome.again, outcome.tried)
        for (alert, channel), outcome in zip(pairs, outcomes, strict=True)
        if outcome.error is not None
    }
    if not failed:
        return []
    try:
        bury(dead_letters(path), {one: failure.words for one, failure in failed.items()}, stamp(time.time()))
    except OSError as error:
        return [*_words(failed, 0, path), f"the dead letters cannot be written: {error.strerror}"]
    return _words(failed, len(failed), dead_letters(path))

"""What every channel is: a name, a way to send one alert, and the one error that sending may end with."""

import os
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import trio

from probe.alert import Alert
from probe.errors import UserError, one_line

MOST_WORDS = 200  # characters of an error that come from elsewhere
_LONGEST_PATH = 107  # bytes of a socket's path, unix(7)


class DeliveryError(Exception):
    """An alert was not taken. `str()` is one printable line without a secret.

    `again`: it may be tried again as it is. `after`: seconds that the other side asks for until then.
    """

    def __init__(self, words: str, *, again: bool, after: float | None = None) -> None:
        super().__init__(one_line(words))
        self.again = again
        self.after = after


class Channel(NamedTuple):
    """One place that alerts go to. `name` is shown and holds no secret; two channels may have the same.

    `send` returns when the alert was taken, within a deadline of its own, and raises DeliveryError.
    """

    name: str
    send: Callable[[Alert], Awaitable[None]]


def socket_path(option: str, value: str, local: str) -> str:
    """`local`, or the path that `value` names. Raises UserError."""
    path = local if value == "local" else value
    if not path.startswith("/") or "\0" in path or len(os.fsencode(path)) > _LONGEST_PATH:
        raise UserError(
            f"{option} {value[:MOST_WORDS]}: expected local, or /PATH/OF/SOCKET ({_LONGEST_PATH} bytes at most)"
        )
    return path


def system_words(error: BaseException) -> str:
    """The innermost reason that is known, in the system's own words: the outer ones hold names and are trio's."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, ssl.SSLCertVerificationError):
            return f"its certificate: {inner.verify_message}"
        if isinstance(inner, ssl.SSLError):
            return "TLS failed"
        if isinstance(inner, OSError) and inner.errno:
            # getaddrinfo's numbers are below zero, and no errno's
            return os.strerror(inner.errno) if inner.errno > 0 else (inner.strerror or "no such name")
        # A group has one error per address that was tried.
        inner = inner.exceptions[0] if isinstance(inner, BaseExceptionGroup) else inner.__cause__
    return "the connection broke off"


@contextmanager
def socket_errors(deadline: float) -> Iterator[None]:
    """What goes wrong with a socket inside of it is a DeliveryError; `deadline` is for the whole, in seconds."""
    try:
        with trio.fail_after(deadline):
            yield
    except trio.TooSlowError:
        raise DeliveryError(f"not taken within {deadline:g} s", again=True) from None
    except (OSError, trio.BrokenResourceError) as error:
        raise DeliveryError(system_words(error), again=True) from None

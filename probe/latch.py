"""The safety latch: EGRESS_PROBE_FORBID_NETNS names a network namespace from which nothing may be sent.

Its value travels in the orders as well, because launchers such as `env -i` drop the variable. It is checked before the
first packet; what cannot be checked is refused.
"""

import os
import re
from collections.abc import Mapping

from probe.errors import LatchError

VARIABLE = "EGRESS_PROBE_FORBID_NETNS"
_FORM = re.compile(r"(?:net:\[)?(\d+)\]?\Z")


def from_environment(environment: Mapping[str, str]) -> str | None:
    """The latch's value, checked. Raises LatchError for one that is no namespace."""
    value = environment.get(VARIABLE)
    if not value:
        return None
    _inode(value)
    return value


def check(*forbidden: str | None, own: str | None = None) -> None:
    """Raises LatchError if this process is in one of the `forbidden` namespaces, or cannot tell."""
    values = [value for value in forbidden if value]
    if not values:
        return
    here = own_namespace() if own is None else own
    if here is None:
        raise LatchError(
            f"{VARIABLE} is set, and /proc does not tell which network namespace this is: nothing was sent"
        )
    for value in values:
        if _inode(value) == _inode(here):
            raise LatchError(f"{VARIABLE} forbids this network namespace ({here}): nothing was sent")


def own_namespace() -> str | None:
    """`net:[…]`, or None where /proc is not mounted."""
    try:
        return os.readlink("/proc/self/ns/net")
    except OSError:
        return None


def _inode(value: str) -> str:
    found = _FORM.match(value)
    if not found:
        raise LatchError(f"{VARIABLE}: {value!r} is not a network namespace (expected one like net:[4026531840])")
    return found[1]

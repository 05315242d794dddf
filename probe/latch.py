"""The safety latch: EGRESS_PROBE_FORBID_NETNS names a network namespace from which nothing may be sent.

Its value travels in the orders as well, because launchers such as `env -i` drop the variable. It is checked before the
first packet; what cannot be checked is refused.
"""

import fcntl
import os
import re
from collections.abc import Mapping

from probe.errors import LatchError

VARIABLE = "EGRESS_PROBE_FORBID_NETNS"
_PIDFD_GET_NET_NAMESPACE = 0xFF04  # linux/pidfd.h
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
    """`net:[…]`, or None where neither /proc nor the kernel tells."""
    try:
        return os.readlink("/proc/self/ns/net")
    except OSError:
        return _by_pidfd()


def _by_pidfd() -> str | None:
    """The same without /proc: a descriptor of our own network namespace, whose inode is its name (since Linux 6.11)."""
    try:
        own = os.pidfd_open(os.getpid())
    except (OSError, AttributeError):
        return None
    try:
        namespace = fcntl.ioctl(own, _PIDFD_GET_NET_NAMESPACE)
    except OSError:
        return None
    finally:
        os.close(own)
    try:
        return f"net:[{os.fstat(namespace).st_ino}]"
    finally:
        os.close(namespace)


def _inode(value: str) -> str:
    found = _FORM.match(value)
    if not found:
        raise LatchError(f"{VARIABLE}: {value!r} is not a network namespace (expected one like net:[4026531840])")
    return found[1]

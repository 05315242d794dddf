"""What the kernel's tables say of an attempt that failed or was silent: routing decision and neighbour state (netlink).

Read right after the attempt, and only where it helps to tell two enforcers apart; nothing is sent.
"""

from dataclasses import replace

from probe import netlink
from probe.documents import Attempt
from probe.model import Transport

# A call that failed at once with one of these may have met a route, a syscall filter, or a security module.
_AT_ONCE = frozenset("EACCES EPERM EINVAL EHOSTUNREACH ENETUNREACH ENETDOWN EADDRNOTAVAIL ENOSYS".split())
_HOST_UNREACHABLE = ((3, 1), (1, 3))


def annotated(attempt: Attempt) -> Attempt:
    """`attempt`, with `route` or `neighbour` where they matter."""
    if attempt.address is None or attempt.step not in ("connect", "send", "query", "talk", "twin"):
        return attempt
    if attempt.result == "error" and attempt.icmp is None:
        asked = attempt.stage in ("connect", "send") and attempt.error in _AT_ONCE
        return replace(attempt, route=netlink.route(attempt.address)) if asked else attempt
    if _may_have_no_neighbour(attempt):
        return replace(attempt, neighbour=netlink.neighbour(attempt.address))
    return attempt


def _may_have_no_neighbour(attempt: Attempt) -> bool:
    """A silence whose packets may still wait for a link address, or our own host's word that nobody has it."""
    if attempt.icmp is not None:
        return (attempt.icmp.type, attempt.icmp.code) in _HOST_UNREACHABLE and attempt.icmp.offender == attempt.source
    if attempt.result != "silent":
        return False
    if attempt.transport is Transport.TCP and attempt.tcp is not None:
        return attempt.tcp.timeouts > 0 and attempt.tcp.resent == 0
    return True

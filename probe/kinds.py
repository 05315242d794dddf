"""The kinds of enforcement: a literal table, one row each, from one attempt's facts to outcome and enforcer.

Source: measurements on Linux 6.18 in network namespaces; tcp(7), ip(7), RFC 792, RFC 4443. Facts that no row has are
`broken`, never "blocked". docs/accuracy.md shows each kind in a real network.
"""

from dataclasses import dataclass, fields
from functools import cache
from typing import NamedTuple

from probe.model import EnforcerKind, Outcome

O, K = Outcome, EnforcerKind  # noqa: E741 - the table below is read by column


@dataclass(frozen=True, slots=True)
class Facts:
    """What tells the kinds apart. In a row of the table: the words that match, and None where it does not ask."""

    stage: str  # socket, bind, connect, send, receive, or silence
    error: str | None = None  # the errno's name
    sender: str | None = None  # of the ICMP error: own, next_hop, router, host_far, target, target_near, …
    icmp: str | None = None  # port, host, late, other, exceeded, none_of_ours
    route: str | None = None  # what the routing table says: same (as the error), fine, or None
    local: str | None = None  # what this host did: firewall, queue, unresolved, resolved
    rst: str | None = None  # whose RST: own, near, near_by_ttl, target, router, or None
    twin: str | None = None  # a datagram to the same place: passes, or refused


class Sign(NamedTuple):
    """One row: a pattern, and what it means. `hop`: 0 is this host, 1 the next hop, None is told by the walk."""

    kind: str
    pattern: Facts
    outcome: Outcome
    enforcer: EnforcerKind | None
    hop: int | None


# By distance alone: the next hop may be the destination itself (another address of it), or the sender may have chosen
# its TTL. A witness elsewhere must have met the same.
NEAR = "reset at the next hop"
BY_TTL = "reset by the next hop, by its TTL"
BRIDGE = "rejected nearby in the target's name"
FAR_RESET = "reset by a router farther out"
BY_DISTANCE = frozenset((NEAR, BY_TTL, BRIDGE, FAR_RESET))
NO_NEIGHBOUR = "dead next hop"
QUEUE = "local queue or hook drops"

# fmt: off
TABLE: tuple[Sign, ...] = (
    # --- the socket itself: seccomp and its users (firejail: ENOTSUP, Codex: EPERM) ---
    Sign("syscall filter on socket()",
         Facts("socket", "EPERM EACCES ENOSYS ENOTSUP"), O.DENIED, K.SYSCALL_FILTER, 0),
    # No IPv6 in this kernel; systemd's RestrictAddressFamilies looks the same.
    Sign("no such address family", Facts("socket", "EAFNOSUPPORT"), O.NO_ROUTE, K.ROUTE, 0),

    # --- refused at once: the routing table's own word decides whether it was a route ---
    Sign("local route prohibit", Facts("connect send", "EACCES", route="same"), O.DENIED, K.ROUTE, 0),
    Sign("local route",
         Facts("connect send", "ENETUNREACH EHOSTUNREACH EINVAL ENETDOWN EADDRNOTAVAIL", route="same"),
         O.NO_ROUTE, K.ROUTE, 0),
    # Landlock, cgroup/connect, seccomp: a route is there, and the call is refused all the same.
    Sign("syscall filter on connect()",
         Facts("connect", "EACCES EPERM ENOSYS", route="fine"), O.DENIED, K.SYSCALL_FILTER, 0),
    Sign("syscall filter that pretends",
         Facts("connect", "ENETUNREACH EHOSTUNREACH EINVAL", route="fine"), O.DENIED, K.SYSCALL_FILTER, 0),
    Sign("syscall filter on connect()", Facts("connect", "EPERM ENOSYS"), O.DENIED, K.SYSCALL_FILTER, 0),
    # Without netlink the datagram tells Landlock, which knows TCP only, from a prohibit route and from seccomp.
    Sign("syscall filter for TCP alone", Facts("connect", "EACCES", twin="passes"), O.DENIED, K.SYSCALL_FILTER, 0),
    Sign("refused at once", Facts("connect send", "EACCES"), O.DENIED, K.UNKNOWN, 0),
    Sign("local route",
         Facts("connect send", "ENETUNREACH EHOSTUNREACH EINVAL ENETDOWN EADDRNOTAVAIL"), O.NO_ROUTE, K.ROUTE, 0),
    # A connected socket's datagram passes: a cgroup's hook on sendmsg(), which sees unconnected ones only.
    Sign("cgroup hook on unconnected send", Facts("send", "EPERM", twin="passes"), O.DENIED, K.SYSCALL_FILTER, 0),
    Sign("local firewall on send", Facts("send", "EPERM"), O.DENIED, K.LOCAL_FIREWALL, 0),
    Sign("local hook on send", Facts("send", "ENOBUFS", local="firewall"), O.DENIED, K.LOCAL_FIREWALL, 0),
    Sign("syscall filter on send()", Facts("send", "ENOSYS"), O.DENIED, K.SYSCALL_FILTER, 0),

    # --- an ICMP error from this very host ---
    # Nobody answers at the next hop. A firewall that rejects with host-unreachable says the same, but at once, and
    # while the next hop's link address is known.
    Sign("local firewall rejects",
         Facts("*", sender="own", icmp="host", local="resolved"), O.REJECTED, K.LOCAL_FIREWALL, 0),
    Sign(NO_NEIGHBOUR, Facts("*", sender="own", icmp="host"), O.REJECTED, K.ROUTE, 0),
    Sign("local firewall rejects", Facts("*", sender="own", icmp="port"), O.REFUSED, K.LOCAL_FIREWALL, 0),
    Sign("local firewall rejects", Facts("*", sender="own", icmp="other"), O.REJECTED, K.LOCAL_FIREWALL, 0),
    Sign("closed port on loopback", Facts("*", sender="loopback", icmp="port"), O.REFUSED, K.PEER, 0),

    # --- an ICMP error from a router ---
    # It looked for a neighbour of its own in vain, which takes seconds: nobody lives there, and nothing is enforced.
    Sign("a router's neighbour does not answer", Facts("*", icmp="late"), O.REJECTED, K.UNKNOWN, None),
    Sign("router rejects", Facts("*", sender="next_hop", icmp="port"), O.REFUSED, K.ROUTER, 1),
    Sign("router rejects", Facts("*", sender="next_hop", icmp="host other"), O.REJECTED, K.ROUTER, 1),
    Sign("router farther out rejects", Facts("*", sender="router", icmp="port"), O.REFUSED, K.ROUTER, None),
    Sign("router farther out rejects",
         Facts("*", sender="router host_far", icmp="host other"), O.REJECTED, K.ROUTER, None),
    # In the target's own name, from nearer than any host beyond the next hop.
    Sign(BRIDGE, Facts("*", sender="target_near", icmp="port"), O.REFUSED, K.ROUTER, 1),
    Sign(BRIDGE,
         Facts("*", sender="target_near", icmp="host other"), O.REJECTED, K.ROUTER, 1),
    Sign("closed UDP port at the target",
         Facts("*", sender="target_far host_far", icmp="port"), O.REFUSED, K.PEER, None),
    Sign("rejected in the target's name",
         Facts("*", sender="target target_far loopback", icmp="host other"), O.REJECTED, K.UNKNOWN, None),
    Sign("refused in the target's name", Facts("*", sender="target", icmp="port"), O.REFUSED, K.UNKNOWN, None),
    # A routing loop, not a policy.
    Sign("hop limit reached", Facts("*", icmp="exceeded"), O.REJECTED, K.UNKNOWN, None),
    Sign("no sender", Facts("*", sender="unknown", icmp="port"), O.REFUSED, K.UNKNOWN, None),
    Sign("no sender", Facts("*", sender="unknown", icmp="host other"), O.REJECTED, K.UNKNOWN, None),

    # --- an RST: whose, only the hop walk tells ---
    Sign("closed port on loopback", Facts("connect receive", "ECONNREFUSED", sender="loopback"), O.REFUSED, K.PEER, 0),
    Sign("local firewall resets", Facts("receive", "ECONNREFUSED", rst="own"), O.REFUSED, K.LOCAL_FIREWALL, 0),
    Sign(NEAR, Facts("receive", "ECONNREFUSED", rst="near"), O.REFUSED, K.ROUTER, 1),
    Sign(BY_TTL, Facts("receive", "ECONNREFUSED", rst="near_by_ttl"), O.REFUSED, K.ROUTER, 1),
    Sign("closed port at the target", Facts("receive", "ECONNREFUSED", rst="target"), O.REFUSED, K.PEER, None),
    Sign(FAR_RESET, Facts("receive", "ECONNREFUSED", rst="router"), O.REFUSED, K.ROUTER, None),
    Sign("reset by somebody", Facts("connect receive", "ECONNREFUSED ECONNRESET"), O.REFUSED, K.UNKNOWN, None),
    Sign("unreachable, nobody named", Facts("receive", "ENETUNREACH EHOSTUNREACH EACCES"), O.REJECTED, K.UNKNOWN, None),

    # --- silence ---
    Sign("local firewall drops", Facts("silence", local="firewall"), O.SILENT, K.LOCAL_FIREWALL, 0),
    # An nftables netdev hook, or a queue that is full: the silence rule decides.
    Sign(QUEUE, Facts("silence", local="queue"), O.SILENT, K.LOCAL_FIREWALL, 0),
    Sign(NO_NEIGHBOUR, Facts("silence", local="unresolved"), O.REJECTED, K.ROUTE, 0),
    Sign("the kernel gave up", Facts("receive", "ETIMEDOUT"), O.SILENT, None, None),
    Sign("silence", Facts("silence"), O.SILENT, None, None),
)
# fmt: on


@cache
def look_up(facts: Facts) -> Sign | None:
    """The first row that matches; None for facts that no row has: `broken`."""
    return next((sign for sign in TABLE if _matches(sign.pattern, facts)), None)


def _matches(pattern: Facts, facts: Facts) -> bool:
    # An ICMP error is never read by a row that does not ask for it.
    if (pattern.icmp is None) != (facts.icmp is None):
        return False
    return all(
        wanted in (None, "*") or (found is not None and found in wanted.split())
        for wanted, found in ((getattr(pattern, f.name), getattr(facts, f.name)) for f in fields(Facts))
    )

"""The verdict table: (declared, outcome, whose, support) → verdict, grade, why. Literal, total, first match wins.

`whose`: who answered, in classify.who()'s words. `support`: what else this run knows (support.py). A row that would
surprise a reader has a comment. `why` is a sentence with places to fill in.
"""

from enum import StrEnum
from typing import NamedTuple

from probe.model import Action, Grade, Outcome, Verdict


class Support(StrEnum):
    """What the rest of the run adds to one row."""

    NONE = "none"
    CORROBORATED = "corroborated"  # deny: a control answered, a witness was stopped, nothing got out
    EXPECTED = "expected"  # allow: somebody is known to answer there
    SPOKE = "spoke"  # allow: application bytes came back, from whom is not proven
    ISOLATED = "isolated"  # nothing works at all, and the kernel says why
    OUTSIDE = "outside"  # deny: a router at or past the boundary answered it
    INSIDE = "inside"  # deny: the router that stopped it stands on this side of the boundary
    NEAR = "near"  # deny: application bytes of a live destination, in a network where all ends at the next hop


class Row(NamedTuple):
    """One row of the table; None matches anything."""

    action: Action
    outcome: Outcome
    whose: str | None
    support: Support | None
    verdict: Verdict
    grade: Grade | None
    why: str


_D, _A, _U = Action.DENY, Action.ALLOW, Action.UNDECLARED
_O, _S = Outcome, Support
_CONFORMS, _LEAK, _OVER, _UNPROVEN = Verdict.CONFORMS, Verdict.LEAK, Verdict.OVERBLOCKED, Verdict.UNPROVEN
_PROVEN, _CORROBORATED, _PRESUMED = Grade.PROVEN, Grade.CORROBORATED, Grade.PRESUMED

# fmt: off
TABLE: tuple[Row, ...] = (
    # --- declared deny ---
    Row(_D, _O.REACHED, None, None, _LEAK, _PROVEN,
        "{where} answered with application data, although {by} denies it."),
    # An accept shows that somebody completed the handshake: a NAT redirect, a SYN proxy or a layer-7 filter does too.
    Row(_D, _O.ACCEPTED, None, None, _UNPROVEN, None,
        "{where} accepted, but nothing shows who did: no application data came back."),
    # A user-mode network (slirp, pasta, gVisor) ends every connection at the next hop and carries it on.
    Row(_D, _O.INTERCEPTED, None, _S.NEAR, _LEAK, _PRESUMED,
        "{where} answered with application data, through a next hop that ends all connections; {by} denies it."),
    Row(_D, _O.INTERCEPTED, None, None, _UNPROVEN, None,
        "Something on the way answered in place of {where}; whether it passes data on is not known."),
    # The target's own RST means that the packet arrived there, and an answer came back.
    Row(_D, _O.REFUSED, "peer", None, _LEAK, _PROVEN,
        "{where} itself refused the connection: the packet got there, although {by} denies it."),
    # The operator says where enforcement ends; an answer from there or farther shows that the packet left.
    Row(_D, _O.REFUSED, None, _S.OUTSIDE, _LEAK, _PROVEN,
        "Refused outside: {reason}, at or past the boundary, although {by} denies it."),
    Row(_D, _O.REJECTED, None, _S.OUTSIDE, _LEAK, _PROVEN,
        "Rejected outside: {reason}, at or past the boundary, although {by} denies it."),
    Row(_D, _O.SILENT, None, _S.OUTSIDE, _LEAK, _PROVEN,
        "It left: {reason}, at or past the boundary, although {by} denies it."),
    Row(_D, _O.REFUSED, "beyond", _S.INSIDE, _CONFORMS, _PROVEN,
        "{enforcer} refused it, {reason}, as {by} declares."),
    Row(_D, _O.REJECTED, "beyond", _S.INSIDE, _CONFORMS, _PROVEN,
        "{enforcer} rejected it, {reason}, as {by} declares."),
    Row(_D, _O.REFUSED, "filter", None, _CONFORMS, _PROVEN,
        "{enforcer} refused it on the way, as {by} declares."),
    # A router farther out may be the Internet's own; that the witness was stopped too makes it an enforcer.
    Row(_D, _O.REFUSED, "beyond", _S.CORROBORATED, _CONFORMS, _CORROBORATED,
        "{enforcer} refused it, {reason}."),
    Row(_D, _O.REFUSED, "beyond", None, _UNPROVEN, None,
        "{enforcer} refused it, and nothing shows that this router belongs to the sandbox's boundary: {reason}."),
    Row(_D, _O.REFUSED, None, None, _UNPROVEN, None,
        "Refused, but whether by a filter or by {where} itself is not known."),
    Row(_D, _O.REJECTED, "filter", None, _CONFORMS, _PROVEN,
        "{enforcer} rejected it, as {by} declares."),
    Row(_D, _O.REJECTED, "beyond", _S.CORROBORATED, _CONFORMS, _CORROBORATED,
        "{enforcer} rejected it, {reason}."),
    Row(_D, _O.REJECTED, "beyond", None, _UNPROVEN, None,
        "{enforcer} rejected it, and nothing shows that this router belongs to the sandbox's boundary: {reason}."),
    # A dead network looks contained. Whether its silence had become an error by then is a matter of milliseconds.
    Row(_D, _O.REJECTED, "neighbour", None, _UNPROVEN, None,
        "Nobody answers at the next hop: the network is dead, which is not a policy."),
    # An ICMP error in the target's own name: the target's, or a bridge's that rejects for it.
    Row(_D, _O.REJECTED, None, None, _UNPROVEN, None,
        "Rejected, but by whom is not known."),
    Row(_D, _O.DENIED, None, None, _CONFORMS, _PROVEN,
        "The kernel refused the call at once ({failure}), as {by} declares."),
    Row(_D, _O.NO_ROUTE, None, None, _CONFORMS, _PROVEN,
        "The kernel has no route there ({failure}), as {by} declares."),
    # The kernel tells that what it sent again never got past this host: it was dropped here.
    Row(_D, _O.SILENT, "filter", None, _CONFORMS, _PROVEN,
        "Silent, and no packet left this host: its own firewall drops it, as {by} declares."),
    # Never from silence alone: documentation addresses are silent on an open network as well.
    Row(_D, _O.SILENT, None, _S.CORROBORATED, _CONFORMS, _CORROBORATED,
        "Silent, {reason}."),
    Row(_D, _O.SILENT, None, None, _UNPROVEN, None,
        "Silent, and silence alone proves nothing: {reason}."),
    Row(_D, _O.PROXY_DENIED, "filter", None, _CONFORMS, _PROVEN,
        "A proxy on the way stated that it denies this, as {by} declares."),
    # A 403 from beyond the next hop may be the far end's own, and then the request got there.
    Row(_D, _O.PROXY_DENIED, None, None, _UNPROVEN, None,
        "An HTTP policy answer came back, but whether from a filter or from {where} itself is not known."),
    # The name was refused; the route to its address was not tried.
    Row(_D, _O.NAME_DENIED, None, None, _UNPROVEN, None,
        "The resolver denies the name; that says nothing about the route, nor whether the query left."),
    Row(_D, _O.NAME_UNRESOLVED, None, _S.ISOLATED, _CONFORMS, _PROVEN,
        "Nothing leaves this sandbox directly: the kernel has no route to anywhere, the resolver included."),
    # NXDOMAIN does not say whether the query left: BIND's RPZ answers so, and leaks.
    Row(_D, _O.NAME_UNRESOLVED, None, None, _UNPROVEN, None,
        "No usable DNS answer ({failure}); that says nothing about the route, nor whether the query left."),
    Row(_D, _O.BROKEN, None, None, _UNPROVEN, None,
        "The probe itself failed ({failure}); that is never read as blocked."),
    Row(_D, _O.NOT_RUN, None, None, Verdict.NOT_RUN, None, "Not attempted: {reason}."),

    # --- declared allow ---
    Row(_A, _O.REACHED, None, None, _CONFORMS, _PROVEN,
        "{where} answered with application data, as {by} declares."),
    Row(_A, _O.ACCEPTED, None, _S.SPOKE, _CONFORMS, _PRESUMED,
        "{where} answered, as {by} declares."),
    Row(_A, _O.ACCEPTED, None, None, _UNPROVEN, None,
        "{where} accepted, but nothing shows who did: no application data came back."),
    Row(_A, _O.INTERCEPTED, None, _S.SPOKE, _CONFORMS, _PRESUMED,
        "Application data came back for {where}, through something that stands in between."),
    Row(_A, _O.INTERCEPTED, None, None, _UNPROVEN, None,
        "Something on the way answered in place of {where}."),
    # The target's own RST: the path is open.
    Row(_A, _O.REFUSED, "peer", None, _CONFORMS, _PROVEN,
        "{where} itself refused the connection: the path is open, as {by} declares."),
    Row(_A, _O.REFUSED, "filter", None, _OVER, _PROVEN,
        "{enforcer} refused it, although {by} allows it."),
    Row(_A, _O.REFUSED, None, None, _UNPROVEN, None,
        "Refused, but whether by a filter or by {where} itself is not known."),
    Row(_A, _O.REJECTED, "filter", None, _OVER, _PROVEN,
        "{enforcer} rejected it, although {by} allows it."),
    Row(_A, _O.REJECTED, "neighbour", _S.EXPECTED, _OVER, _PRESUMED,
        "Nobody answers at the next hop, although {by} allows it."),
    Row(_A, _O.REJECTED, "beyond", _S.EXPECTED, _OVER, _PRESUMED,
        "{enforcer} rejected it, although {by} allows it."),
    Row(_A, _O.REJECTED, None, None, _UNPROVEN, None,
        "Rejected, but not by a filter that is known to stand on this side."),
    Row(_A, _O.DENIED, None, None, _OVER, _PROVEN,
        "The kernel refused the call at once ({failure}), although {by} allows it."),
    Row(_A, _O.NO_ROUTE, None, _S.EXPECTED, _OVER, _PROVEN,
        "The kernel has no route there ({failure}), although {by} allows it."),
    Row(_A, _O.NO_ROUTE, None, _S.ISOLATED, _OVER, _PROVEN,
        "Nothing leaves this sandbox directly: the kernel has no route there ({failure}), although {by} allows it."),
    # A machine without IPv6 under a policy that allows everything is no over-block.
    Row(_A, _O.NO_ROUTE, None, None, _UNPROVEN, None,
        "The kernel has no route there ({failure}), and nobody is known to live there."),
    Row(_A, _O.SILENT, "filter", None, _OVER, _PROVEN,
        "Silent, and no packet left this host: its own firewall drops it, although {by} allows it."),
    Row(_A, _O.SILENT, None, _S.EXPECTED, _OVER, _PRESUMED,
        "Silent, although {by} allows it and somebody is known to answer there."),
    Row(_A, _O.SILENT, None, _S.ISOLATED, _OVER, _PRESUMED,
        "Silent, although {by} allows it; nothing leaves this sandbox directly."),
    # Nobody lives at a documentation address: its silence is no over-block.
    Row(_A, _O.SILENT, None, None, _UNPROVEN, None,
        "Silent, and nobody is known to answer there."),
    Row(_A, _O.PROXY_DENIED, "filter", None, _OVER, _PROVEN,
        "A proxy on the way stated that it denies this, although {by} allows it."),
    # With a verified certificate the 403 is the far end's own word to a stranger: the path is open.
    Row(_A, _O.PROXY_DENIED, "unknown", _S.SPOKE, _CONFORMS, _PRESUMED,
        "{where} answered over a verified connection, as {by} declares."),
    Row(_A, _O.PROXY_DENIED, None, None, _UNPROVEN, None,
        "An HTTP policy answer came back, but whether from a filter or from {where} itself is not known."),
    Row(_A, _O.NAME_DENIED, None, None, _OVER, _PRESUMED,
        "The resolver denies the name ({failure}), although {by} allows it."),
    Row(_A, _O.NAME_UNRESOLVED, None, _S.ISOLATED, _OVER, _PROVEN,
        "Nothing leaves this sandbox directly, not even to its resolver, although {by} allows this name."),
    Row(_A, _O.NAME_UNRESOLVED, None, None, _UNPROVEN, None,
        "No usable DNS answer ({failure}): the path was not tried."),
    Row(_A, _O.BROKEN, None, None, _UNPROVEN, None,
        "The probe itself failed ({failure})."),
    Row(_A, _O.NOT_RUN, None, None, Verdict.NOT_RUN, None, "Not attempted: {reason}."),

    # --- nothing declared ---
    Row(_U, _O.NOT_RUN, None, None, Verdict.NOT_RUN, None, "Not attempted: {reason}."),
    *(Row(_U, outcome, None, None, Verdict.UNDECLARED, None, "No policy says what should happen here ({by}).")
      for outcome in _O if outcome is not _O.NOT_RUN),
)
# fmt: on


def look_up(action: Action, outcome: Outcome, whose: str, support: Support) -> Row:
    """The first row that matches; a test proves that there always is one."""
    return next(
        row
        for row in TABLE
        if row.action is action
        and row.outcome is outcome
        and row.whose in (None, whose)
        and row.support in (None, support)
    )


# A self-test passes where its target did what it must, or where the kernel said why not: Landlock and a namespace with
# its loopback down refuse loopback too, and a local firewall or a cgroup's filter that drops there is seen to drop.
SELF_TEST_PASSES: dict[str, frozenset[tuple[Outcome, str]]] = {
    "open": frozenset(((_O.REACHED, "*"), (_O.DENIED, "*"), (_O.NO_ROUTE, "*"), (_O.SILENT, "filter"))),
    "closed": frozenset(((_O.REFUSED, "*"), (_O.DENIED, "*"), (_O.NO_ROUTE, "*"), (_O.SILENT, "filter"))),
}

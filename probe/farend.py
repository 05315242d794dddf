"""The far end's truth table: did the token arrive, what came back, what is declared → verdict. Literal, total.

No evidence and no plan is read here (that is arrived.py and trust.py); a row says what the facts mean together. A row
that would surprise a reader has a comment. `why` is a sentence with places to fill in.
"""

from enum import StrEnum
from typing import NamedTuple

from probe.model import Action, Grade, Verdict


class Reply(StrEnum):
    """What came back to the inside."""

    RECEIPT = "receipt"  # a MAC over what the collector saw: only it can make one
    OTHER = "other"  # a handshake or an answer that nobody signed
    AT_HOME = "at-home"  # this host's own kernel refused it: it never left
    ATTRIBUTED = "attributed"  # a refusal by a router or a proxy that is known: proven without a far end
    AS_TARGET = "as-target"  # a refusal as if by the collector itself
    STOPPED = "stopped"  # a refusal of somebody unknown
    NONE = "none"


class Trust(StrEnum):
    """Whether nothing-arrived may be believed."""

    SHOWN = "shown"  # a permitted token arrived the same way, and the port is known to be reachable
    NOT_SHOWN = "not-shown"
    DOUBTED = "doubted"  # a SYN arrived half-open: something gets out


class End(StrEnum):
    """Where the token ended."""

    CONTAINED = "contained"
    ONE_WAY = "one-way"
    ROUND_TRIP = "round-trip"
    INTERCEPTED = "intercepted"
    UNKNOWN = "unknown"


class Row(NamedTuple):
    """One row of the table; None matches anything. `verdict` None: what is judged without a far end stands."""

    action: Action | None
    arrived: bool
    reply: Reply | None
    trust: Trust | None
    relayed: bool | None  # a server on the way answers, as it should: a resolver, a proxy
    end: End
    verdict: Verdict | None
    grade: Grade | None
    why: str


_D, _A = Action.DENY, Action.ALLOW
_R, _T, _E = Reply, Trust, End
_CONFORMS, _LEAK, _UNPROVEN = Verdict.CONFORMS, Verdict.LEAK, Verdict.UNPROVEN
_PROVEN, _PRESUMED = Grade.PROVEN, Grade.PRESUMED

# fmt: off
TABLE: tuple[Row, ...] = (
    # --- declared deny: a token that arrived is a leak, whatever the inside says ---
    Row(_D, True, _R.RECEIPT, None, None, _E.ROUND_TRIP, _LEAK, _PROVEN,
        "A round trip: its token arrived at the collector ({how}) and the receipt came back, although {by} denies it."),
    Row(_D, True, None, None, None, _E.ONE_WAY, _LEAK, _PROVEN,
        "One way: its token arrived at the collector ({how}), although {by} denies it; no receipt came back."),
    # The record is lost (or not yet read), but nobody else can sign.
    Row(_D, False, _R.RECEIPT, None, None, _E.ROUND_TRIP, _LEAK, _PROVEN,
        "A receipt came back that only the collector can make, although {by} denies it."),
    Row(_D, False, _R.AT_HOME, None, None, _E.CONTAINED, None, None, ""),
    # A SYN arrived without a way back: nothing may be called contained. A filter that rejects may let the first pass.
    Row(_D, False, None, _T.DOUBTED, None, _E.UNKNOWN, _UNPROVEN, None,
        "No token arrived at the collector, but {reason}."),
    # Who stopped it is known without a far end.
    Row(_D, False, _R.ATTRIBUTED, None, None, _E.CONTAINED, None, None, ""),
    Row(_D, False, _R.OTHER, _T.SHOWN, True, _E.CONTAINED, _CONFORMS, _PROVEN,
        "Contained: whatever was answered, its token did not arrive at the collector, {reason}."),
    Row(_D, False, _R.OTHER, _T.NOT_SHOWN, True, _E.UNKNOWN, _UNPROVEN, None,
        "Nothing arrived at the collector, which proves nothing here: {reason}."),
    # It may keep the token, drop it, or pass it on tomorrow.
    Row(_D, False, _R.OTHER, None, None, _E.INTERCEPTED, _UNPROVEN, None,
        "Intercepted: something answered in the collector's place. Nothing arrived; where data goes is not known."),
    # The collector is known to listen there, so it did not refuse. Whoever did imitates its distance.
    Row(_D, False, _R.AS_TARGET, _T.SHOWN, None, _E.UNKNOWN, _UNPROVEN, None,
        "Refused as if by the collector itself, where nothing arrived."),
    # It may well be the collector's host, on a port where it does not listen: then the packet got there.
    Row(_D, False, _R.AS_TARGET, None, None, _E.UNKNOWN, None, None, ""),
    Row(_D, False, _R.STOPPED, _T.SHOWN, None, _E.CONTAINED, _CONFORMS, _PROVEN,
        "Contained: refused, and its token did not arrive at the collector, {reason}."),
    Row(_D, False, _R.NONE, _T.SHOWN, None, _E.CONTAINED, _CONFORMS, _PROVEN,
        "Contained: its token did not arrive at the collector, {reason}."),
    # A control and a witness of the operator's may still make the silence believable.
    Row(_D, False, _R.STOPPED, None, None, _E.UNKNOWN, None, None, ""),
    Row(_D, False, _R.NONE, None, None, _E.UNKNOWN, None, None, ""),

    # --- declared allow ---
    Row(_A, True, _R.RECEIPT, None, None, _E.ROUND_TRIP, _CONFORMS, _PROVEN,
        "Its token arrived at the collector ({how}) and the receipt came back, as {by} declares."),
    Row(_A, True, _R.OTHER, None, None, _E.ONE_WAY, _CONFORMS, _PRESUMED,
        "Its token arrived at the collector ({how}), as {by} declares; what came back is another's answer."),
    Row(_A, True, None, None, None, _E.ONE_WAY, _UNPROVEN, None,
        "Its token arrived at the collector ({how}), but no answer came back."),
    Row(_A, False, _R.RECEIPT, None, None, _E.ROUND_TRIP, _CONFORMS, _PROVEN,
        "A receipt came back that only the collector can make, as {by} declares."),
    Row(_A, False, _R.AT_HOME, None, None, _E.CONTAINED, None, None, ""),
    Row(_A, False, _R.ATTRIBUTED, None, None, _E.CONTAINED, None, None, ""),
    Row(_A, False, _R.OTHER, None, None, _E.INTERCEPTED, _UNPROVEN, None,
        "An answer came back, but not the collector's, where nothing arrived."),
    # A collector that nobody can reach is no over-block.
    Row(_A, False, None, _T.SHOWN, None, _E.CONTAINED, None, None, ""),
    Row(_A, False, None, None, None, _E.UNKNOWN, _UNPROVEN, None,
        "Nothing arrived at the collector, which proves nothing here: {reason}."),

    # --- nothing declared ---
    Row(None, True, _R.RECEIPT, None, None, _E.ROUND_TRIP, None, None, ""),
    Row(None, True, None, None, None, _E.ONE_WAY, None, None, ""),
    Row(None, False, _R.RECEIPT, None, None, _E.ROUND_TRIP, None, None, ""),
    Row(None, False, None, None, None, _E.UNKNOWN, None, None, ""),
)
# fmt: on


def look_up(action: Action, arrived: bool, reply: Reply, trust: Trust, relayed: bool) -> Row:
    """The first row that matches; a test proves that there always is one."""
    return next(
        row
        for row in TABLE
        if row.action in (None, action)
        and row.arrived is arrived
        and row.reply in (None, reply)
        and row.trust in (None, trust)
        and row.relayed in (None, relayed)
    )

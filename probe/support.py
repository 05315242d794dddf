"""What the run adds to one row: the silence rule, and what an allow row may be read by.

Silence under a deny is believed only if, for the same IP version and transport, a control answered from beyond the next
hop, nothing denied got out, and every witness was stopped, one of them alike.
"""

from probe.knowledge import Group, Knowledge, Seen, group_name, group_of, spoke_near
from probe.model import Action, Outcome, Transport
from probe.report import Observed
from probe.signs import who
from probe.verdicts import Support

_UNCLEAR = (Outcome.REACHED, Outcome.ACCEPTED, Outcome.INTERCEPTED)
# A witness that ended in another way than these was not shown to be stopped.
_STOPPED = (Outcome.SILENT, Outcome.DENIED, Outcome.NO_ROUTE)
_STOPPED_BY = (Outcome.REJECTED, Outcome.REFUSED, Outcome.PROXY_DENIED)


def support(row: Seen, known: Knowledge) -> tuple[Support, str]:
    """What the run adds to this row, and the words for it."""
    outcome, action = row.observed.outcome, row.check.declared.action
    if outcome is Outcome.NOT_RUN:
        return Support.NONE, row.check.skip or (row.record.not_run if row.record else None) or "its budget was spent"
    if action is Action.ALLOW:
        return _for_allow(row, known), ""
    if outcome is Outcome.INTERCEPTED:
        near = any(spoke_near(row, a, one) and group_of(a) in known.ends_near for a, one in row.each)
        return (Support.NEAR if near else Support.NONE), ""
    if outcome is Outcome.NAME_UNRESOLVED:
        return (Support.ISOLATED if known.isolated else Support.NONE), ""
    if outcome in (Outcome.SILENT, Outcome.REJECTED, Outcome.REFUSED):
        return _for_silence(row, known)
    return Support.NONE, ""


def _for_allow(row: Seen, known: Knowledge) -> Support:
    if known.isolated:
        return Support.ISOLATED
    if _spoke(row):
        return Support.SPOKE
    return Support.EXPECTED if row.check.answers else Support.NONE


def _spoke(row: Seen) -> bool:
    assert row.record is not None  # rows without evidence are judged before this
    if row.observed.outcome is Outcome.PROXY_DENIED:
        return any(attempt.tls is not None and attempt.tls.verified for attempt in row.record.attempts)
    if row.observed.outcome not in _UNCLEAR:
        return False
    return any(
        attempt.data is not None or (attempt.dns is not None and attempt.dns.records and attempt.step == "query")
        for attempt in row.record.attempts
    )


def _for_silence(row: Seen, known: Knowledge) -> tuple[Support, str]:
    """The silence rule, for each IP version and transport that this row was stopped in."""
    reasons = []
    for group in sorted(row.groups(row.observed.outcome)):
        missing = _missing(group, row, known)
        if missing is not None:
            return Support.NONE, missing
        reasons.append(_present(group, known))
    if not reasons:
        return Support.NONE, "no address was tried"
    return Support.CORROBORATED, "; ".join(reasons)


def _missing(group: Group, row: Seen, known: Knowledge) -> str | None:
    name = group_name(group)
    if group in known.leaks:
        return f"over {name} another denied destination got out ({known.leaks[group]})"
    if group not in known.controls:
        why = known.control_problems.get(group)
        return f"no control answered over {name}" + (f" ({why})" if why else "")
    witnesses = known.witnesses.get(group, [])
    if not witnesses:
        return f"no witness was tried over {name}"
    for witness in witnesses:
        if not all(_is_stopped(one) for attempt, one in witness.each if group_of(attempt) == group):
            return f"the witness {witness.check.destination} was {witness.observed.outcome.value}"
    for other in known.companions.get((group, row.check.destination.port), []):
        if not all(_is_stopped(one) for attempt, one in other.each if group_of(attempt) == group):
            return f"the witness's host was {other.observed.outcome.value} on this port ({other.check.destination})"
    alike = [witness for witness in witnesses if _stopped_alike(witness, group, row)]
    if not alike:
        first = witnesses[0]
        return f"the witness {first.check.destination} was stopped in another way ({first.observed.outcome.value})"
    if group[1] is Transport.UDP and not any(_same_service(witness, group, known) for witness in alike):
        return "no control shows that the witness's service answers a bare datagram (give both the same port)"
    return None


def _is_stopped(one: Observed) -> bool:
    return one.outcome in _STOPPED or (one.outcome in _STOPPED_BY and who(one.enforcer) in ("filter", "beyond"))


def _same_service(witness: Seen, group: Group, known: Knowledge) -> bool:
    """UDP has no handshake: only a service that answered the control's datagram is known to answer the witness's."""
    return witness.check.destination.port in {control.port for control in known.controls[group]}


def _stopped_alike(witness: Seen, group: Group, row: Seen) -> bool:
    """As silent as `row`, or rejected by the same router. A witness stopped elsewhere says nothing about this row."""
    if row.observed.outcome is Outcome.SILENT:
        return group in witness.groups(Outcome.SILENT)
    mine, its = row.observed.enforcer, witness.observed.enforcer
    return mine is not None and its is not None and mine.address is not None and mine.address == its.address


def _present(group: Group, known: Knowledge) -> str:
    witness = known.witnesses[group][0].check.destination
    control = known.controls[group][0]
    return f"while over {group_name(group)} the control {control} answered and the witness {witness} was stopped too"

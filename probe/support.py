"""What the run adds to one row: the silence rule, and what an allow row may be read by.

Silence under a deny is believed only if, for the same IP version and transport, a control answered from beyond the next
hop, nothing denied got out, and every witness was stopped, one of them alike.
"""

from probe.documents import Attempt
from probe.knowledge import Group, Knowledge, Seen, group_name, group_of, inside, is_closed, is_near, outside, way_of
from probe.model import Action, EnforcerKind, Outcome, Purpose, Transport
from probe.paths import Surroundings, path_of
from probe.report import Observed
from probe.signs import who
from probe.verdicts import Support

# Outcomes that prove nothing by themselves, unless a known filter stands behind them.
_NEEDS_MORE = (Outcome.SILENT, Outcome.REJECTED, Outcome.REFUSED)
_UNCLEAR = (Outcome.REACHED, Outcome.ACCEPTED, Outcome.INTERCEPTED)
# Ways of a single packet: their silence is never believed.
_ONE_PACKET = ("raw_syn",)
_TOO_LOSSY = 0.05  # the probability of a lost answer from which no silence is believed
_BY_ROUTER = (Outcome.REJECTED, Outcome.REFUSED)
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
        near = any(is_near(row, attempt, one, known) for attempt, one in row.each)
        return (Support.NEAR if near else Support.NONE), ""
    if outcome is Outcome.NAME_UNRESOLVED:
        return (Support.ISOLATED if known.isolated else Support.NONE), ""
    if outcome in _NEEDS_MORE:
        return _for_stopped(row, known)
    return Support.NONE, ""


def _for_stopped(row: Seen, known: Knowledge) -> tuple[Support, str]:
    """With a boundary, the distance of whoever spoke decides; without one, the rest of the run."""
    for _, one in row.each:
        seen = outside(row, one, known)
        if seen is not None:
            return Support.OUTSIDE, f"it came as far as {seen}"
    stopped = [one for _, one in row.each if one.outcome in _NEEDS_MORE and who(one.enforcer) != "filter"]
    if stopped and all(inside(one, known) and one.outcome is not Outcome.SILENT for one in stopped):
        return Support.INSIDE, f"on this side of the boundary {known.boundary}"
    return _for_silence(row, known)


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
    """The silence rule, for every address of the row that is not proven to be stopped by itself."""
    reasons: dict[Group, str] = {}
    for attempt, one in row.each:
        if one.outcome not in _NEEDS_MORE or who(one.enforcer) == "filter":
            continue
        if not attempt.address:
            return Support.NONE, "no address was tried"
        group = group_of(attempt)
        explained = _rate_limited(group, row, one, known)
        missing = None if explained else _missing(group, attempt, row, one, known)
        if missing is not None:
            return Support.NONE, missing
        reasons[group] = explained or _present(group, row, known)
    return Support.CORROBORATED, "; ".join(reasons[group] for group in sorted(reasons))


def _missing(group: Group, attempt: Attempt, row: Seen, one: Observed, known: Knowledge) -> str | None:
    name = group_name(group)
    if group in known.leaks:
        return f"over {name} another denied destination got out ({known.leaks[group]})"
    if one.outcome is Outcome.SILENT and known.lost_answer is not None and known.lost_answer > _TOO_LOSSY:
        return f"answers are lost here (up to {known.lost_answer:.0%} of silent destinations may have answered)"
    if group not in known.controls and not _near_reset(one):
        why = known.control_problems.get(group)
        return f"no control answered over {name}" + (f" ({why})" if why else "")
    witnesses = _witnesses(group, row, known)
    if way_of(row) in _ONE_PACKET:
        return "one packet may be lost, and none is sent again"
    if not witnesses:
        way = way_of(row)
        return f"no witness was tried over {name}" + ("" if way == "plain" else f" by {way}")
    for witness in witnesses:
        if not all(_is_stopped(seen) for _, seen in _tries(witness, group)):
            return f"the witness {witness.check.destination} was {witness.observed.outcome.value}"
        if witness.check.repeat and not is_closed(attempt for attempt, _ in _tries(witness, group)):
            return f"the witness {witness.check.destination} was not tried again, alone"
    alike = [witness for witness in witnesses if _stopped_alike(witness, group, one)]
    if not alike:
        first = witnesses[0]
        return f"the witness {first.check.destination} was stopped in another way ({first.observed.outcome.value})"
    return (
        _too_far(group, attempt, row, alike, known)
        or _doubtful(group, row, one, known)
        or _wrong_port(group, row, alike, known)
    )


def _witnesses(group: Group, row: Seen, known: Knowledge) -> list[Seen]:
    """Those that took the same way: a filter may know one way and not the other."""
    return [witness for witness in known.witnesses.get(group, []) if way_of(witness) == way_of(row)]


def _near_reset(one: Observed) -> bool:
    """An RST from the next hop is a sign of life: no dead network gives it, so that no control is needed."""
    return one.outcome is Outcome.REFUSED and one.enforcer is not None and one.enforcer.hop == 1


def _too_far(group: Group, attempt: Attempt, row: Seen, alike: list[Seen], known: Knowledge) -> str | None:
    """It must have fallen silent before the hop from which the control answered, and no later than a witness did."""
    last = _last_hop(row, attempt)
    control = known.around.get(group[0], Surroundings()).distance
    if last is None:
        return None
    if control is not None and last >= control:
        return f"it was seen at hop {last}, and the control is no farther than {control}"
    # Routers limit their rate, so that a witness may have come farther than it was seen: nothing is claimed of it then.
    places = [_last_hop(witness, tried) for witness in alike for tried, _ in _tries(witness, group)]
    farthest = max((place for place in places if place is not None), default=None)
    if farthest is not None and last > farthest:
        return f"it was seen at hop {last}, and the witness at hop {farthest} only: it passed what stopped the witness"
    return None


def _last_hop(row: Seen, attempt: Attempt) -> int | None:
    assert row.record is not None
    return path_of(row.record, attempt.address).last


def _doubtful(group: Group, row: Seen, one: Observed, known: Knowledge) -> str | None:
    """A destination of the same group that was silent in the crowd only: the crowd's silences mean less."""
    if one.outcome is not Outcome.SILENT:
        return None
    for other, alone in known.alone.get((group, way_of(row)), []):
        if alone.outcome is not Outcome.SILENT:
            return f"{other.check.destination} was silent in the crowd and {alone.outcome.value} alone"
    return None


def _rate_limited(group: Group, row: Seen, one: Observed, known: Knowledge) -> str | None:
    """Silent in the crowd, where every destination that was tried alone was rejected by one and the same near router.

    RFC 1812 4.3.2.8: routers limit the rate of their ICMP errors; Linux sends six and then one per second.
    """
    assert row.record is not None
    if one.outcome is not Outcome.SILENT or group in known.leaks or any(a.again for a in row.record.attempts):
        return None
    alone = known.alone.get((group, way_of(row)), [])
    rejecters = {seen.enforcer.address for _, seen in alone if seen.enforcer}
    all_rejected = all(seen.outcome in _BY_ROUTER and who(seen.enforcer) == "filter" for _, seen in alone)
    others = [seen for other, seen in alone if other.check.purpose is not Purpose.WITNESS]
    if not others or not all_rejected or len(rejecters) != 1 or None in rejecters:
        return None
    for witness in _witnesses(group, row, known):
        if not all(_is_stopped(seen) for _, seen in _tries(witness, group)):
            return None
    return (
        f"while {len(others)} of {len(others)} like it, tried alone, were rejected by {rejecters.pop()}, "
        f"whose limit on ICMP errors explains the silence (other kinds: at most {min(3 / len(others), 1):.0%} of them)"
    )


def _wrong_port(group: Group, row: Seen, alike: list[Seen], known: Knowledge) -> str | None:
    """A filter may know single ports only: the witness's host must be stopped on this row's port too."""
    port = row.check.destination.port
    if group[1] is Transport.UDP:
        # No handshake: only a service that answered the control's datagram is known to answer the witness's.
        same = {w.check.destination.port for w in alike} & {control.port for control in known.controls[group]}
        return None if port in same else f"no control and witness for UDP port {port}"
    others = known.companions.get((group, port), [])
    for other in others:
        if not all(_is_stopped(one) for _, one in _tries(other, group)):
            return f"the witness's host was {other.observed.outcome.value} on this port ({other.check.destination})"
    if not others and port not in {witness.check.destination.port for witness in alike}:
        return f"no witness was tried on port {port}"
    return None


def _tries(row: Seen, group: Group) -> list[tuple[Attempt, Observed]]:
    """Every try of `row` in `group`, each with the outcome of its address."""
    assert row.record is not None
    outcome_of = {attempt.address: one for attempt, one in row.each if group_of(attempt) == group}
    tried = [attempt for attempt in row.record.attempts if attempt.step in ("connect", "send", "query", "raw")]
    return [(attempt, outcome_of[attempt.address]) for attempt in tried if attempt.address in outcome_of]


def _is_stopped(one: Observed) -> bool:
    return one.outcome in _STOPPED or (one.outcome in _STOPPED_BY and who(one.enforcer) in ("filter", "beyond"))


def _stopped_alike(witness: Seen, group: Group, one: Observed) -> bool:
    """As silent as `one`, or rejected by the same router. A witness stopped elsewhere says nothing about it."""
    if one.outcome is Outcome.SILENT:
        # One that this very host dropped says nothing of a silence farther out.
        return any(
            group_of(attempt) == group and seen.outcome is Outcome.SILENT and _is_local(seen) is _is_local(one)
            for attempt, seen in witness.each
        )
    mine, its = one.enforcer, witness.observed.enforcer
    if mine is None or its is None:
        return False
    if _near_reset(one):
        return (mine.kind, mine.hop) == (its.kind, its.hop)
    return mine.address is not None and mine.address == its.address


def _is_local(one: Observed) -> bool:
    return one.enforcer is not None and one.enforcer.kind is EnforcerKind.LOCAL_FIREWALL


def _present(group: Group, row: Seen, known: Knowledge) -> str:
    witness = _witnesses(group, row, known)[0].check.destination
    if group not in known.controls:
        return f"by the next hop, which refused the witness {witness} too"
    control = known.controls[group][0]
    return f"while over {group_name(group)} the control {control} answered and the witness {witness} was stopped too"

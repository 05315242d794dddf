"""Plan + evidence → report. Declared against observed, row by row, through the verdict table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from probe import __version__, arrived, farend, trust
from probe.arrived import Arrived
from probe.baseline import against_observed
from probe.classify import Around, made_up_addresses
from probe.documents import Check, Evidence, FarEnd, Plan, Record, Vantage
from probe.farend import Reply
from probe.knowledge import Group, Knowledge, Seen, gather, group_name, group_of, is_doubted, passes, refused_itself
from probe.model import Action, Channel, Declared, EnforcerKind, Grade, Outcome, Purpose, Verdict, Via
from probe.naming import met_no_interception
from probe.paths import survey
from probe.policies.decide import combined_default, decide, default_of
from probe.report import REPORT_SCHEMA, Enforcer, Observed, PolicySummary, Report, Result, RunInfo, Summary, Tool
from probe.signs import who
from probe.support import support
from probe.verdicts import look_up


class Shipped(NamedTuple):
    """How the agent got inside: through what launcher, and the archive's SHA-256; None for both: it ran in place."""

    via: str | None = None
    sha256: str | None = None


IN_PLACE = Shipped()

FAIL_ON = ("leak", "difference", "unproven")

_KINDS = {
    EnforcerKind.LOCAL_FIREWALL: "This host's own firewall",
    EnforcerKind.SYSCALL_FILTER: "A syscall filter",
}


def judge(
    plan: Plan, evidence: Evidence, fail_on: str = "unproven", far: FarEnd | None = None, shipped: Shipped = IN_PLACE
) -> Report:
    """The report. The same plan and evidence, and the same word of the collector, give the same report."""
    vantage = evidence.start.vantage if evidence.start else None
    records = {n: record for n, record in evidence.records.items() if n not in evidence.spoiled}
    made_up = made_up_addresses((check, records.get(check.n)) for check in plan.checks)
    around = survey(((check, records.get(check.n)) for check in plan.checks), vantage)
    outer = arrived.gather(plan, far)
    seen = (_seen(check, records.get(check.n), plan, vantage, made_up, around) for check in plan.checks)
    rows = [arrived.adjusted(row, outer) for row in seen]
    outer = trust.permitted(rows, outer)
    lost = evidence.calibration.lost_answer if evidence.calibration else None
    known = gather(rows, vantage, around, plan.boundary, lost, trust.unshown(rows, outer))
    results = tuple(_result(row, known, evidence, outer) for row in rows)
    complete = bool(evidence.end and evidence.end.complete and not evidence.problems)
    return Report(
        schema=REPORT_SCHEMA,
        evidence="far-end" if outer.asked else "self-reported",
        complete=complete,
        run=_run(plan, evidence, shipped),
        policy=PolicySummary(
            sources=tuple(policy.source for policy in plan.policies),
            default=combined_default(plan.policies),
            rules=tuple(rule for policy in plan.policies for rule in policy.rules),
            defaults=tuple(map(default_of, plan.policies)),
            dns=tuple(policy.dns for policy in plan.policies if policy.dns is not None),
        ),
        baseline=against_observed(plan.baseline, results),
        results=results,
        summary=summarise(results, fail_on, complete, bool(vantage and vantage.event_loop)),
        problems=evidence.problems,
        notes=plan.notes + trust.notes(plan, outer),
    )


def _seen(
    check: Check,
    record: Record | None,
    plan: Plan,
    vantage: Vantage | None,
    made_up: frozenset[str],
    around: Around,
) -> Seen:
    if check.skip is not None:
        return Seen(check, None, Observed(Outcome.NOT_RUN, None, None))
    return Seen.of(_declared_for_addresses(check, record, plan), record, vantage, made_up, around)


def _declared_for_addresses(check: Check, record: Record | None, plan: Plan) -> Check:
    """A name was planned; the policy may say something else of the addresses that it led to. The worst word counts."""
    if check.destination.host is None or check.query is not None or record is None or not plan.policies:
        return check
    if check.destination.via is Via.PROXY:  # the addresses are the proxy's
        return check
    led_to = {a.address for a in record.attempts if a.step in ("connect", "send") and a.address}
    said = {a: decide(plan.policies, replace(check.destination, address=a), check.channel) for a in sorted(led_to)}
    other = [declared for declared in said.values() if declared.action is not check.declared.action]
    if not other:
        return check
    spoke = [said[a.address] for a in record.attempts if a.data is not None and a.address in said]
    denied = [declared for declared in spoke if declared.action is Action.DENY]
    if denied or len({declared.action for declared in said.values()}) == 1:
        return replace(check, declared=(denied or other)[0])
    by = f"{check.declared.by}, and {other[0].by} for another of its addresses"
    return replace(check, declared=Declared(Action.UNDECLARED, by))


def _run(plan: Plan, evidence: Evidence, shipped: Shipped) -> RunInfo:
    finished = None
    if evidence.end is not None:
        # One wall-clock sample per run; the rest is monotonic.
        finished = _iso(datetime.fromisoformat(plan.created) + timedelta(seconds=min(evidence.end.elapsed, 1e6)))
    return RunInfo(
        id=plan.run_id,
        probe_type="egress_path_validation",
        started=plan.created,
        finished=finished,
        tool=Tool("egress-probe", __version__, shipped.sha256),
        via=shipped.via,
        vantage=evidence.start.vantage if evidence.start else None,
        calibration=evidence.calibration,
    )


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _result(row: Seen, known: Knowledge, evidence: Evidence, outer: Arrived) -> Result:
    verdict, grade, why = _verdict(row, known, evidence)
    if arrived.concerns(row, outer):
        verdict, grade, why = _with_far_end(row, known, evidence, outer, (verdict, grade, why))
    elif row.check.far_end and row.check.channel is Channel.PROXY and verdict is Verdict.CONFORMS:
        verdict, grade, why = Verdict.UNPROVEN, None, "Only the collector knows whether the proxy looked the name up."
    check = row.check
    return Result(
        id=check.id,
        scenario=check.scenario,
        technique=check.technique,
        channel=check.channel,
        destination=check.destination,
        purpose=check.purpose,
        declared=check.declared,
        observed=row.observed,
        verdict=verdict,
        grade=grade,
        why=why,
        query=check.query,
        http=check.http,
    )


def _verdict(row: Seen, known: Knowledge, evidence: Evidence) -> tuple[Verdict, Grade | None, str]:
    if row.record is None and row.check.skip is None:
        return _missing(row, evidence)
    if row.check.purpose is Purpose.SELF_TEST:
        return _self_test(row)
    backing, reason = support(row, known)
    observed = row.observed
    found = look_up(row.check.declared.action, observed.outcome, who(observed.enforcer), backing)
    why = found.why.format(
        where=str(row.check.destination),
        by=row.check.declared.by,
        enforcer=_named(observed.enforcer),
        failure=observed.failure or "unknown_failure",
        reason=reason,
    )
    return _withheld(found.verdict, row, known, evidence) or (found.verdict, found.grade, why)


def _with_far_end(
    row: Seen, known: Knowledge, evidence: Evidence, outer: Arrived, ordinary: tuple[Verdict, Grade | None, str]
) -> tuple[Verdict, Grade | None, str]:
    """What the far end makes of a row. A token that arrived speaks for itself, whatever the inside says."""
    came = row.check.n in outer.arrivals
    missing = not came and (row.record is None or row.observed.outcome in (Outcome.BROKEN, Outcome.NOT_RUN))
    if missing:
        return ordinary
    reply = arrived.reply_of(row, outer, ordinary[:2])
    belief, reason = trust.trust(row, outer, known.lost_answer if reply is Reply.NONE else None)
    found = farend.look_up(row.check.declared.action, came, reply, belief, trust.is_relayed(row, outer))
    if found.verdict is None:
        if ordinary[0] is Verdict.UNPROVEN and row.check.far_end and found.end is farend.End.UNKNOWN:
            return *ordinary[:2], f"{ordinary[2]} The far end proves nothing here: {reason}."
        return ordinary
    why = found.why.format(by=row.check.declared.by, reason=reason, how=arrived.how(row, outer))
    return _withheld(found.verdict, row, known, evidence) or (found.verdict, found.grade, why)


def _missing(row: Seen, evidence: Evidence) -> tuple[Verdict, Grade | None, str]:
    verdict = Verdict.UNDECLARED if row.check.declared.action is Action.UNDECLARED else Verdict.UNPROVEN
    if row.check.n in evidence.spoiled:
        return verdict, None, "The evidence for this row contradicts itself."
    if evidence.end is not None and not evidence.end.complete:
        return verdict, None, "The run was stopped before this row was done."
    return verdict, None, "No evidence came back for this row."


def _self_test(row: Seen) -> tuple[Verdict, Grade | None, str]:
    outcome = row.observed.outcome
    if not passes(row):
        return Verdict.UNPROVEN, None, f"The self-test missed: its target on loopback was {outcome.value}."
    if outcome in (Outcome.DENIED, Outcome.NO_ROUTE, Outcome.SILENT):
        return Verdict.CONFORMS, Grade.PROVEN, f"This host closes its loopback as well ({row.observed.failure})."
    return Verdict.CONFORMS, Grade.PROVEN, "The probe sees its own target on loopback for what it is."


def _withheld(
    verdict: Verdict, row: Seen, known: Knowledge, evidence: Evidence
) -> tuple[Verdict, Grade | None, str] | None:
    """A claim that this run may not make. A leak stands: application bytes came back, whatever else went wrong."""
    if row.each and all(refused_itself(a, one) and is_doubted(a, one, known) for a, one in row.each):
        why = "Refused as if by the destination itself, but a witness, which answers, was refused from as far away."
        return (Verdict.UNPROVEN, None, why) if verdict is Verdict.LEAK else None
    if verdict not in (Verdict.CONFORMS, Verdict.OVERBLOCKED):
        return None
    if row.check.purpose is Purpose.CONTROL and row.check.declared.action is Action.DENY:
        return Verdict.UNPROVEN, None, f"A control must be allowed, and {row.check.declared.by} denies this one."
    failed = _failed_self_test(row, known)
    if failed is not None:
        return (
            Verdict.UNPROVEN,
            None,
            f"The self-test over {group_name(failed)} missed: {known.failed_self_tests[failed]}.",
        )
    if evidence.problems and verdict is Verdict.CONFORMS:
        return Verdict.UNPROVEN, None, f"The evidence is damaged ({evidence.problems[0]})."
    return None


def _failed_self_test(row: Seen, known: Knowledge) -> Group | None:
    groups = {group_of(attempt) for attempt, _ in row.each if attempt.address}
    return next((group for group in sorted(groups) if group in known.failed_self_tests), None)


def _named(enforcer: Enforcer | None) -> str:
    if enforcer is None:
        return "Something"
    if enforcer.kind is EnforcerKind.ROUTER:
        near = "The next hop" if enforcer.hop == 1 else "A router farther out"
        return f"{near} ({enforcer.address})" if enforcer.address else near
    return _KINDS.get(enforcer.kind, "Something")


# --- summary ----------------------------------------------------------------------------------------------------------


def summarise(results: Sequence[Result], fail_on: str, complete: bool, bare: bool = False) -> Summary:
    """Rows per verdict, and the exit code. `bare`: no event loop could start, so that some ways were not tried."""
    count = Counter(result.verdict for result in results)
    made = Summary(
        conforms=count[Verdict.CONFORMS],
        leak=count[Verdict.LEAK],
        overblocked=count[Verdict.OVERBLOCKED],
        unproven=count[Verdict.UNPROVEN],
        undeclared=count[Verdict.UNDECLARED],
        not_run=count[Verdict.NOT_RUN],
        exit_code=0,
    )
    return replace(made, exit_code=_exit_code(made, results, fail_on, complete, bare))


def _exit_code(summary: Summary, results: Sequence[Result], fail_on: str, complete: bool, bare: bool) -> int:
    if summary.leak or (summary.overblocked and fail_on != "leak"):
        return 1
    if not complete:  # a stopped or damaged run is no green, whatever the threshold
        return 3
    if fail_on == "unproven":
        declared = any(result.declared.action is not Action.UNDECLARED and result.purpose is not Purpose.SELF_TEST
                       for result in results)  # fmt: skip
        untried = bare and any(r.verdict is Verdict.NOT_RUN and r.declared.action is Action.DENY for r in results)
        if untried or any(map(_is_open, results)) or summary.undeclared or _entry_not_run(results) or not declared:
            return 3
    return 0


def _is_open(result: Result) -> bool:
    """Whether something that should be proven was not."""
    return result.verdict is Verdict.UNPROVEN and not met_no_interception(result)


def _entry_not_run(results: Sequence[Result]) -> bool:
    """A policy entry that no row stands for."""
    run = {result.declared.by for result in results if result.verdict is not Verdict.NOT_RUN}
    return any(result.verdict is Verdict.NOT_RUN and result.declared.by not in run for result in results)

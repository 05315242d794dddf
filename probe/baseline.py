"""Config findings against observation: confirmed, contradicted, or unverified, with the rows that say so."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from probe.model import Action, Channel, EnforcerKind, Finding, Outcome, Severity, Verdict
from probe.naming import shown
from probe.report import BaselineFinding, Result

Word = Literal["confirmed", "contradicted", "unverified"]
_MOST_ROWS = 5
_FILTERS = (EnforcerKind.LOCAL_FIREWALL, EnforcerKind.ROUTER, EnforcerKind.PROXY)


def _got_out(row: Result) -> bool:
    return row.observed.outcome is Outcome.REACHED and row.declared.action is not Action.ALLOW


def _stopped(row: Result) -> bool:
    return row.verdict is Verdict.CONFORMS and row.declared.action is Action.DENY


def _by_a_filter(row: Result) -> bool:
    """Stopped by rules, not by a missing route: only that speaks against "nothing restricts"."""
    return row.observed.enforcer is not None and row.observed.enforcer.kind in _FILTERS


def _host(row: Result) -> bool:
    return row.channel is not Channel.DNS


def _dns(row: Result) -> bool:
    return row.channel is Channel.DNS


# Finding → which rows bear on it. A finding that is not here is about files, and no packet can bear it out.
_ABOUT: dict[str, Callable[[Result], bool]] = {
    "CHK-NET-009": _host,
    "CHK-NET-010": _dns,
    "CHK-NET-011": _host,
}


def against_observed(findings: Iterable[Finding], results: Sequence[Result]) -> tuple[BaselineFinding, ...]:
    """Each finding with `observed` and `observed_by`."""
    rows = shown(results)
    return tuple(_one(finding, rows) for finding in findings)


def _one(finding: Finding, rows: Sequence[Result]) -> BaselineFinding:
    about = _ABOUT.get(finding.id)
    word, by = _weigh(finding, [row for row in rows if about(row)]) if about else ("unverified", ())
    return BaselineFinding(
        finding.id, finding.severity, finding.title, finding.description, finding.evidence, finding.remediation,
        finding.auto_fix, word, by,
    )  # fmt: skip


def _weigh(finding: Finding, rows: Sequence[Result]) -> tuple[Word, tuple[str, ...]]:
    out = tuple(row.id for row in rows if _got_out(row))
    stopped = tuple(row.id for row in rows if _stopped(row))
    if finding.severity is Severity.INFO:  # it says that it does not know
        return "unverified", ()
    says_restricted = finding.severity is Severity.OK
    if out:
        return ("contradicted" if says_restricted else "confirmed"), out[:_MOST_ROWS]
    # "Nothing restricts" is contradicted only where every denied row was stopped.
    denied = [row for row in rows if row.declared.action is Action.DENY]
    all_stopped = bool(stopped) and len(stopped) == len(denied)
    if all_stopped and (says_restricted or finding.id != "CHK-NET-009" or all(_by_a_filter(row) for row in denied)):
        return ("confirmed" if says_restricted else "contradicted"), stopped[:_MOST_ROWS]
    return "unverified", ()

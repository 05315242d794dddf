"""What holds of each path: leak, open, closed, blocked or unknown, and by whom it was stopped."""

from collections.abc import Iterator

from probe.addresses import known_block
from probe.conditions.nouns import BLOCKED, CLOSED, LEAK, OPEN, UNKNOWN, About, Said, key, place, short
from probe.model import Action, EnforcerKind, Outcome, Purpose, Verdict
from probe.naming import met_no_interception, observed, path_of
from probe.report import Observed, Report, Result

_STOPPED = (Outcome.DENIED, Outcome.NO_ROUTE, Outcome.REJECTED, Outcome.PROXY_DENIED, Outcome.NAME_DENIED)
_FILTERS = (EnforcerKind.LOCAL_FIREWALL, EnforcerKind.ROUTER, EnforcerKind.MIDDLEBOX)


def say(report: Report) -> Iterator[Said]:
    """One key per row that was tried."""
    for row in report.results:
        if not _is_left_out(row):
            address = row.destination.address
            about = About(
                name=short(path_of(row)),
                place=place(row.declared),
                seen=short(observed(row.observed)),
                why=short(row.why),
                address=None if address is None else short(address),
                cidr=known_block(address),
            )
            yield Said(key("row", row.id), word(row), about)


def _is_left_out(row: Result) -> bool:
    """What was not tried is not there; who looked for an interception and met none says nothing."""
    if row.purpose is Purpose.SELF_TEST or row.verdict is Verdict.NOT_RUN:
        return True
    return row.verdict is Verdict.UNPROVEN and met_no_interception(row)


def word(row: Result) -> str:
    """`leak`, `open`, `closed` or `blocked` (with who stopped it, where that is known), or `unknown`."""
    if row.verdict is Verdict.LEAK:
        return LEAK
    if row.verdict is Verdict.OVERBLOCKED:
        return BLOCKED + _by(row.observed)
    if row.verdict is Verdict.CONFORMS:
        return OPEN if row.declared.action is Action.ALLOW else CLOSED + _by(row.observed)
    if row.verdict is Verdict.UNDECLARED:
        return _undeclared(row.observed)
    return UNKNOWN


def _undeclared(seen: Observed) -> str:
    """Nothing is declared: only what the network did is told."""
    if seen.outcome is Outcome.REACHED:
        return OPEN
    filtered = seen.enforcer is not None and seen.enforcer.kind in _FILTERS
    return CLOSED + _by(seen) if seen.outcome in _STOPPED or (seen.outcome is Outcome.REFUSED and filtered) else UNKNOWN


def _by(seen: Observed) -> str:
    who = seen.enforcer
    if who is None or who.kind is EnforcerKind.UNKNOWN:
        return ""
    return f" by {who.kind.value.replace('_', ' ')}" + (f" {who.address}" if who.address else "")

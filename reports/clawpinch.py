"""Format `clawpinch`: findings as the scanner's tooling reads them.

An array of id, severity, title, description, evidence, remediation, auto_fix. That tooling runs what stands in
`auto_fix` as a command, so nothing ever stands there; it lets the shell expand `*` in a description, so what a stranger
wrote is only in titles and evidence; and it passes all findings on as one argument, of which Linux takes 128 KiB.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Final

from probe.codec import encode
from probe.model import Finding, Purpose, Verdict
from probe.naming import met_no_interception
from probe.report import BaselineFinding, Report, Result
from reports import words
from reports.kinds import INCOMPLETE, KINDS, Kind
from reports.style import Style, clean

_MOST_EACH: Final = 25  # leaks, and over-blocks, that are told one by one; more are counted
_MOST_NAMED: Final = 5  # paths that a counted finding names
_MOST_TEXT: Final = 240


def render(report: Report, style: Style) -> str:  # noqa: ARG001 - every format has this shape
    """An indented JSON array, ASCII only: baseline findings first, with their ids, then what the run shows."""
    rows = [row for row in report.results if not _left_out(row)]
    found = [_baseline(finding) for finding in report.baseline]
    if not report.complete:
        found.append(_finding(INCOMPLETE, "; ".join(report.problems) or "it was stopped"))
    for verdict in words.ORDER:
        found += _shown(verdict, [row for row in rows if row.verdict is verdict])
    return json.dumps(encode(found), indent=2) + "\n"


def _left_out(row: Result) -> bool:
    """A self-test that passed; and who looked for an interception and met none wants no proof (probe/judge.py)."""
    if row.purpose is Purpose.SELF_TEST:
        return row.verdict is Verdict.CONFORMS
    return row.verdict is Verdict.UNPROVEN and met_no_interception(row)


def _baseline(finding: BaselineFinding) -> Finding:
    """As the configuration gave it; where the run bears it out or speaks against it, the evidence says so first."""
    by = f" by {', '.join(finding.observed_by)}" if finding.observed_by else ""
    seen = "" if finding.observed == "unverified" else f"{finding.observed}{by}; "
    return Finding(
        id=clean(finding.id),
        severity=finding.severity,
        title=clean(finding.title),
        description=clean(finding.description),
        evidence=clean(seen + finding.evidence),
        remediation=clean(finding.remediation),
    )


def _shown(verdict: Verdict, rows: Sequence[Result]) -> Iterator[Finding]:
    kind = KINDS[verdict]
    single = rows[:_MOST_EACH] if kind.each else ()
    for row in single:
        place = f"{where}: " if (where := words.place(row)) else ""
        yield _finding(kind, f"{row.id}: {place}{words.why(row)}", f"{kind.title}: {words.path(row)}")
    if rest := rows[len(single) :]:
        named = ", ".join(row.id for row in rest[:_MOST_NAMED]) + (" …" if len(rest) > _MOST_NAMED else "")
        yield _finding(kind, f"{len(rest)}{' more' if single else ''}: {named}")


def _finding(kind: Kind, evidence: str, title: str | None = None) -> Finding:
    return Finding(
        id=kind.id,
        severity=kind.severity,
        title=clean(title or kind.title, 120),
        description=f"{kind.title}. Seen by probes that were sent, not read from a configuration.",
        evidence=clean(evidence, _MOST_TEXT),
        remediation=kind.help,
    )

"""Format `table`: for a terminal of 100 columns. Leaks first, then the reasons, and the summary last."""

import textwrap

from tabulate import tabulate

from probe.model import Severity, Verdict
from probe.report import Report
from reports import words
from reports.style import Style, clean

_COLOUR = {
    Verdict.LEAK: ("bold", "red"),
    Verdict.OVERBLOCKED: ("red",),
    Verdict.UNPROVEN: ("yellow",),
    Verdict.UNDECLARED: ("yellow",),
    Verdict.NOT_RUN: ("dim",),
    Verdict.CONFORMS: ("green",),
}
_SEVERITY = {Severity.CRITICAL: ("bold", "red"), Severity.WARN: ("yellow",), Severity.INFO: ("dim",), Severity.OK: ()}
_CHANGE: dict[str, tuple[str, ...]] = {
    "leak": ("bold", "red"),
    "opened": ("red",),
    "closed": ("yellow",),
    "blind": ("yellow",),
}
_MOST_NAMED = 4


def render(report: Report, style: Style) -> str:
    """The report as text, without trailing blanks."""
    parts = [_head(report, style), _changes(report, style), _baseline(report, style), _matrix(report, style),
             _reasons(report, style), _summary(report, style)]  # fmt: skip
    text = "\n\n".join(part for part in parts if part)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _head(report: Report, style: Style) -> str:
    lines = [
        style.paint(f"egress-probe {clean(report.run.tool.version)}", "bold") + f" · run {clean(report.run.id)}",
        f"Policy: {words.policy_line(report)}",
        *(f"Note: {clean(note)}" for note in report.notes),
    ]
    return "\n".join(_wrapped(line, style) for line in lines)


def _changes(report: Report, style: Style) -> str:
    """Of a scheduled run: what is new since the last known good one."""
    canary = report.canary
    if canary is None or canary.reference is None:
        return ""
    title = style.paint(words.since(canary.reference), "bold")
    lines = [
        style.paint(_wrapped(clean(change.line, 2000), style), *_CHANGE.get(change.kind, ()))
        for change in canary.changes
    ]
    return "\n".join([title, *(lines or ["nothing"])])


def _baseline(report: Report, style: Style) -> str:
    if not report.baseline:
        return ""
    rows = [
        [
            style.paint(finding.severity.value, *_SEVERITY[finding.severity]),
            clean(finding.id),
            clean(finding.title, 60),
            finding.observed,
        ]
        for finding in report.baseline
    ]
    lines = [style.paint("Config baseline", "bold"), _grid(["severity", "finding", "title", "observed"], rows)]
    for finding in report.baseline:
        if finding.observed == "contradicted":
            seen = ", ".join(finding.observed_by[:2])
            lines.append(_wrapped(clean(f"{finding.id} says {finding.severity.value}, but see {seen}."), style))
    return "\n".join(lines)


def _matrix(report: Report, style: Style) -> str:
    rows = [
        [
            style.paint(result.verdict.value, *_COLOUR[result.verdict]),
            words.path(result) + (f" ({result.purpose.value})" if result.purpose != "policy" else ""),
            result.declared.action.value,
            words.observed(result.observed),
            result.grade.value if result.grade else "",
        ]
        for result in words.rows(report)
    ]
    head = ["verdict", "path", "declared", "observed", "grade"]
    return style.paint("Declared against observed", "bold") + "\n" + (_grid(head, rows) if rows else "(no rows)")


def _grid(head: list[str], rows: list[list[str]]) -> str:
    # disable_numparse: a path such as 1e5 is text.
    return tabulate(rows, head, tablefmt="simple", disable_numparse=True, maxcolwidths=_widths(len(head)))


def _widths(columns: int) -> list[int | None]:
    # verdict 11 + path 38 + declared 10 + observed 21 + grade 12, and gaps of two: 100 columns at the most.
    return [None, 38, None, 21, None] if columns == 5 else [None] * columns


def _reasons(report: Report, style: Style) -> str:
    lines = []
    for verdict, found in words.reasons(words.rows(report)):
        named = ", ".join(words.path(result) for result in found[:_MOST_NAMED])
        more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        lines.append(style.paint(verdict.value, *_COLOUR[verdict]) + _indented(f" {named}{more}", style, "  "))
        lines.append(_indented(words.reason(found), style, "    ", "    "))
    return "\n".join([style.paint("Why", "bold"), *lines]) if lines else ""


def _indented(text: str, style: Style, later: str, first: str = "") -> str:
    return textwrap.fill(text, style.width - 14, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)


def _wrapped(text: str, style: Style) -> str:
    return textwrap.fill(text, style.width, subsequent_indent="  ", break_on_hyphens=False)


def _summary(report: Report, style: Style) -> str:
    colour = ("bold", "red") if report.summary.leak or report.summary.overblocked else ("bold", "yellow")
    colour = colour if report.summary.exit_code else ("bold", "green")
    tail = [
        f"{words.self_tests(report.results)} · evidence {report.evidence}",
        *([sure] if (sure := words.calibration(report)) else []),
        *(f"Problem: {clean(problem)}" for problem in report.problems),
    ]
    scenarios = words.by_scenario(report)
    widest = max((len(name) for name, _ in scenarios), default=0)
    return "\n".join(
        [
            style.paint("Summary", "bold"),
            *(f"  {clean(name):{widest}}  {counts}" for name, counts in scenarios),
            "",
            style.paint(words.headline(report), *colour),
            *(_wrapped(line, style) for line in tail),
            "",
            style.paint(words.one_line(report), *colour),
        ]
    )

"""Format `markdown`: for a pull request or a ticket. Every field is escaped; a hostile name stays text."""

import re

from probe.model import Verdict
from probe.report import Report, Result
from reports import words
from reports.style import Style, clean


def render(report: Report, style: Style) -> str:  # noqa: ARG001 - every format has this shape
    """GitHub-flavoured Markdown."""
    parts = [
        f"# egress-probe: {_text(words.headline(report))}",
        (
            f"{_text(words.counts(report))} · {_text(words.self_tests(report.results))} · evidence {report.evidence} · "
            f"run {_code(report.run.id)} · exit {report.summary.exit_code}"
        ),
        f"Policy: {_text(words.policy_line(report))}",
        *(f"Note: {_text(note)}" for note in report.notes),
        *(f"Problem: {_text(problem)}" for problem in report.problems),
        _changes(report),
        _baseline(report),
        _matrix(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _changes(report: Report) -> str:
    canary = report.canary
    if canary is None or canary.reference is None:
        return ""
    lines = [f"- {_text(change.line)}" for change in canary.changes] or ["nothing"]
    return "\n".join([f"## {_text(words.since(canary.reference))}", "", *lines])


def _baseline(report: Report) -> str:
    rows = [
        f"| {f.severity.value} | {_text(f.id)} | {_text(f.title)} | {_text(f.evidence)} | {f.observed} |"
        for f in report.baseline
    ]
    head = "| severity | finding | title | evidence | observed |\n| --- | --- | --- | --- | --- |"
    return "\n".join(["## Config baseline", "", head, *rows]) if rows else ""


def _matrix(report: Report) -> str:
    rows = [
        f"| {_bold_leak(r)} | {_code(words.path(r))} | {r.declared.action.value} | "
        f"{_text(words.observed(r.observed))} | {r.grade.value if r.grade else ''} | {_text(r.why)} |"
        for r in words.rows(report)
    ]
    head = "| verdict | path | declared | observed | grade | why |\n| --- | --- | --- | --- | --- | --- |"
    sure = words.calibration(report)
    return "\n".join(["## Declared against observed", "", head, *rows, *(["", _text(sure)] if sure else [])])


def _bold_leak(result: Result) -> str:
    return "**leak**" if result.verdict is Verdict.LEAK else result.verdict.value


def _text(value: object) -> str:
    """Markdown and HTML have no meaning in it; nobody is mentioned, and nothing becomes a link by itself."""
    escaped = re.sub(r"([\\`*_{}\[\]<>#|~&!])", r"\\\1", clean(value))
    return escaped.replace("@", "&#64;").replace("://", "&#58;//").replace("www.", "www&#46;")


def _code(value: object) -> str:
    return "`" + clean(value).replace("`", "'").replace("|", "\\|") + "`"

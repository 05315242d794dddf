"""Format `junit`: JUnit XML as CI servers read it (Jenkins' junit-10.xsd): a suite per scenario, a test case per row.

`unproven` and `undeclared` are errors, not failures: no claim was shown false, and none was shown true. Skipping them
would make a build green whose exit code is 3. The last suite stands for the whole run, as its exit code does.
"""

from collections.abc import Iterable, Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from probe.errors import one_line
from probe.model import Verdict
from probe.naming import met_no_interception
from probe.report import Report, Result
from reports import words
from reports.style import Style, clean

_MOST: Final = 2000  # characters of a message
_LONGEST: Final = 1e6  # seconds

_ELEMENT: Final[dict[Verdict, str | None]] = {
    Verdict.LEAK: "failure",
    Verdict.OVERBLOCKED: "failure",
    Verdict.UNPROVEN: "error",
    Verdict.UNDECLARED: "error",
    Verdict.NOT_RUN: "skipped",
    Verdict.CONFORMS: None,
}
_EXIT: Final = {0: None, 1: "failure"}  # any other: error


def render(report: Report, style: Style) -> str:  # noqa: ARG001 - every format has this shape
    """An XML 1.0 document, ASCII only. What XML cannot hold is made visible: NUL is `\\x00`."""
    root = Element("testsuites", name="egress-probe")
    scenarios: dict[str, list[Result]] = {}
    for result in report.results:
        scenarios.setdefault(result.scenario, []).append(result)
    suites = [_suite(root, scenario, rows, report) for scenario, rows in scenarios.items()]
    suites.append(_whole_run(root, report))
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.attrib[name]) for suite in suites)))
    root.set("time", f"{sum(float(suite.attrib['time']) for suite in suites):.3f}")
    indent(root)
    document: bytes = tostring(root, encoding="us-ascii", xml_declaration=False)
    # Go's parser takes no other declared encoding than UTF-8, which ASCII is.
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{document.decode("ascii")}\n'


def _suite(root: Element, scenario: str, rows: Sequence[Result], report: Report) -> Element:
    suite = _open_suite(root, scenario, report)
    for row in rows:
        case = SubElement(suite, "testcase", name=one_line(row.id), classname=f"egress-probe.{one_line(scenario)}")
        case.set("time", f"{_seconds(row):.3f}")
        element = "skipped" if _is_settled(row) else _ELEMENT[row.verdict]
        if element is not None:
            _say(case, element, row.verdict.value, words.why(row), _details(row))
    return _close_suite(suite, sum(map(_seconds, rows)))


def _whole_run(root: Element, report: Report) -> Element:
    suite = _open_suite(root, "egress-probe", report)
    case = SubElement(suite, "testcase", name="the whole run", classname="egress-probe", time="0.000")
    element = _EXIT.get(report.summary.exit_code, "error")
    if element is not None:
        lines = [words.counts(report), *(f"Problem: {problem}" for problem in report.problems)]
        _say(case, element, f"exit code {report.summary.exit_code}", words.headline(report), lines)
    return _close_suite(suite, 0.0)


def _open_suite(root: Element, name: str, report: Report) -> Element:
    suite = SubElement(root, "testsuite", name=one_line(name))
    if report.run.started is not None:
        suite.set("timestamp", one_line(report.run.started))
    properties = SubElement(suite, "properties")
    for key, value in (
        ("run_id", report.run.id),
        ("probe_type", report.run.probe_type),
        ("version", report.run.tool.version),
        ("evidence", report.evidence),
        ("complete", str(report.complete).lower()),
        ("policy", words.policy_line(report)),
    ):
        SubElement(properties, "property", name=key, value=clean(value, _MOST))
    return suite


def _close_suite(suite: Element, seconds: float) -> Element:
    suite.set("tests", str(len(suite.findall("testcase"))))
    for name, element in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f"testcase/{element}"))))
    suite.set("time", f"{seconds:.3f}")
    return suite


def _say(case: Element, element: str, kind: str, message: str, lines: Iterable[str]) -> None:
    said = SubElement(case, element, type=kind, message=clean(message, _MOST))
    said.text = "\n".join(clean(line, _MOST) for line in lines)


def _details(row: Result) -> list[str]:
    where = f" ({place})" if (place := words.place(row)) else ""
    return [
        f"path: {words.path(row)}",
        f"declared: {row.declared.action.value} by {row.declared.by}{where}",
        f"observed: {words.observed(row.observed)}",
        *([f"failure: {row.observed.failure}"] if row.observed.failure else []),
        *([f"grade: {row.grade.value}"] if row.grade else []),
    ]


def _is_settled(row: Result) -> bool:
    return row.verdict is Verdict.UNPROVEN and met_no_interception(row)


def _seconds(row: Result) -> float:
    """The time of all attempts together."""
    return min(max(sum(attempt.elapsed for attempt in row.observed.attempts), 0.0), _LONGEST)

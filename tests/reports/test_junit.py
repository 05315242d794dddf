"""Format `junit`: valid by Jenkins' own XSD, read back with junitparser, and green exactly where the run is.

schemas/junit-10.xsd is Jenkins' (github.com/jenkinsci/xunit-plugin, MIT, as its head says), as pytest's sources carry it.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import xmlschema
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from probe.documents import Record
from probe.judge import judge
from probe.model import Outcome, Purpose, Verdict
from probe.report import Report
from reports import junit
from reports.style import Style
from tests.make import RUN_ID, attempt, check, evidence, plan
from tests.reports.test_csv import NASTY, everywhere, of_every_verdict
from tests.reports.test_formats import HOSTILE, report

REFUSED = Record(1, (attempt("error", stage="connect", error="ENETUNREACH"),))
SILENT = Record(1, (attempt(),))


@cache
def xsd() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(Path(__file__).parent / "schemas/junit-10.xsd")


def suites(made: Report) -> dict[str, TestSuite]:
    """Suites by name, from a document that is valid."""
    text = junit.render(made, Style())
    assert text.isascii()
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites')
    xsd().validate(text)
    return {suite.name: suite for suite in JUnitXml.fromstring(text.encode())}


def cases(made: Report) -> dict[str, TestCase]:
    """The rows' test cases by name."""
    return {case.name: case for name, suite in suites(made).items() if name != "egress-probe" for case in suite}


def kinds(made: Report) -> list[type]:
    return [type(result) for suite in suites(made).values() for case in suite for result in case.result]


def test_a_case_per_row_and_a_verdict_for_each() -> None:
    made = of_every_verdict()
    found = cases(made)
    assert list(found) == [row.id for row in made.results]
    expected = {
        Verdict.LEAK: Failure, Verdict.OVERBLOCKED: Failure, Verdict.UNPROVEN: Error, Verdict.UNDECLARED: Error,
        Verdict.NOT_RUN: Skipped, Verdict.CONFORMS: None,
    }  # fmt: skip
    for row in made.results:
        case = found[row.id]
        if expected[row.verdict] is None:
            assert case.is_passed
        else:
            (result,) = case.result
            assert (type(result), result.type, result.message) == (expected[row.verdict], row.verdict, row.why)


def test_a_suite_per_scenario_with_its_counts() -> None:
    made = of_every_verdict()
    rows = [replace(row, scenario="other" if n < 2 else "s") for n, row in enumerate(made.results)]
    found = suites(replace(made, results=tuple(rows)))
    assert list(found) == ["other", "s", "egress-probe"]
    counts = {name: (s.tests, s.failures, s.errors, s.skipped) for name, s in found.items()}
    assert counts == {"other": (2, 1, 0, 0), "s": (5, 1, 3, 1), "egress-probe": (1, 1, 0, 0)}
    whole = JUnitXml.fromstring(junit.render(replace(made, results=tuple(rows)), Style()).encode())
    assert (whole.tests, whole.failures, whole.errors) == (8, 3, 3)


def test_a_case_tells_what_was_declared_and_seen() -> None:
    made = report()
    leak = replace(made.results[4], declared=replace(made.results[4].declared, path="p.toml", line=3))
    (case,) = cases(replace(made, results=(leak,))).values()
    (result,) = case.result
    assert case.classname == "egress-probe.s"
    assert result.text.splitlines() == [
        "path: tcp 192.0.2.5:443",
        "declared: deny by p.toml: deny (p.toml:3)",
        "observed: reached",
        "grade: proven",
    ]


def test_time_is_that_of_all_attempts() -> None:
    found = suites(report())["s"]
    # two rows with one attempt, five with one, one with two, of 0.2 s each; a name and the self-test were not attempted
    assert [case.time for case in found][:6] == [0.2, 0.2, 0.2, 0.2, 0.4, 0.2]
    assert found.time == pytest.approx(1.8)
    row = report().results[0]
    for elapsed, shown in ((float("inf"), 1e6), (-5.0, 0.0)):  # a stored report may say 1e999
        odd = replace(row, observed=replace(row.observed, attempts=(attempt(elapsed=elapsed),)))
        assert cases(replace(report(), results=(odd,)))[row.id].time == shown


def test_properties_name_the_run() -> None:
    for suite in suites(report()).values():
        found = {one.name: one.value for one in suite.properties()}
        assert found["run_id"] == RUN_ID
        assert found["probe_type"] == "egress_path_validation"
        assert found["policy"] == "p.toml: deny (native, enforce); default deny"
        assert suite.timestamp == "2026-01-02T03:04:05.000Z"


def test_without_a_start_there_is_no_timestamp() -> None:
    made = replace(report(), run=replace(report().run, started=None))
    assert {suite.timestamp for suite in suites(made).values()} == {None}


@pytest.mark.parametrize(
    ("made", "whole"),
    [
        (judge(plan(check()), evidence(REFUSED)), None),
        (judge(plan(check()), evidence(SILENT)), Error),
        (judge(plan(check(action="undeclared")), evidence(SILENT)), Error),
        # Every row conforms, and the run was stopped: no row would show it.
        (judge(plan(check()), evidence(REFUSED, end=None)), Error),
        # An entry that no row stands for, and nothing declared at all: skipped rows and no rows are green by themselves.
        (judge(plan(check(skip="no raw socket")), evidence()), Error),
        (judge(plan(), evidence()), Error),
        (report(), Failure),
    ],
)  # fmt: skip
def test_it_is_green_exactly_where_the_exit_code_is_0(made: Report, whole: Any) -> None:
    results = next(iter(suites(made)["egress-probe"])).result
    assert [type(result) for result in results] == ([whole] if whole else [])
    assert [result.type for result in results] == ([f"exit code {made.summary.exit_code}"] if whole else [])
    assert bool({Failure, Error} & set(kinds(made))) == (made.summary.exit_code != 0)


def test_who_looks_for_an_interception_and_meets_none_is_no_error() -> None:
    made = judge(
        plan(check(purpose=Purpose.BOUNDARY), check("192.0.2.2", n=2)), evidence(SILENT, replace(REFUSED, check=2))
    )
    looked = made.results[0]
    assert (looked.verdict, made.summary.exit_code) == (Verdict.UNPROVEN, 0)
    assert kinds(made) == [Skipped]
    met = replace(looked, observed=replace(looked.observed, outcome=Outcome.INTERCEPTED))
    assert kinds(replace(made, results=(met,))) == [Error]


def test_problems_are_told_with_the_whole_run() -> None:
    made = judge(plan(check()), evidence(REFUSED, problems=("line 7 is no JSON",)))
    (result,) = next(iter(suites(made)["egress-probe"])).result
    assert result.message == "INCOMPLETE · UNPROVEN: no leak was found, but not every path is proven to be as declared"
    assert result.text.splitlines() == ["1 unproven", "Problem: line 7 is no JSON"]


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_hostile_text_stays_text(text: str) -> None:
    made = everywhere(of_every_verdict(), text)
    found = suites(made)
    assert sum(len(list(suite)) for suite in found.values()) == len(made.results) + 1
    assert "\x1b" not in junit.render(made, Style())


def test_what_xml_forbids_is_seen() -> None:
    (case,) = cases(
        replace(report("\x00 \ufffe \ud800 ]]> <b>"), results=report("\x00 \ufffe \ud800 ]]> <b>").results[:1])
    ).values()
    assert case.name == r"s/tcp/192.0.2.1:443 \x00 \ufffe \ud800 ]]> <b>"
    assert HOSTILE not in junit.render(report(HOSTILE), Style())


def test_the_xsd_refuses_what_is_wrong() -> None:
    good = junit.render(report(), Style())
    for bad in (
        good.replace("<testcase ", "<testcas "),
        good.replace('tests="', 'test="'),
        good.replace("<error", "<errors"),
    ):
        with pytest.raises(xmlschema.XMLSchemaException):
            xsd().validate(bad)

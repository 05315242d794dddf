"""Format `clawpinch`: exactly the scanner's array; our own ids; never a command; small enough for its command lines."""

import json
from dataclasses import replace
from typing import Any

import pytest

from probe.documents import Record
from probe.judge import judge
from probe.model import Outcome, Purpose, SelfTest, Severity, Verdict
from probe.report import BaselineFinding, Report
from reports import clawpinch
from reports.kinds import INCOMPLETE, KINDS
from reports.style import Style
from tests.make import attempt, check, evidence, plan
from tests.reports.test_csv import NASTY, everywhere, of_every_verdict
from tests.reports.test_formats import report

KEYS = ["id", "severity", "title", "description", "evidence", "remediation", "auto_fix"]
REFUSED = Record(1, (attempt("error", stage="connect", error="ENETUNREACH"),))
ARGUMENT = 128 * 1024  # MAX_ARG_STRLEN of linux/binfmts.h


def findings(made: Report) -> list[dict[str, Any]]:
    """The array, in the shape that the tooling reads."""
    text = clawpinch.render(made, Style())
    assert text.isascii()
    found = json.loads(text)
    for finding in found:
        assert list(finding) == KEYS
        assert all(type(value) is str for value in finding.values())
        assert finding["severity"] in set(Severity)
        assert finding["auto_fix"] == ""
        assert all(value.isprintable() for value in finding.values())
    return found  # type: ignore[no-any-return]


def own(made: Report) -> list[tuple[str, str, str]]:
    return [(f["id"], f["severity"], f["evidence"]) for f in findings(made) if f["id"].startswith("EGP-1")]


def baseline(observed: str, by: tuple[str, ...] = (), **more: Any) -> BaselineFinding:
    found = BaselineFinding(
        "CHK-NET-010", Severity.OK, "Title", "What it is.", "p.toml: dns", "Do it.", "", observed, by
    )  # type: ignore[arg-type]
    return replace(found, **more)


def test_ids_are_ours_and_each_is_given_once() -> None:
    ids = [kind.id for kind in (*KINDS.values(), INCOMPLETE)]
    assert ids == [f"EGP-{n}" for n in range(100, 107)]  # released: a change here is a change of meaning
    assert set(KINDS) == set(Verdict)
    assert [verdict for verdict, kind in KINDS.items() if kind.severity is Severity.CRITICAL] == [Verdict.LEAK]
    assert [verdict for verdict, kind in KINDS.items() if kind.severity is Severity.OK] == [Verdict.CONFORMS]


@pytest.mark.parametrize(
    ("finding", "told"),
    [
        (baseline("unverified"), "p.toml: dns"),
        (baseline("confirmed", ("s/dns/a", "s/dns/b")), "confirmed by s/dns/a, s/dns/b; p.toml: dns"),
        (baseline("contradicted", ("s/dns/a",)), "contradicted by s/dns/a; p.toml: dns"),
        (baseline("contradicted"), "contradicted; p.toml: dns"),
    ],
)
def test_a_baseline_finding_keeps_all_but_its_evidence(finding: BaselineFinding, told: str) -> None:
    made = replace(report(), baseline=(finding,))
    assert dict(zip(KEYS, findings(made)[0].values(), strict=True)) == {
        "id": "CHK-NET-010", "severity": "ok", "title": "Title", "description": "What it is.", "evidence": told,
        "remediation": "Do it.", "auto_fix": "",
    }  # fmt: skip


def test_no_command_is_passed_on() -> None:
    """The tooling runs it, and a stored report may hold anything."""
    made = replace(report(), baseline=(baseline("confirmed", auto_fix="jq '.x' config.json > y && mv y config.json"),))
    assert "jq" not in clawpinch.render(made, Style())


def test_every_leak_and_over_block_is_told_the_rest_is_counted() -> None:
    made = of_every_verdict()
    ids = {row.verdict: row.id for row in made.results[:6]}
    assert own(replace(made, complete=True)) == [
        ("EGP-100", "critical", f"{ids[Verdict.LEAK]}: {made.results[1].why}"),
        ("EGP-101", "warn", f"{ids[Verdict.OVERBLOCKED]}: {made.results[2].why}"),
        # the self-test that was not attempted proves nothing either
        ("EGP-102", "warn", f"2: {ids[Verdict.UNPROVEN]}, {made.results[-1].id}"),
        ("EGP-103", "warn", f"1: {ids[Verdict.UNDECLARED]}"),
        ("EGP-104", "info", f"1: {ids[Verdict.NOT_RUN]}"),
        ("EGP-105", "ok", f"1: {ids[Verdict.CONFORMS]}"),
    ]


def test_a_leak_names_its_path_and_the_line_that_denies_it() -> None:
    made = report()
    leak = replace(made.results[4], declared=replace(made.results[4].declared, path="p.toml", line=3))
    found = findings(replace(made, results=(leak,), baseline=(), complete=True))
    assert found == [
        {
            "id": "EGP-100", "severity": "critical",
            "title": "A path that the policy denies got out: tcp 192.0.2.5:443",
            "description": "A path that the policy denies got out. Seen by probes that were sent, not read from a configuration.",
            "evidence": f"{leak.id}: p.toml:3: {leak.why}",
            "remediation": KINDS[Verdict.LEAK].help, "auto_fix": "",
        }
    ]  # fmt: skip


def test_a_run_that_is_not_complete_says_so() -> None:
    """All of its rows conform: without this, it would be told as good."""
    stopped = judge(plan(check()), evidence(REFUSED, end=None))
    assert own(stopped) == [("EGP-106", "warn", "it was stopped"), ("EGP-105", "ok", "1: s/tcp/192.0.2.1:443")]
    damaged = judge(plan(check()), evidence(REFUSED, problems=("line 7 is no JSON", "line 9 too")))
    assert own(damaged)[0] == ("EGP-106", "warn", "line 7 is no JSON; line 9 too")


def test_a_run_that_is_good_says_nothing_else() -> None:
    good = judge(plan(check()), evidence(REFUSED))
    assert own(good) == [("EGP-105", "ok", "1: s/tcp/192.0.2.1:443")]
    assert findings(judge(plan(), evidence())) == []


def test_a_self_test_is_told_where_it_missed() -> None:
    row = check("127.0.0.1", None, self_test=SelfTest.OPEN, purpose=Purpose.SELF_TEST, id="self-test/open")
    passed = replace(judge(plan(row), evidence()).results[0], verdict=Verdict.CONFORMS)
    made = judge(plan(row), evidence())
    assert own(made) == [("EGP-102", "warn", "1: self-test/open")]
    assert own(replace(made, results=(passed,))) == []


def test_who_looks_for_an_interception_and_meets_none_is_no_finding() -> None:
    made = judge(plan(check(purpose=Purpose.BOUNDARY)), evidence(Record(1, (attempt(),))))
    looked = made.results[0]
    assert looked.verdict is Verdict.UNPROVEN
    assert own(made) == []
    met = replace(looked, observed=replace(looked.observed, outcome=Outcome.INTERCEPTED))
    assert [one[0] for one in own(replace(made, results=(met,)))] == ["EGP-102"]


def test_more_than_25_are_counted() -> None:
    made = report()
    rows = tuple(replace(made.results[4], id=f"s/{n}") for n in range(32))
    found = own(replace(made, results=rows, complete=True))
    assert [one[0] for one in found] == ["EGP-100"] * 26
    assert found[-1] == ("EGP-100", "critical", "7 more: s/25, s/26, s/27, s/28, s/29 …")


@pytest.mark.parametrize("text", ["s/tcp/192.0.2.1:443", "x" * 100_000, "😀" * 1000])
def test_ten_thousand_leaks_fit_one_argument(text: str) -> None:
    """The tooling hands the array, as jq prints it, to another jq on its command line."""
    made = everywhere(report(), text)
    worst = [
        replace(made.results[4], id=f"{n}{text}", verdict=v)
        for n in range(5000)
        for v in (Verdict.LEAK, Verdict.OVERBLOCKED)
    ]
    found = findings(replace(made, results=tuple(worst)))
    assert len(found) == 54
    assert len(json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()) < ARGUMENT


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_hostile_text_stays_text(text: str) -> None:
    made = everywhere(of_every_verdict(), text)
    # A baseline finding's words come from the report; a description of ours is ours alone: the shell expands it.
    for finding in findings(made)[1:]:
        assert finding["description"].removesuffix(
            " Seen by probes that were sent, not read from a configuration."
        ) in {f"{kind.title}." for kind in (*KINDS.values(), INCOMPLETE)}
        assert len(finding["evidence"]) <= 240
        assert len(finding["title"]) <= 120

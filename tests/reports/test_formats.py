"""Formats render and decide nothing: registry, schema, width, order, and hostile text in every field."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from probe.codec import decode, encode
from probe.documents import Data, Icmp, Record
from probe.judge import judge
from probe.model import Action, Declared, Finding, Mode, Policy, Purpose, SelfTest, Severity, Source
from probe.report import Report
from reports import FORMATS, SUFFIXES
from reports.style import Style, clean
from tests.make import attempt, check, evidence, plan
from tests.make_schema import SCHEMAS, schema

HOSTILE = "a|b`c\n<script>alert(1)</script>\x1b[2J\u202e](javascript:x)*_#"


def report(text: str = "p.toml: deny", **more: Any) -> Report:
    checks = [
        check(f"192.0.2.{n}", n=n, id=f"s/tcp/192.0.2.{n}:443 {text}", declared=Declared(Action.DENY, text))
        for n in range(1, 9)
    ]
    checks += [
        check(None, n=9, host=text, action="allow"),
        check("127.0.0.1", None, n=10, self_test=SelfTest.OPEN, purpose=Purpose.SELF_TEST),
    ]
    leak = (
        attempt("connected", "192.0.2.5"),
        attempt("answered", "192.0.2.5", step="talk", data=Data(1, "reply", text)),
    )
    records = [Record(n, (attempt("error", f"192.0.2.{n}", stage="connect", error="ENETUNREACH"),)) for n in (1, 2)]
    records += [Record(n, (attempt(address=f"192.0.2.{n}"),)) for n in (3, 4, 6, 7, 8)]
    made = plan(*checks, baseline=(Finding("CHK-NET-009", Severity.OK, text, text, text, text),), notes=(text,))
    made = replace(made, policies=(Policy(Source(text, "native", Mode.ENFORCE), Action.DENY, text),))
    return judge(made, evidence(*records, Record(5, leak), problems=(text,), **more))


def render(form: str, made: Report, **style: Any) -> str:
    return FORMATS[form](made, Style(**style))


def test_registry_and_folder_agree(root: Path) -> None:
    formats = {path.stem for path in (root / "reports").glob("*.py") if path.read_text().startswith('"""Format ')}
    assert formats == set(FORMATS)
    assert set(SUFFIXES.values()) == set(FORMATS) - {"clawpinch"}  # its files are .json too


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_committed_schema_is_the_codes(name: str, root: Path) -> None:
    assert json.loads((root / f"docs/{name}.schema.json").read_text()) == json.loads(json.dumps(schema(name)))


@pytest.mark.parametrize("text", ["p.toml: deny", HOSTILE])
def test_json_fits_the_schema_and_comes_back(text: str) -> None:
    made = report(text)
    value = json.loads(render("json", made))
    jsonschema.validate(value, schema())
    assert decode(Report, value) == made
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value | {"extra": 1}, schema())


def test_observations_and_judgements_never_share_a_key() -> None:
    value = encode(report().results[0])
    assert not {"outcome", "failure", "enforcer", "attempts"} & value.keys()
    assert not {"verdict", "grade", "why"} & value["observed"].keys()


def test_jsonl_lines_stand_alone() -> None:
    lines = [json.loads(line) for line in render("jsonl", report()).splitlines()]
    assert {line["probe_type"] for line in lines} == {"egress_path_validation"}
    assert [line["kind"] for line in lines] == ["result"] * 10 + ["summary"]
    assert lines[0]["cidr"] == "192.0.2.0/24"
    assert lines[8]["cidr"] is None


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_leaks_come_first(form: str) -> None:
    text = render(form, report())
    assert text.index("192.0.2.5") < text.index("192.0.2.1:443")


def test_the_table_fits_100_columns() -> None:
    widest = judge(
        plan(check("2001:db8:1234:5678:9abc:def0:1234:5678", n=1, purpose=Purpose.BOUNDARY), check(action="undeclared", n=2)),
        evidence(Record(1, (attempt("error", "2001:db8:1234:5678:9abc:def0:1234:5678", stage="receive", error="EACCES", icmp=Icmp(1, 1, "2001:db8:1234:5678:9abc:def0:1234:9999")),)), Record(2, (attempt(),))),
    )  # fmt: skip
    for made in (report(), report("x" * 300), widest):
        lines = render("table", made).splitlines()
        assert max(map(len, lines)) <= 100, max(lines, key=len)


def test_the_table_names_what_is_contradicted() -> None:
    assert "CHK-NET-009 says ok, but see s/tcp/192.0.2.5:443" in render("table", report())


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_hostile_text_stays_text(form: str) -> None:
    text = render(form, report(HOSTILE), colour=False)
    assert "\x1b" not in text
    assert "\u202e" not in text
    if form == "markdown":
        assert "<script>" not in text.replace("\\<script\\>", "").replace("`", "") or "\\<script" in text
        table = [line for line in text.splitlines() if line.startswith("|")]
        assert {line.replace("\\|", "").count("|") for line in table} == {6, 7}


def test_colour_only_where_asked() -> None:
    assert "\x1b[1;31mleak" in render("table", report(), colour=True)
    assert "\x1b" not in render("table", report())


def summary_line(made: Report) -> str:
    return next(
        line
        for line in render("table", made).splitlines()
        if line.startswith(("LEAK", "OVER", "NOTHING", "UNPROVEN", "CONFORMS", "INCOMPLETE"))
    )


def test_headlines() -> None:
    row, record = check(), Record(1, (attempt("error", stage="connect", error="ENETUNREACH"),))
    silent = Record(1, (attempt(),))
    table = [
        (judge(plan(row), evidence(record)), "CONFORMS: every path is as declared"),
        (judge(plan(row), evidence(silent)), "UNPROVEN: no leak was found, but not every path is proven to be as declared"),
        (judge(plan(check(action="allow")), evidence(Record(1, (attempt("error", stage="connect", error="EPERM"),)))), "OVER-BLOCKED: 1 allowed paths do not work; no leak was found"),
        (judge(plan(check(action="undeclared")), evidence(silent)), "NOTHING DECLARED: no policy says what should happen; observations only"),
        (judge(plan(row), evidence(record, end=None)), "INCOMPLETE · CONFORMS: every path is as declared"),
    ]  # fmt: skip
    for made, line in table:
        assert summary_line(made) == line
    assert "(no rows)" in render("table", judge(plan(), evidence()))
    assert "no rows" in render("table", judge(plan(), evidence()))
    assert "no policy was found" in render("table", judge(plan(), evidence()))


def test_clean_cuts_long_text() -> None:
    assert len(clean("x" * 1000)) == 400

"""Format `csv`: read back with the csv module; no cell is a formula; hostile text in every field of the report."""

import csv
import io
import json
from dataclasses import fields, is_dataclass, replace
from enum import StrEnum
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.codec import DecodeError, decode, encode
from probe.model import EnforcerKind, Grade, Outcome, Purpose, Verdict
from probe.report import Enforcer, Report
from reports import csv as format_csv
from reports.style import Style
from tests.reports.test_formats import HOSTILE, report

# Beside HOSTILE: NUL, what ends CDATA, characters that XML forbids, half a surrogate pair (JSON can hold one), formulas,
# SARIF's placeholders and links, a shell's words, a cell of two lines, nothing, and very much.
NASTY = (
    HOSTILE, "\x00\x07", "]]></failure><!--", "\ufffe\uffff", "\ud800 \udcff", "=cmd|'/C calc'!A0", "+1", "-2+3", "@SUM(1)",
    "\t=1", "\r\n=1", "a;=1+1", "＝1", "{0} {token}", "[x](javascript:alert(1))", "$(id) `id` * ~", '"a","b"\r\n"c', "", "x" * 100_000,
)  # fmt: skip


def everywhere(value: Any, text: str, hint: Any = str) -> Any:
    """`value` with `text` in every field that may hold a stranger's text, in whatever is inside of it as well."""
    if is_dataclass(value) and not isinstance(value, type):
        hints = get_type_hints(type(value))
        return replace(
            value, **{f.name: everywhere(getattr(value, f.name), text, hints[f.name]) for f in fields(value)}
        )
    if isinstance(value, tuple):
        return tuple(everywhere(one, text) for one in value)
    if isinstance(value, dict):
        return {f"{text}{n}": everywhere(one, text) for n, one in enumerate(value.values())}
    closed = isinstance(value, StrEnum) or get_origin(hint) is Literal
    open_text = isinstance(value, str) or (value is None and str in get_args(hint))
    return text if open_text and not closed else value


def of_every_verdict() -> Report:
    """Rows of every verdict, as a report holds them."""
    made = report()
    grades = {Verdict.CONFORMS: Grade.PROVEN, Verdict.LEAK: Grade.PROVEN, Verdict.OVERBLOCKED: Grade.PRESUMED}
    rows = [replace(row, verdict=v, grade=grades.get(v)) for v, row in zip(Verdict, made.results, strict=False)]
    return replace(made, results=(*rows, made.results[-1]))


def rows_of(made: Report) -> list[dict[str, str]]:
    text = format_csv.render(made, Style())
    lines = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    assert all(set(line) == set(format_csv.COLUMNS) for line in lines)  # no cell too many, none missing
    return lines


def test_the_columns_stay() -> None:
    header = format_csv.render(report(), Style()).split("\r\n")[0]
    assert header.replace('"', "").split(",") == [
        "run_id", "probe_type", "started", "complete", "evidence", "id", "scenario", "technique", "channel", "host", "address", "port",
        "cidr", "via", "purpose", "declared", "declared_by", "path", "line", "outcome", "failure", "enforcer", "enforcer_address",
        "enforcer_hop", "attempts", "verdict", "grade", "why",
    ]  # fmt: skip


def test_a_row_comes_back() -> None:
    made = report()
    row = made.results[4]
    told = replace(
        row,
        declared=replace(row.declared, path="p.toml", line=3),
        observed=replace(row.observed, enforcer=Enforcer(EnforcerKind.ROUTER, "10.0.0.1", 2), failure="timed_out"),
    )
    assert rows_of(replace(made, results=(told,))) == [
        {
            "run_id": "01J00000000000000000000000", "probe_type": "egress_path_validation", "started": "2026-01-02T03:04:05.000Z",
            "complete": "false", "evidence": "self-reported", "id": "s/tcp/192.0.2.5:443 p.toml: deny", "scenario": "s",
            "technique": "tcp_connect", "channel": "tcp", "host": "", "address": "192.0.2.5", "port": "443", "cidr": "192.0.2.0/24",
            "via": "direct", "purpose": "policy", "declared": "deny", "declared_by": "p.toml: deny", "path": "p.toml", "line": "3",
            "outcome": "reached", "failure": "timed_out", "enforcer": "router", "enforcer_address": "10.0.0.1", "enforcer_hop": "2",
            "attempts": "2", "verdict": "leak", "grade": "proven",
            "why": "192.0.2.5:443 answered with application data, although p.toml: deny denies it.",
        }
    ]  # fmt: skip


def test_every_row_is_there_in_the_plans_order() -> None:
    made = of_every_verdict()
    assert [line["verdict"] for line in rows_of(made)] == [*Verdict, "unproven"]
    assert [line["id"] for line in rows_of(made)] == [row.id for row in made.results]
    assert {line["purpose"] for line in rows_of(made)} == {Purpose.POLICY, Purpose.SELF_TEST}
    assert rows_of(replace(made, results=())) == []


def test_lines_end_as_the_rfc_says() -> None:
    text = format_csv.render(report("a\nb\rc"), Style())
    assert text.count("\r\n") == 11
    assert text.replace("\r\n", "").isprintable()


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_no_cell_is_a_formula(text: str) -> None:
    for line in rows_of(everywhere(of_every_verdict(), text)):
        assert not [cell for cell in line.values() if cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r", "＝"))]
        assert not [cell for cell in line.values() for part in cell.split(";") if part.lstrip()[:1] in tuple("=+-@")]
        assert all(len(cell) < 32_767 for cell in line.values())


@given(st.text(max_size=40))
def test_no_text_breaks_a_line_or_starts_a_formula(text: str) -> None:
    made = report()
    (line,) = rows_of(replace(made, results=(replace(made.results[0], id=text, why=text),)))
    for cell in (line["id"], line["why"]):
        assert not any(part.lstrip()[:1] in tuple("=+-@＝＋－＠") for part in cell.split(";"))
    if text.isprintable() and not any(sign in text for sign in "=+-@＝＋－＠"):
        assert line["id"] == text


def test_what_is_no_address_has_no_block() -> None:
    made = report()
    row = replace(made.results[0], destination=replace(made.results[0].destination, address="fe80::1%eth0"))
    other = replace(row, destination=replace(row.destination, address="=1.2.3.4", port=None))
    assert [line["cidr"] for line in rows_of(replace(made, results=(row, other)))] == ["fe80::/48", ""]


def test_half_of_a_character_is_no_text() -> None:
    """JSON can spell it, UTF-8 cannot: a report that holds it is refused, and a format shows it all the same."""
    value = encode(report())
    value["results"][0]["why"] = "half \ud800"
    with pytest.raises(DecodeError, match="half of a character"):
        decode(Report, json.loads(json.dumps(value)))
    made = report()
    odd = replace(made.results[0], why="half \ud800")
    assert rows_of(replace(made, results=(odd,)))[0]["why"] == r"half \ud800"


def test_an_outcome_without_enforcer_leaves_its_columns_empty() -> None:
    made = report()
    row = replace(made.results[0], observed=replace(made.results[0].observed, outcome=Outcome.SILENT, enforcer=None))
    (line,) = rows_of(replace(made, results=(row,)))
    assert (line["enforcer"], line["enforcer_address"], line["enforcer_hop"]) == ("", "", "")

"""Format `csv`: RFC 4180, a header and one line per row, for spreadsheets and data frames. Columns are only ever added.

A spreadsheet runs a cell that starts with `=`, `+`, `-` or `@` as a formula (OWASP: CSV injection). Such a cell gets an
apostrophe in front, which spreadsheets take for "text"; so does what follows a semicolon, which many of them split at.
"""

import csv
import io
import re
from collections.abc import Callable
from typing import Final

from probe.addresses import known_block
from probe.report import Report, Result
from reports import words
from reports.style import Style, clean

_MOST: Final = 32_000  # characters; a cell of Excel takes 32,767
# The wide forms are read as formulas too. Tabs and line ends are made visible before.
_FORMULA: Final = re.compile(r"(^|;)(?=\s*[=+\-@＝＋－＠])")  # noqa: RUF001 - meant

COLUMNS: Final[dict[str, Callable[[Report, Result], object]]] = {
    "run_id": lambda report, _: report.run.id,
    "probe_type": lambda report, _: report.run.probe_type,
    "started": lambda report, _: report.run.started,
    "complete": lambda report, _: "true" if report.complete else "false",
    "evidence": lambda report, _: report.evidence,
    "id": lambda _, row: row.id,
    "scenario": lambda _, row: row.scenario,
    "technique": lambda _, row: row.technique,
    "channel": lambda _, row: row.channel,
    "host": lambda _, row: row.destination.host,
    "address": lambda _, row: row.destination.address,
    "port": lambda _, row: row.destination.port,
    "cidr": lambda _, row: known_block(row.destination.address),
    "via": lambda _, row: row.destination.via,
    "purpose": lambda _, row: row.purpose,
    "declared": lambda _, row: row.declared.action,
    "declared_by": lambda _, row: row.declared.by,
    "path": lambda _, row: row.declared.path,
    "line": lambda _, row: row.declared.line,
    "outcome": lambda _, row: row.observed.outcome,
    "failure": lambda _, row: row.observed.failure,
    "enforcer": lambda _, row: row.observed.enforcer and row.observed.enforcer.kind,
    "enforcer_address": lambda _, row: row.observed.enforcer and row.observed.enforcer.address,
    "enforcer_hop": lambda _, row: row.observed.enforcer and row.observed.enforcer.hop,
    "attempts": lambda _, row: len(row.observed.attempts),
    "verdict": lambda _, row: row.verdict,
    "grade": lambda _, row: row.grade,
    "why": lambda _, row: words.why(row),
}


def render(report: Report, style: Style) -> str:  # noqa: ARG001 - every format has this shape
    """Lines that end in CR LF; every cell in quotes; what is not known is empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(value(report, row)) for value in COLUMNS.values()] for row in report.results)
    return text.getvalue()


def _cell(value: object) -> str:
    return "" if value is None else _FORMULA.sub(r"\1'", clean(value, _MOST))

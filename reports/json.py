"""Format `json`: the report as it is, `egress-probe.report/1`. Its schema is docs/report.schema.json."""

import json

from probe.codec import encode
from probe.report import Report
from reports.style import Style


def render(report: Report, style: Style) -> str:  # noqa: ARG001 - every format has this shape
    """Indented JSON, ASCII only."""
    return json.dumps(encode(report), indent=2, allow_nan=False) + "\n"

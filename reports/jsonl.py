"""Format `jsonl`: one line per row, each with the run's id and `probe_type`, and a last line with the summary.

For log pipelines: every line can be told from a breach by itself.
"""

import json

from probe.addresses import known_block
from probe.codec import encode
from probe.report import Report
from reports.style import Style


def render(report: Report, style: Style) -> str:  # noqa: ARG001 - every format has this shape
    """Lines of JSON, ASCII only."""
    tag = {"schema": report.schema, "probe_type": report.run.probe_type, "run_id": report.run.id}
    lines = []
    for result in report.results:
        cidr = known_block(result.destination.address)
        lines.append({**tag, "kind": "result", "cidr": cidr, **encode(result)})
    lines.append({**tag, "kind": "summary", "complete": report.complete, **encode(report.summary)})
    return "".join(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n" for line in lines)

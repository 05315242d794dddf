"""JSON Schemas of the report and of an alert, from the code. `make schema` writes them into docs/; a test compares.

As a program: report or alert.
"""

import json
import sys
from typing import Any

import msgspec

from probe.alert import Alert
from probe.report import Report

SCHEMAS = {"report": (Report, "egress-probe.report/1"), "alert": (Alert, "egress-probe.alert/1")}


def schema(name: str = "report") -> dict[str, Any]:
    """JSON Schema 2020-12. Unknown keys are forbidden, as the code never writes any."""
    noun, title = SCHEMAS[name]
    (reference,), definitions = msgspec.json.schema_components([noun], ref_template="#/$defs/{name}")
    for definition in definitions.values():
        if definition.get("type") == "object":
            definition["additionalProperties"] = False
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **reference,
        "$defs": definitions,
    }


if __name__ == "__main__":
    print(json.dumps(schema(sys.argv[1]), indent=2, sort_keys=True))

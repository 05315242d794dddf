"""The report's JSON Schema, from the code. `make schema` writes it to docs/report.schema.json; a test compares."""

import json
from typing import Any

import msgspec

from probe.report import Report


def schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of `egress-probe.report/1`. Unknown keys are forbidden, as the code never writes any."""
    (reference,), definitions = msgspec.json.schema_components([Report], ref_template="#/$defs/{name}")
    for definition in definitions.values():
        if definition.get("type") == "object":
            definition["additionalProperties"] = False
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "egress-probe.report/1",
        **reference,
        "$defs": definitions,
    }


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2, sort_keys=True))

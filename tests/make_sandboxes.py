"""The measured part of docs/sandboxes.md, from a real run of every launcher that is here. `make sandboxes` writes it."""

import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.sandboxes.real import SANDBOXES, play

PAGE = Path(__file__).parent.parent / "docs" / "sandboxes.md"
BARE = "env"
MARK = "<!-- measured: by `make sandboxes` -->\n"
_HEAD = """
Each was played in a [lab](lab.md) namespace without an uplink, with our own collector in the lab's internet: once where it shuts the network, once where it leaves it
open. The policy denies everything but one port and some names, which a sandbox that shuts everything over-blocks. *overhead*: from the start of the launcher to the first
line of evidence, less the same without a launcher (medians of three; 0 where the difference is no more than noise).

| sandbox | network | the inside sees, where the policy denies | verdict there | overhead |
| --- | --- | --- | --- | --- |
"""


def page() -> str:
    """The table, and what could not be run. Overheads are medians of three."""
    ways = [
        (name, way) for name, one in SANDBOXES.items() for way in ("shut", "open") if getattr(one, way) and name != BARE
    ]
    played: dict[tuple[str, str], list[dict[str, Any]]] = {way: [play(*way)] for way in ways}
    for way, results in played.items():
        if "report" in results[0] and way[1] == ("shut" if SANDBOXES[way[0]].shut else "open"):
            results += [play(*way) for _ in range(2)]
    bare = statistics.median(_first(result) for result in (play(BARE, "open") for _ in range(3)))
    rows, notes = [], []
    for way, results in played.items():
        if "report" in results[0]:
            rows.append(_row(way, results, bare))
        else:
            notes.append(f"- `{way[0]}`, {way[1]}: not run: {results[0].get('skipped') or results[0].get('failed')}\n")
    notes += [
        f"- `{name}`: only {'shut' if one.shut else 'open'}: {one.why}.\n"
        for name, one in SANDBOXES.items()
        if one.why and name != BARE
    ]
    return MARK + _HEAD + "".join(rows) + "\n" + "".join(notes)


def _row(way: tuple[str, str], results: list[dict[str, Any]], bare: float) -> str:
    seen = "; ".join(sorted(set(_seen(results[0]["report"]))))
    verdicts = sorted(
        {
            f"{row['verdict']} ({row['grade']})" if row.get("grade") else row["verdict"]
            for row in _denied(results[0]["report"])
        }
    )
    over = statistics.median(_first(result) for result in results) - bare
    cost = f"{max(over, 0) * 1000:.0f} ms" if len(results) > 1 else "–"
    return f"| `{way[0]}` | {way[1]} | {seen} | {', '.join(verdicts)} | {cost} |\n"


def _denied(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        row
        for row in report["results"]
        if row["declared"]["action"] == "deny" and row["purpose"] != "self-test" and row["verdict"] != "not_run"
    ]


def _seen(report: dict[str, Any]) -> Iterator[str]:
    for row in _denied(report):
        errors = sorted({a["error"] for a in row["observed"]["attempts"] if a.get("error") and a["step"] != "walk"})
        by = (row["observed"].get("enforcer") or {}).get("kind")
        yield row["observed"]["outcome"] + (f" {'/'.join(errors)}" if errors else "") + (f" by {by}" if by else "")


def _first(result: dict[str, Any]) -> float:
    if "first" not in result:
        raise SystemExit(f"not run: {result}")
    return float(result["first"])


if __name__ == "__main__":
    text = PAGE.read_text()
    sys.stdout.write(text.partition(MARK)[0] + page())

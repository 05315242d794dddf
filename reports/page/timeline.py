"""The timeline of a scheduled run as values: paths whose whole row is the same together, leaks first, the newest runs.

Pure: report → Grid, for timeline.html.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from probe.alert import LETTERS, RunPoint
from probe.model import Verdict
from probe.report import Report
from reports import words
from reports.style import clean

MOST_RUNS: Final = 30
MOST_GROUPS: Final = 60
MOST_NAMED: Final = 40
_VERDICTS: Final[dict[str, Verdict]] = {letter: verdict for verdict, letter in LETTERS.items()}


@dataclass(frozen=True, slots=True)
class Line:
    """Paths with the same verdict in every shown run. None: the path was not in that run."""

    cells: tuple[Verdict | None, ...]
    paths: tuple[str, ...]
    more: int  # paths that are not named


@dataclass(frozen=True, slots=True)
class Grid:
    """What is shown, and how much is not."""

    runs: tuple[RunPoint, ...]
    lines: tuple[Line, ...]
    runs_left_out: int
    lines_left_out: int
    paths_left_out: int


def grid(report: Report) -> Grid | None:
    """None where there is no timeline."""
    canary = report.canary
    if canary is None or not canary.runs or not canary.timeline:
        return None
    most = min(MOST_RUNS, len(canary.runs))
    named = {row.id: words.path(row) for row in report.results}
    alike: dict[tuple[Verdict | None, ...], list[str]] = {}
    for row, letters in canary.timeline.items():
        # Short of letters: the path came later than the first run.
        cells = tuple(_VERDICTS.get(letter) for letter in letters.rjust(len(canary.runs), ".")[-most:])
        alike.setdefault(cells, []).append(named.get(row, clean(row)))
    ordered = sorted(alike.items(), key=lambda pair: _rank(pair[0]))
    rest = ordered[MOST_GROUPS:]
    return Grid(
        runs=canary.runs[-most:],
        lines=tuple(_line(cells, paths) for cells, paths in ordered[:MOST_GROUPS]),
        runs_left_out=len(canary.runs) - most,
        lines_left_out=len(rest),
        paths_left_out=sum(len(paths) for _, paths in rest),
    )


def _rank(cells: Sequence[Verdict | None]) -> tuple[int, int, int]:
    """The newest verdict first; then whoever leaked before; then whoever changed."""
    newest = words.ORDER.index(cells[-1]) if cells[-1] is not None else len(words.ORDER)
    return newest, -sum(cell is Verdict.LEAK for cell in cells), -len(set(cells))


def _line(cells: tuple[Verdict | None, ...], paths: list[str]) -> Line:
    return Line(cells, tuple(paths[:MOST_NAMED]), max(0, len(paths) - MOST_NAMED))

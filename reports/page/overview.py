"""What stands around the table as values: the run's facts, what changed, and the findings of the baseline.

Pure: report → values, for page.html.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, TypeVar

from probe.alert import SEVERITY, Change
from probe.model import Severity, Verdict
from probe.report import BaselineFinding, Report, Result
from reports import words

MOST_CHANGES: Final = 100
MOST_PATHS: Final = 12

T = TypeVar("T")


def look(report: Report, rows: list[Result]) -> str:
    """The look of the headline. An incomplete run is never green."""
    if not rows or not (report.complete or rows[0].verdict is not Verdict.CONFORMS):
        return Verdict.UNPROVEN.value
    return rows[0].verdict.value


def counts(rows: list[Result]) -> list[tuple[Verdict, int]]:
    """Of each verdict, in words.ORDER."""
    return [(verdict, sum(row.verdict is verdict for row in rows)) for verdict in words.ORDER]


def facts(report: Report) -> list[tuple[str, str]]:
    """What the run was; what is not known is left out."""
    run = report.run
    when = moment(run.started) + (f", for {seconds}" if (seconds := _seconds(run.started, run.finished)) else "")
    said = {
        "self-reported": "self-reported: no far end was asked",
        "far-end": "far-end: a collector was asked what arrived",
    }
    found = [
        ("Policy", words.policy_line(report)),
        ("Evidence", said[report.evidence]),
        ("Run", run.id),
        ("When", when),
        ("Self-tests", words.self_tests(report.results)),
        ("Exit code", str(report.summary.exit_code)),
        ("Vantage", _vantage(report)),
        ("Silence", (words.calibration(report) or "").removeprefix("Silence: ")),
    ]
    return [(name, text) for name, text in found if text]


def _vantage(report: Report) -> str:
    """One line."""
    seen = report.run.vantage
    if seen is None:
        return ""
    parts = [
        f"user {seen.uid}" + (f" in {seen.container}" if seen.container else ""),
        f"started through {report.run.via}" if report.run.via else "",
        f"seccomp {seen.seccomp}" if seen.seccomp else "",
        "no new privileges" if seen.no_new_privs else "",
        f"{len(seen.capabilities) or 'no'} capabilit{'y' if len(seen.capabilities) == 1 else 'ies'}",
        "interfaces " + (", ".join(seen.interfaces[:6]) or "none"),
        "; ".join(route for route in seen.routes if route.startswith("default"))[:120] or "no default route",
        "resolvers " + (", ".join(seen.resolvers[:4]) or "none"),
        f"proxies {', '.join(seen.proxies[:3])}" if seen.proxies else "",
        f"no event loop ({seen.event_loop})" if seen.event_loop else "",
    ]
    return " · ".join(part for part in parts if part)


def moment(text: str | None) -> str:
    """`2026-11-25 02:45:03 UTC`; what is no time stays as it is."""
    if text is None:
        return "not known"
    return f"{text[:10]} {text[11:19]} UTC" if _parsed(text) and text.endswith("Z") else text


def _seconds(start: str | None, end: str | None) -> str | None:
    first, last = _parsed(start), _parsed(end)
    return f"{(last - first).total_seconds():.1f} s" if first and last else None


def _parsed(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else None


# --- what changed, and the baseline -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Named(Generic[T]):
    """Something that is about rows: each with its place in the table, None where it is not in it; and how many more."""

    of: T
    level: str
    paths: tuple[tuple[str, int | None], ...]
    more: int


def changes(report: Report, numbers: dict[str, int]) -> list[Named[Change]]:
    """The most severe first. `numbers`: row id → place in the table."""
    if report.canary is None:
        return []
    ranks = ("critical", "warning", "notice")
    ordered = sorted(report.canary.changes, key=lambda change: ranks.index(SEVERITY[change.kind]))
    return [_named(one, SEVERITY[one.kind], one.paths, numbers) for one in ordered[:MOST_CHANGES]]


def findings(report: Report, numbers: dict[str, int]) -> list[Named[BaselineFinding]]:
    """The most severe first."""
    ordered = sorted(report.baseline, key=lambda one: tuple(Severity).index(one.severity))
    return [_named(one, one.severity.value, one.observed_by, numbers) for one in ordered]


def _named(of: T, level: str, ids: tuple[str, ...], numbers: dict[str, int]) -> Named[T]:
    return Named(of, level, tuple((one, numbers.get(one)) for one in ids[:MOST_PATHS]), max(0, len(ids) - MOST_PATHS))

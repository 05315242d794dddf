"""Words and order that the formats for people share: leaks first, what is alike told once."""

from collections import Counter
from collections.abc import Iterable, Sequence

from probe import naming
from probe.alert import RunPoint
from probe.model import Purpose, Verdict
from probe.report import Observed, Report, Result
from reports.style import clean

ORDER = (
    Verdict.LEAK,
    Verdict.OVERBLOCKED,
    Verdict.UNPROVEN,
    Verdict.UNDECLARED,
    Verdict.NOT_RUN,
    Verdict.CONFORMS,
)

SAYS = {
    Verdict.LEAK: "leaks: declared deny, and it got out",
    Verdict.OVERBLOCKED: "over-blocked: declared allow, and it does not work",
    Verdict.UNPROVEN: "unproven: it may conform, nothing proves it",
    Verdict.UNDECLARED: "undeclared: no policy says what should happen",
    Verdict.NOT_RUN: "not run",
    Verdict.CONFORMS: "conform",
}


def rows(report: Report) -> list[Result]:
    """The rows without self-tests, leaks first; within a verdict in the plan's order."""
    return sorted(naming.shown(report.results), key=lambda result: ORDER.index(result.verdict))


def path(result: Result) -> str:
    """`tcp 192.0.2.1:443`, with the question where there is one, and the way where it is no plain socket."""
    return clean(naming.path_of(result))


def observed(seen: Observed) -> str:
    """`rejected by router 10.0.0.1`."""
    return clean(naming.observed(seen))


def why(result: Result) -> str:
    """The row's one sentence."""
    return result.why.replace("{token}", "NONCE")


def place(result: Result) -> str | None:
    """`egress-policy.toml:7`, where the line is known."""
    declared = result.declared
    return clean(f"{declared.path}:{declared.line}") if declared.path and declared.line else None


def reasons(results: Sequence[Result]) -> list[tuple[Verdict, list[Result]]]:
    """Rows with the same verdict and the same kind of reason together, in order; conforming rows are left out."""
    groups: dict[tuple[Verdict, str], list[Result]] = {}
    for result in results:
        if result.verdict is not Verdict.CONFORMS:
            key = result.verdict, result.why.replace(str(result.destination), "·")
            groups.setdefault(key, []).append(result)
    return [(verdict, found) for (verdict, _), found in groups.items()]


def reason(found: Sequence[Result]) -> str:
    """The sentence for rows that share it."""
    why = clean(found[0].why)
    if len(found) > 1:
        why = why.replace(clean(found[0].destination), "the destination")
    return (why[:1].upper() + why[1:]).replace("{token}", "NONCE")


def by_scenario(report: Report) -> list[tuple[str, str]]:
    """Scenario → `18 leak`, `2 unproven · 1 conforms`; in the plan's order."""
    counted: dict[str, Counter[Verdict]] = {}
    for result in naming.shown(report.results):
        counted.setdefault(result.scenario, Counter())[result.verdict] += 1
    return [
        (scenario, " · ".join(f"{number[v]} {v.value.replace('_', ' ')}" for v in ORDER if number[v]))
        for scenario, number in counted.items()
    ]


def headline(report: Report) -> str:
    """The one line that tells the run."""
    summary = report.summary
    if summary.leak:
        line = f"LEAK: {summary.leak} of {_denied(report)} denied paths got out"
    elif summary.overblocked:
        line = f"OVER-BLOCKED: {summary.overblocked} allowed paths do not work; no leak was found"
    elif not any(result.declared.action != "undeclared" for result in rows(report)):
        line = "NOTHING DECLARED: no policy says what should happen; observations only"
    elif summary.unproven or summary.undeclared or summary.not_run:
        line = "UNPROVEN: no leak was found, but not every path is proven to be as declared"
    else:
        line = "CONFORMS: every path is as declared"
    return line if report.complete else f"INCOMPLETE · {line}"


def counts(report: Report) -> str:
    """`3 leak · 12 conforms`, without the self-tests."""
    number = Counter(result.verdict for result in rows(report))
    return " · ".join(f"{number[v]} {v.value.replace('_', ' ')}" for v in ORDER if number[v]) or "no rows"


def since(reference: RunPoint) -> str:
    """What a comparison is with."""
    good = "last known good run" if reference.good else "last complete run"
    return clean(f"Since the {good} ({reference.started or '?'}, {reference.id})")


def one_line(report: Report) -> str:
    """The whole run in a line that can be pasted anywhere."""
    via = f" via {report.run.via}" if report.run.via else ""
    word = headline(report).partition(":")[0]
    return clean(
        f"egress-probe{via}: {word} · {counts(report)} · run {report.run.id} · exit {report.summary.exit_code}"
    )


def _denied(report: Report) -> int:
    return sum(result.declared.action == "deny" for result in rows(report))


def policy_line(report: Report) -> str:
    """Which files declare what."""
    if not report.policy.sources:
        return "no policy was found: every row is undeclared"
    files = ", ".join(f"{s.path} ({s.dialect}, {s.mode.value})" for s in report.policy.sources)
    return clean(f"{files}; default {report.policy.default.value}")


def calibration(report: Report) -> str | None:
    """How long silence lasted before it was called so, and how sure that is. None where nothing was measured."""
    made = report.run.calibration
    if made is None or made.lost_answer is None:
        return None
    return (
        f"Silence: {made.tries} tries in {made.deadline:g} s; the chance that one silent destination answered and each "
        f"answer was lost is at most {made.lost_answer:.1g} ({made.missed} of {made.samples} first tries were missed)"
    )


def self_tests(results: Iterable[Result]) -> str:
    """`8 of 8 self-tests passed`."""
    tests = [result for result in results if result.purpose is Purpose.SELF_TEST]
    passed = sum(result.verdict is Verdict.CONFORMS for result in tests)
    missed = ", ".join(clean(result.id) for result in tests if result.verdict is not Verdict.CONFORMS)
    return f"{passed} of {len(tests)} self-tests passed" + (f"; missed: {missed}" if missed else "")

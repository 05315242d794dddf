"""What is true in a world, and where a report differs from it. Truth and report → plain lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from probe.model import Action, Channel, EnforcerKind, Grade, Outcome, Purpose, Verdict
from probe.report import Report, Result


@dataclass(frozen=True, slots=True)
class Truth:
    """The verdict, and what is observed where it is stated, of rows that match every selecting field which is set.

    The first truth that matches counts.
    """

    verdict: Verdict
    grade: Grade | None = None
    outcome: Outcome | None = None
    enforcer: EnforcerKind | None = None
    hop: int | None = None
    # What selects rows:
    family: int | None = None
    channel: Channel | None = None
    declared: Action | None = None
    purpose: Purpose | None = None
    scenario: str | None = None
    host: bool | None = None  # the destination is a name
    port: int | None = None
    address: str | None = None
    type: str | None = None  # of a DNS question
    klass: str | None = None


def differences(truths: Sequence[Truth], report: Report) -> list[str]:
    """Rows whose first matching truth says something else, and truths that match no row."""
    found = [miss for result in report.results if (miss := _miss(truths, result))]
    unused = [truth for truth in truths if not any(_matches(truth, result) for result in report.results)]
    return found + [f"no row for the truth {_words(truth)}" for truth in unused]


def _miss(truths: Sequence[Truth], result: Result) -> str | None:
    if result.purpose is Purpose.SELF_TEST:
        return None if result.verdict is Verdict.CONFORMS else f"{result.id}: a self-test missed"
    truth = next((truth for truth in truths if _matches(truth, result)), None)
    if truth is None:
        return f"{result.id}: the world states no truth for it"
    stated, found = _stated(truth), _told(result)
    if all(stated[name] in (None, found[name]) for name in stated if name != "grade") and truth.grade is result.grade:
        return None
    wanted = {name: found[name] if value is None and name != "grade" else value for name, value in stated.items()}
    return f"{result.id}: {_sentence(found)}, but the truth is {_sentence(wanted)}"


def _stated(truth: Truth) -> dict[str, Any]:
    return {name: getattr(truth, name) for name in ("verdict", "grade", "outcome", "enforcer", "hop")}


def _told(result: Result) -> dict[str, Any]:
    by = result.observed.enforcer
    return {
        "verdict": result.verdict,
        "grade": result.grade,
        "outcome": result.observed.outcome,
        "enforcer": by.kind if by else EnforcerKind.UNKNOWN,
        "hop": by.hop if by else None,
    }


def _sentence(told: Mapping[str, Any]) -> str:
    """`leak (proven), reached by peer`."""
    grade = f" ({told['grade'].value})" if told["grade"] else ""
    hop = "" if told["hop"] is None else f" at hop {told['hop']}"
    return f"{told['verdict'].value}{grade}, {told['outcome'].value} by {told['enforcer'].value}{hop}"


def _words(truth: Truth) -> str:
    return " ".join(f"{f.name}={value}" for f in fields(truth) if (value := getattr(truth, f.name)) is not None)


def _matches(truth: Truth, result: Result) -> bool:
    address = result.destination.address
    facts = {
        "family": None if address is None else (6 if ":" in address else 4),
        "channel": result.channel,
        "declared": result.declared.action,
        "purpose": result.purpose,
        "scenario": result.scenario,
        "host": result.destination.host is not None,
        "port": result.destination.port,
        "address": address,
        "type": result.query.type if result.query else None,
        "klass": result.query.klass if result.query else None,
    }
    return all(getattr(truth, name) in (None, value) for name, value in facts.items())

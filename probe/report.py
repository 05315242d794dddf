"""The report's nouns: `egress-probe.report/1`. Observations and judgements never share a key."""

from dataclasses import dataclass
from typing import Final, Literal

from probe.alert import Canary
from probe.documents import Arrival, Attempt, Calibration, Vantage
from probe.model import (
    Action,
    Channel,
    Declared,
    Destination,
    DnsRules,
    EnforcerKind,
    Grade,
    HttpRequest,
    Outcome,
    Purpose,
    Query,
    Rule,
    Severity,
    Source,
    Verdict,
)

REPORT_SCHEMA: Final = "egress-probe.report/1"


@dataclass(frozen=True, slots=True)
class PolicySummary:
    """The layers as the report shows them."""

    sources: tuple[Source, ...]
    default: Action
    rules: tuple[Rule, ...]
    defaults: tuple[Declared, ...] = ()  # each layer's own, with where it stands
    dns: tuple[DnsRules, ...] = ()


@dataclass(frozen=True, slots=True)
class Tool:
    """What made the report."""

    name: str
    version: str
    artifact_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class RunInfo:
    """When, by what, from where."""

    id: str
    probe_type: Literal["egress_path_validation"]
    started: str | None
    finished: str | None
    tool: Tool
    vantage: Vantage | None
    calibration: Calibration | None = None
    via: str | None = None  # the target or launcher that the agent was started through; None: in place


@dataclass(frozen=True, slots=True)
class Enforcer:
    """Who said no, as far as it can be known. `hop`: 0 is this host, 1 the next hop. `sign`: the kind in kinds.py."""

    kind: EnforcerKind
    address: str | None = None
    hop: int | None = None
    sign: str | None = None


@dataclass(frozen=True, slots=True)
class FarEndSeen:
    """What the collector got of one row (the first few arrivals), and what came back to the inside."""

    arrived: bool
    reply: Literal["receipt", "other", "at-home", "attributed", "as-target", "stopped", "none"]
    arrivals: tuple[Arrival, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """What happened to one row. `failure` is OONI's df-007 vocabulary plus `operation_not_permitted`.

    `far_end`: where a collector was asked, and the row's token leads to it or arrived there.
    """

    outcome: Outcome
    failure: str | None
    enforcer: Enforcer | None
    attempts: tuple[Attempt, ...] = ()
    far_end: FarEndSeen | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One row: declared, observed, verdict."""

    id: str
    scenario: str
    technique: str
    channel: Channel
    destination: Destination
    purpose: Purpose
    declared: Declared
    observed: Observed
    verdict: Verdict
    grade: Grade | None
    why: str
    query: Query | None = None
    http: HttpRequest | None = None


@dataclass(frozen=True, slots=True)
class BaselineFinding:
    """A config finding, and whether the observation bears it out."""

    id: str
    severity: Severity
    title: str
    description: str
    evidence: str
    remediation: str
    auto_fix: str
    observed: Literal["confirmed", "contradicted", "unverified"]
    observed_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """Rows per verdict, and the exit code that `--fail-on unproven` gives."""

    conforms: int
    leak: int
    overblocked: int
    unproven: int
    undeclared: int
    not_run: int
    exit_code: int


@dataclass(frozen=True, slots=True)
class Report:
    """The whole document."""

    schema: Literal["egress-probe.report/1"]
    evidence: Literal["self-reported", "far-end"]
    complete: bool
    run: RunInfo
    policy: PolicySummary
    baseline: tuple[BaselineFinding, ...]
    results: tuple[Result, ...]
    summary: Summary
    problems: tuple[str, ...] = ()  # what was wrong with the evidence
    notes: tuple[str, ...] = ()
    canary: Canary | None = None  # of a scheduled run: what changed since the last known good one

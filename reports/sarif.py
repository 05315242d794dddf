"""Format `sarif`: SARIF 2.1.0 (OASIS, errata 01), one run, for code scanning and result managers. Compact JSON.

A rule for each verdict, not for each kind of path: GitHub's code scanning does not read `kind` and titles an alert with
its rule, so an unproven path under a rule "leak" would be told as a leak. The numbers in § are those of the standard.
"""

import hashlib
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from probe.errors import one_line
from probe.model import Severity, Verdict
from probe.report import BaselineFinding, Report, Result
from reports import words
from reports.kinds import KINDS
from reports.style import Style, clean

Json = dict[str, Any]

_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_ROOT: Final = "%SRCROOT%"
_MOST: Final = 1000  # characters of a message that GitHub shows
_SEMVER: Final = re.compile(r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?")


# §3.27.9 and §3.27.10: the level is "none" unless the kind is "fail". "open" is the standard's word for what could not
# be proven either way.
_KIND: Final[dict[Verdict, tuple[str, str]]] = {
    Verdict.LEAK: ("fail", "error"),
    Verdict.OVERBLOCKED: ("fail", "warning"),
    Verdict.UNPROVEN: ("open", "none"),
    Verdict.UNDECLARED: ("informational", "none"),
    Verdict.NOT_RUN: ("notApplicable", "none"),
    Verdict.CONFORMS: ("pass", "none"),
}
_SEVERITY: Final = {
    Severity.CRITICAL: ("fail", "error"),
    Severity.WARN: ("fail", "warning"),
    Severity.INFO: ("informational", "none"),
    Severity.OK: ("pass", "none"),
}


def render(report: Report, style: Style) -> str:  # noqa: ARG001 - every format has this shape
    """One line of ASCII."""
    rules = _finding_rules(report.baseline) | {KINDS[verdict].id: _verdict_rule(verdict) for verdict in KINDS}
    index = {rule_id: n for n, rule_id in enumerate(rules)}
    results = [*_findings(report), *(_row(result, report) for result in report.results), *_absent(report)]
    run: Json = {
        "tool": {"driver": _driver(report) | {"rules": list(rules.values())}},
        "automationDetails": _automation(report),
        "invocations": [_invocation(report)],
        "originalUriBaseIds": {_ROOT: {"description": _text("The directory in which egress-probe was started.")}},
        "results": [result | {"ruleIndex": index[result["ruleId"]]} for result in results],
        "properties": _tag(report) | {"evidence": report.evidence, "complete": report.complete},
    }
    if report.canary and report.canary.before is not None and report.canary.reference:
        run["baselineGuid"] = _guid(report.canary.reference.id)
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, separators=(",", ":")) + "\n"


# --- the run ----------------------------------------------------------------------------------------------------------


def _driver(report: Report) -> Json:
    version = one_line(report.run.tool.version)
    semantic = {"semanticVersion": version} if _SEMVER.fullmatch(version) else {}
    return {"name": "egress-probe", "version": version} | semantic


def _automation(report: Report) -> Json:
    # All but the last part is what GitHub calls the category: a canary's alerts do not close another one's.
    parts = ["egress-probe", *([report.canary.name] if report.canary else []), report.run.id]
    return {"id": "/".join(one_line(part).replace("/", "-") for part in parts), "guid": _guid(report.run.id)}


def _guid(run_id: str) -> str:
    """The same GUID for the same run (RFC 9562, version 5): a ULID is none."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, one_line(f"egress-probe:{run_id}")))


def _invocation(report: Report) -> Json:
    times = {"startTimeUtc": _utc(report.run.started), "endTimeUtc": _utc(report.run.finished)}
    told = [("error", problem) for problem in report.problems] + [("note", note) for note in report.notes]
    return {name: time for name, time in times.items() if time} | {
        "executionSuccessful": report.complete,
        "exitCode": report.summary.exit_code,
        "toolExecutionNotifications": [{"level": level, "message": _text(text)} for level, text in told],
    }


def _utc(time: str | None) -> str | None:
    """§3.9. What is no time is left out: a stored report may say anything."""
    try:
        moment = datetime.fromisoformat(time or "")
        utc = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment.tzinfo else None


def _tag(report: Report) -> Json:
    return {"probe_type": report.run.probe_type, "run_id": one_line(report.run.id)}


def _verdict_rule(verdict: Verdict) -> Json:
    kind = KINDS[verdict]
    name = {"name": verdict.value.title().replace("_", ""), "defaultConfiguration": {"level": _KIND[verdict][1]}}
    return _rule(kind.id, f"{kind.title}.", kind.title + (f". {kind.help}" if kind.help else "."), kind.help) | name


def _finding_rules(findings: Iterable[BaselineFinding]) -> dict[str, Json]:
    return {
        one_line(f.id): _rule(one_line(f.id), f.title, f.description, f.remediation or f.description) for f in findings
    }


def _rule(rule_id: str, short: str, full: str, help_: str) -> Json:
    return {
        "id": rule_id,
        "shortDescription": _text(short),
        "fullDescription": _text(full),
        "help": _text(help_ or full),
        "properties": {"tags": ["security", "egress"]},
    }


# --- the results ------------------------------------------------------------------------------------------------------


def _row(result: Result, report: Report) -> Json:
    seen, declared = result.observed, result.declared
    facts = {
        "verdict": result.verdict,
        "grade": result.grade,
        "declared": declared.action,
        "declaredBy": clean(declared.by),
        "purpose": result.purpose,
        "outcome": seen.outcome,
        "failure": clean(seen.failure) if seen.failure else None,
        "observed": words.observed(seen),
    }
    place = _place(declared.path, declared.line, report)
    made = _of_row(result.id, words.path(result), result.verdict, place, words.why(result))
    return made | _state(result.id, result.verdict, report) | {"properties": _tag(report) | facts}


def _absent(report: Report) -> Iterator[Json]:
    """Rows of the reference run that this run has not, in its order."""
    now = {result.id for result in report.results}
    for row, verdict in ((report.canary.before or {}) if report.canary else {}).items():
        if row not in now:
            why = f"{verdict.value} in the reference run, and not in this one: {row}."
            made = _of_row(row, row, verdict, _place(None, None, report), why)
            yield made | {"baselineState": "absent", "properties": _tag(report)}


def _of_row(row: str, name: str, verdict: Verdict, place: Json, why: str) -> Json:
    kind, level = _KIND[verdict]
    logical = {"name": clean(name), "fullyQualifiedName": one_line(row), "kind": "resource"}
    return {
        "ruleId": KINDS[verdict].id,
        "kind": kind,
        "level": level,
        "message": _text(why),
        "locations": [place | {"logicalLocations": [logical]}],
        "partialFingerprints": _fingerprints(f"row:{row}", 1),
    }


def _findings(report: Report) -> Iterator[Json]:
    met: Counter[str] = Counter()
    for finding in report.baseline:
        met[finding.id] += 1
        kind, level = _SEVERITY[finding.severity]
        if finding.severity is Severity.OK and finding.observed == "contradicted":
            kind = "review"  # the configuration says that all is well, and the run does not
        by = f" by {', '.join(finding.observed_by)}" if finding.observed_by else ""
        yield {
            "ruleId": one_line(finding.id),
            "kind": kind,
            "level": level,
            "message": _text(f"{finding.title}. Evidence: {finding.evidence}. Observed: {finding.observed}{by}."),
            "locations": [_place(None, None, report)],
            "partialFingerprints": _fingerprints(f"finding:{finding.id}", met[finding.id]),
            **_finding_state(finding.id, report),
            "properties": _tag(report) | {"severity": finding.severity, "observed": finding.observed},
        }


def _state(row: str, verdict: Verdict, report: Report) -> Json:
    """§3.27.24, against the reference run."""
    if report.canary is None or report.canary.before is None:
        return {}
    was = report.canary.before.get(row)
    return {"baselineState": "new" if was is None else "unchanged" if was is verdict else "updated"}


def _finding_state(finding: str, report: Report) -> Json:
    """On every result or on none (§3.27.24); what changed in the baseline stands among the changes."""
    if report.canary is None or report.canary.before is None:
        return {}
    named = re.compile(rf"(?<![\w-]){re.escape(finding)}(?![\w-])")
    about = [c for c in report.canary.changes if c.kind == "baseline" and named.search(" ".join((c.line, *c.paths)))]
    return {"baselineState": "unchanged" if not about else "new" if about[0].before is None else "updated"}


# --- text, places, fingerprints ---------------------------------------------------------------------------------------


def _text(text: str) -> Json:
    """A plain text message (§3.11): braces are placeholders in it, and `[text](target)` is a link."""
    return {"text": clean(text, _MOST).replace("{", "{{").replace("}", "}}").replace("](", "] (")}


def _place(path: str | None, line: int | None, report: Report) -> Json:
    """The declaration's file and line. Code scanning refuses a result without a file: then a stand-in that says so."""
    if path:
        region = {"region": {"startLine": line}} if line else {}
        return {"physicalLocation": {"artifactLocation": _artifact(path)} | region}
    files = [source.path for source in report.policy.sources if source.path]
    said = "not a line of this file" if files else "no policy was found; one would be declared here"
    stand_in = {"artifactLocation": _artifact(files[0] if files else "egress-policy.toml")}
    return {"physicalLocation": stand_in, "message": _text(f"A stand-in: {said}.")}


def _artifact(path: str) -> Json:
    """§3.4, §3.10: percent-encoded; `file:///` where it is absolute; no empty and no `.` segments."""
    parts = [quote(_bytes(part), safe="") for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/"):
        return {"uri": "file:///" + "/".join(parts)}
    return {"uri": "/".join(parts) or "./", "uriBaseId": _ROOT}


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")  # a file name's own bytes
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")  # JSON can hold half a pair


def _fingerprints(what: str, nth: int) -> Json:
    """The same in every run, whatever the verdict and wherever it stands in the file (§3.27.17).

    GitHub reads `primaryLocationLineHash` alone, by custom the hash of a line; but one line may declare many rows.
    """
    digest = hashlib.sha256(one_line(what).encode()).hexdigest()
    return {"egressPath/v1": f"{digest}:{nth}", "primaryLocationLineHash": f"{digest[:16]}:{nth}"}

"""What the config findings say: whether the run bears each out, and its severity."""

from collections import Counter
from collections.abc import Iterator

from probe.conditions.nouns import About, Said, key, short
from probe.report import Report


def say(report: Report) -> Iterator[Said]:
    """Two keys per finding."""
    seen: Counter[str] = Counter()
    for finding in report.baseline:
        seen[finding.id] += 1
        name = finding.id if seen[finding.id] == 1 else f"{finding.id} ({seen[finding.id]})"
        about = About(short(f"{name} ({finding.title})"))
        yield Said(key("baseline", name), finding.observed, about)
        yield Said(key("severity", name), finding.severity.value, about)

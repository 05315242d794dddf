"""A report as a flat table of conditions, key → word, so that any two runs can be compared. Nothing is compared here.

    row:ID              leak, open, closed, blocked or unknown, and by whom it was stopped; not what was not tried
    default: mode: source: dns: rule:      the declared policy, by file
    vantage:NAME        the place that the agent ran in
    baseline:ID, severity:ID               config findings

A rule is known by what it says: its number and its line may change. What differs from run to run by nature (times,
ports of our own, the place's link-local addresses) is not in the table.
"""

from collections.abc import Callable, Iterator

from probe.conditions import baseline, policy, rows, vantage
from probe.conditions.nouns import Conditions, Said
from probe.report import Report

SAYERS: tuple[Callable[[Report], Iterator[Said]], ...] = (rows.say, policy.say, vantage.say, baseline.say)


def conditions(report: Report) -> Conditions:
    """What holds in one run."""
    said = [one for say in SAYERS for one in say(report)]
    return Conditions(
        {one.key: one.value for one in said},
        {one.key: one.about for one in said},
        () if report.run.vantage is not None else ("vantage:",),
    )

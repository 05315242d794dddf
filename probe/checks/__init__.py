"""Config baseline: facts about the host and its declared policies → findings. One file per check, no I/O.

CHK-NET-009…011 keep the ids and the meaning of the scanner that they come from; findings that a policy's own dialect
makes (EGP-…) are added as they are. A command that is missing or needs root is said in `evidence`, never taken as
"no rules".
"""

from collections.abc import Callable, Sequence

from probe.checks import net009, net010, net011
from probe.checks.facts import HostFacts
from probe.model import Finding, Policy

CHECKS: dict[str, Callable[[HostFacts, Sequence[Policy]], Finding]] = {
    "CHK-NET-009": net009.check,
    "CHK-NET-010": net010.check,
    "CHK-NET-011": net011.check,
}


def findings(facts: HostFacts, policies: Sequence[Policy]) -> tuple[Finding, ...]:
    """Every finding, the checks' first, then the policies' own without repetition."""
    own = dict.fromkeys(finding for policy in policies for finding in policy.findings)
    return (*(check(facts, policies) for check in CHECKS.values()), *own)

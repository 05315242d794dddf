"""CHK-NET-010: may skills send any DNS query? Data leaves in the names of TXT look-ups (the Moltbook case).

Judged by what the enforced policies say of a TXT query for a name that nobody allowed.
"""

from collections.abc import Sequence

from probe.checks.facts import HostFacts
from probe.model import Action, Channel, Destination, Finding, Mode, Policy, Query, Severity
from probe.policies.decide import decide

ID = "CHK-NET-010"

_STRANGE = Query("nobody-allowed-this.invalid", "TXT")
_SAYS = {
    Action.DENY: (Severity.OK, "DNS is restricted by the declared policy"),
    Action.ALLOW: (Severity.WARN, "Skills sandbox allows unrestricted DNS"),
    Action.UNDECLARED: (Severity.WARN, "No declared policy restricts DNS"),
}


def check(facts: HostFacts, policies: Sequence[Policy]) -> Finding:  # noqa: ARG001 - every check has this shape
    """ok where an enforced policy denies the query; warn where it allows it, or nothing speaks of it."""
    enforced = [policy for policy in policies if policy.source.mode is Mode.ENFORCE]
    answer = decide(enforced, Destination("system-resolver", None, 53), Channel.DNS, _STRANGE)
    severity, title = _SAYS[answer.action]
    return Finding(
        id=ID,
        severity=severity,
        title=title,
        description="A skill that can look up any name can send data out in the names, through the sandbox's own "
        "resolver, without a single direct connection.",
        evidence=answer.by,
        remediation=""
        if severity is Severity.OK
        else "Give the sandbox no resolver, or one that answers allowed names only and forwards nothing else. "
        'In OpenClaw: agents.defaults.sandbox.docker.network = "none".',
    )

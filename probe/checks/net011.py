"""CHK-NET-011: does the configuration let skills connect anywhere?

The severity follows the keys that something enforces. Keys that nothing enforces (mode `inert`) count as absent.
"""

from collections.abc import Sequence

from probe.checks.facts import HostFacts
from probe.model import Action, Finding, Mode, Policy, Severity
from probe.policies.decide import combined_default

ID = "CHK-NET-011"

_SAYS = {
    Action.DENY: (Severity.OK, "Skills' outbound access is denied by default"),
    Action.ALLOW: (Severity.CRITICAL, "Skills have unrestricted outbound network access"),
    Action.UNDECLARED: (Severity.WARN, "Nothing declares what skills may reach"),
}


def check(facts: HostFacts, policies: Sequence[Policy]) -> Finding:  # noqa: ARG001 - every check has this shape
    """ok / critical by the combined default of the enforced policies; critical too where only inert keys speak."""
    enforced = [policy for policy in policies if policy.source.mode is Mode.ENFORCE]
    default = combined_default(enforced)
    severity, title = _SAYS[default]
    if not enforced and policies:
        severity, title = _SAYS[Action.ALLOW]
    evidence = "; ".join(policy.default_by for policy in policies) or "no policy was found"
    return Finding(
        id=ID,
        severity=severity,
        title=title,
        description="Without an enforced outbound policy a malicious skill can send data to any server.",
        evidence=evidence,
        remediation=""
        if severity is Severity.OK
        else 'In OpenClaw set agents.defaults.sandbox.mode = "all" and keep agents.defaults.sandbox.docker.network at '
        '"none", or put the sandbox behind a filtering proxy and declare that.',
    )

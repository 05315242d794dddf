"""CHK-NET-009: is anything on this host restricting what leaves it?

The config says so, or does not; whether packets really stop is the probe's business (`observed` in the report).
"""

from collections.abc import Sequence

from probe.checks.facts import COMMANDS, HostFacts
from probe.checks.rulesets import Reading, read
from probe.model import Finding, Policy, Severity

ID = "CHK-NET-009"

_DESCRIPTION = (
    "Without outbound rules on the host, skills and agents can connect to any destination, and data can leave unseen."
)
_REMEDIATION = {
    "linux": "Add nftables rules with a default of drop in the output and forward hooks, in a table of family inet.",
    "darwin": "Install LuLu (free) or Little Snitch, or add pf rules that block out, for inet and inet6.",
}


def check(facts: HostFacts, policies: Sequence[Policy]) -> Finding:  # noqa: ARG001 - every check has this shape
    """ok: both IP versions are denied by default; warn: one or none is; info: it could not be read."""
    readings = [read(name, facts.commands.get(name)) for name in COMMANDS.get(facts.platform, {})]
    severity, title = _judge(facts, readings)
    evidence = "; ".join([*(reading.says for reading in readings), *_products(facts)])
    return Finding(
        id=ID,
        severity=severity,
        title=title,
        description=_DESCRIPTION,
        evidence=evidence or f"no known firewall command for {facts.platform}",
        remediation="" if severity is Severity.OK else _REMEDIATION.get(facts.platform, _REMEDIATION["linux"]),
    )


def _judge(facts: HostFacts, readings: list[Reading]) -> tuple[Severity, str]:
    if facts.products:
        return Severity.OK, "An outbound firewall is installed"
    restricted = {version for reading in readings for version in reading.families or ()}
    if restricted == {4, 6}:
        return Severity.OK, "Outbound traffic is denied by default, for IPv4 and IPv6"
    if restricted:
        missing = "IPv6" if restricted == {4} else "IPv4"
        return Severity.WARN, f"Outbound traffic is denied by default, but not for {missing}"
    if any(reading.some for reading in readings):
        return Severity.WARN, "Some outbound rules exist, but nothing is denied by default"
    if _unread(facts, readings):
        return Severity.INFO, "Host egress filtering could not be read"
    return Severity.WARN, "No outbound network egress restrictions detected"


def _unread(facts: HostFacts, readings: list[Reading]) -> bool:
    """No rule was found, and a firewall that may hold one could not be listed."""
    names = list(COMMANDS.get(facts.platform, {}))
    unread = [name for name, reading in zip(names, readings, strict=True) if reading.families is None]
    listed = [name for name in names if name not in unread and name not in ("docker", "pf-info")]
    installed = [name for name in unread if name != "docker" and _ran(facts, name)]
    return not listed or bool(installed)


def _ran(facts: HostFacts, name: str) -> bool:
    result = facts.commands.get(name)
    return result is not None and result.status is not None


def _products(facts: HostFacts) -> list[str]:
    if facts.platform != "darwin":
        return []
    return [f"{name}: installed" for name in facts.products] or ["no LuLu or Little Snitch"]

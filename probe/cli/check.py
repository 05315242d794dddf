"""`egress-probe check`: the config baseline only. Sends nothing, changes nothing."""

import json

import click
from tabulate import tabulate

from probe.checks import findings
from probe.cli.options import policy_options
from probe.cli.planning import find_policies
from probe.codec import encode
from probe.hostfacts import gather
from probe.model import Finding, Severity
from reports.style import clean


@click.command(short_help="Config baseline only: what host and policies declare.")
@policy_options
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def check(policies: tuple[str, ...], dialect: str | None, agent: str | None, form: str) -> int:
    """Read the host's firewall and the declared policies, and print findings CHK-NET-009 to 011 and EGP-.

    \b
    Examples:
      egress-probe check
      egress-probe check --policy ~/.openclaw/openclaw.json --format json

    Exit codes: 0 nothing critical or warn, 1 something is, 2 usage or configuration.
    """
    found = findings(gather(), find_policies(policies, dialect, agent))
    click.echo(json.dumps(encode(found), indent=2) if form == "json" else _table(found))
    return int(any(finding.severity in (Severity.CRITICAL, Severity.WARN) for finding in found))


def _table(found: tuple[Finding, ...]) -> str:
    parts = []
    for finding in found:
        rows = [["evidence", clean(finding.evidence)], ["remediation", clean(finding.remediation)]]
        shown = tabulate([row for row in rows if row[1]], tablefmt="plain", maxcolwidths=[None, 84])
        parts.append(f"{finding.severity.value:8} {finding.id}  {clean(finding.title)}\n{shown}")
    return "\n\n".join(parts)

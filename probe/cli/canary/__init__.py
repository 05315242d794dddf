"""`egress-probe canary`: scheduled runs, their history, what changed, and alerts. Each command is a file of its own."""

import click

from probe.cli.lazy import Lazy

COMMANDS = {
    "run": "probe.cli.canary.run",
    "watch": "probe.cli.canary.watch",
    "install": "probe.cli.canary.install",
    "status": "probe.cli.canary.status",
    "history": "probe.cli.canary.history",
    "show": "probe.cli.canary.show",
    "diff": "probe.cli.canary.diff",
    "report": "probe.cli.canary.report",
    "prune": "probe.cli.canary.prune",
}


@click.group(cls=Lazy, modules=COMMANDS, short_help="Scheduled runs: history, drift, alerts.")
def canary() -> None:
    """Scheduled runs: each is stored, compared with the last known good one, and told of only where something changed.

    \b
    Examples:
      egress-probe canary run --policy egress-policy.toml --control api.example.com:443
      egress-probe canary watch --every 15m --policy egress-policy.toml --alert webhook=@hook.url
      egress-probe canary install --systemd --every 15m --policy egress-policy.toml
      egress-probe canary status
      egress-probe canary diff last~1 last
      egress-probe canary report -o paths.html

    A run and its history belong to a name (`--name`, default: default), or to a file (`--history`).
    """

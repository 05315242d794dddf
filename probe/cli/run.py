"""`egress-probe run`: plan, attempt, judge, print."""

from typing import Any

import click

from probe.cli.options import check_outputs, output_options, print_report
from probe.cli.running import check_files, perform, run_options


@click.command(short_help="Try the paths and judge them.")
@run_options
@output_options
def run(form: str, outputs: tuple[str, ...], fail_on: str, **options: Any) -> int:
    """Try the planned paths from inside this sandbox, and say for each whether the declared policy holds.

    \b
    Examples:
      egress-probe run --policy egress-policy.toml --control api.example.com:443
      egress-probe run --policy openclaw.json --scenario documentation-ranges --format json
      egress-probe run --policy p.toml --plan-out plan.json --evidence-out evidence.jsonl
      egress-probe run --policy p.toml --collector "https://203.0.113.53:8443/?zone=…#sha256=…"
      egress-probe run --policy openclaw.json --via openclaw:main
      egress-probe run --policy srt.toml --via srt:settings.json
      egress-probe run --policy p.toml --via docker-image:box:1 -- --network none
      egress-probe run --policy p.toml -- bwrap --ro-bind / / --unshare-net

    \b
    Targets of --via (further options for the launcher after --):
      docker:CONTAINER, docker-image:IMAGE, podman:CONTAINER, podman-image:IMAGE, bwrap, firejail,
      unshare, netns:NAME, srt[:SETTINGS], codex, gvisor, kubectl:NAMESPACE/POD[/CONTAINER],
      ssh:HOST, openclaw:AGENT
    Or a launcher of your own after --: the agent's words are appended, and it comes through stdin.

    Exit codes: 0 every check conforms, 1 a leak or an over-block, 2 usage or configuration, 3 something that should be
    proven was not.
    """
    check_outputs(form, outputs)
    check_files(options)
    report, finish = perform(options, fail_on)
    status = print_report(report, form, outputs)
    finish()
    return status

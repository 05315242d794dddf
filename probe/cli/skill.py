"""`egress-probe skill`: the agent as an OpenClaw skill."""

from pathlib import Path

import click

from probe.errors import UserError
from probe.files import read_text


@click.group(short_help="The agent as an OpenClaw skill.")
def skill() -> None:
    """The agent as a skill: a folder with SKILL.md and the agent's sources, for OpenClaw's sandbox.

    \b
    Example:
      egress-probe skill install ~/.openclaw/skills/egress-probe
    """


@skill.command()
@click.argument("folder", default="~/.openclaw/skills/egress-probe", metavar="[DIR]")
@click.option("--orders", metavar="FILE", help="Put these orders beside it: `plan --orders-out FILE` writes them.")
def install(folder: str, orders: str | None) -> int:
    """Write the skill into DIR (default: ~/.openclaw/skills/egress-probe); one that is there is replaced.

    The skill only tries what its orders say and prints evidence. It knows no policy and judges nothing: that is done
    outside, by `egress-probe judge PLAN EVIDENCE`.

    \b
    Examples:
      egress-probe plan --policy openclaw.json --plan-out plan.json --orders-out orders.json
      egress-probe skill install --orders orders.json

    Exit codes: 0 written, 2 usage or configuration.
    """
    from probe.shipping.skill import write

    target = Path(folder).expanduser()
    text = None if orders is None else read_text(orders)
    try:
        count = write(target, text)
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror or error}") from None
    click.echo(f"{target}: SKILL.md and {count} files of the agent" + ("" if text is None else ", with orders"))
    return 0

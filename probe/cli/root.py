"""The group of commands, loaded one at a time, and the one place where errors become a line and an exit code."""

import sys
from collections.abc import Sequence

import click

from probe import __version__
from probe.cli.lazy import Lazy
from probe.errors import UserError, one_line

# Command → its module; the command object there has the command's name.
COMMANDS = {
    "check": "probe.cli.check",
    "plan": "probe.cli.plan",
    "run": "probe.cli.run",
    "judge": "probe.cli.judge",
    "lab": "probe.cli.lab",
    "collector": "probe.cli.collector",
    "canary": "probe.cli.canary",
    "bundle": "probe.cli.bundle",
    "skill": "probe.cli.skill",
    "report": "probe.cli.report",
    "scenarios": "probe.cli.scenarios",
}

INCOMPLETE = 3
USAGE = 2


@click.group(
    cls=Lazy,
    modules=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `egress-probe plan` (sends nothing), or `egress-probe lab` (sends nothing outside).",
)
@click.version_option(__version__, prog_name="egress-probe", message="%(prog)s %(version)s")
def root() -> None:
    """Does the declared egress policy of a sandbox really hold? Tries the exfiltration paths with harmless probes."""


def run(arguments: Sequence[str]) -> int:
    """One command line to its exit code."""
    try:
        status = root.main(list(arguments), prog_name="egress-probe", standalone_mode=False)
    except UserError as error:
        return _fail(str(error))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return USAGE
    except click.ClickException as error:
        return _fail(one_line(error.format_message()))
    except (KeyboardInterrupt, click.Abort):
        return INCOMPLETE
    except (BrokenPipeError, SystemExit):
        # The reader left (`| head`), and click would exit with 1, which is a leak: nothing more to say, and Python must
        # not say it at exit either.
        from probe.cli.options import point_nowhere

        point_nowhere(sys.stdout)
        return INCOMPLETE
    return status if isinstance(status, int) else 0


def _fail(line: str) -> int:
    click.echo(f"egress-probe: {line}", err=True)
    return USAGE

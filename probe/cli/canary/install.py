"""`egress-probe canary install`: units for systemd, or a crontab, that run the canary."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from probe.cli.again import words_again
from probe.cli.canary.place import checked_name, damping, place, span
from probe.cli.canary.run import canary_options, checked_channels
from probe.cli.options import check_outputs, output_options
from probe.cli.running import run_options
from probe.errors import UserError
from probe.units import SCHEDULERS, Job
from probe.units.installing import write as write_files

_OWN = ("scheduler", "every", "write", "own", "user", "splay")
_SECRET = ("webhook", "slack")
_FILES = ("plan_out", "evidence_out", "arrivals_out", "metrics")


@click.command(short_help="Print (or write) systemd units or a crontab.")
@click.option("--systemd", "scheduler", flag_value="systemd", help="A service and a timer.")
@click.option("--cron", "scheduler", flag_value="cron", help="A file for /etc/cron.d.")
@click.option("--every", default="15m", show_default=True, metavar="SPAN", help="From one run to the next.")
@click.option("--own", is_flag=True, help="For your own service manager (systemctl --user), not the system's.")
@click.option("--user", metavar="USER", help="Who runs it, where the system's scheduler starts it.")
@click.option("--write", is_flag=True, help="Write the files where they belong, instead of printing them.")
@run_options
@canary_options
@output_options
@click.pass_context
def install(context: click.Context, /, scheduler: str | None, every: str, own: bool, user: str | None, write: bool,
            name: str, history: str | None, alerts: tuple[str, ...], damp: str, blind: int, splay: float, form: str,
            outputs: tuple[str, ...], **options: Any) -> int:  # fmt: skip
    """Print units that run `canary run` with these options: hardened where that changes nothing of what a probe sees.

    What would itself block a path is left out, and the unit says so. --write puts the files into /etc/systemd/system,
    ~/.config/systemd/user (--own) or /etc/cron.d, and never replaces a file that was not written by this command.

    \b
    Examples:
      egress-probe canary install --systemd --every 15m --policy /etc/egress-policy.toml
      egress-probe canary install --systemd --own --write --policy ~/p.toml --via bwrap
      egress-probe canary install --cron --user probe --policy /etc/egress-policy.toml
    """
    if scheduler is None:
        raise UserError("install: expected --systemd or --cron")
    check_outputs(form, outputs)
    checked_name(name)
    damping(damp, blind)
    checked_channels(alerts)
    _no_secret(alerts)
    if write and scheduler == "cron" and user is None:
        raise UserError("install: --cron --write puts a file into /etc/cron.d: expected --user USER")
    words = [_program(), "canary", "run", *words_again(context, _OWN)]
    written = [*outputs, *(options[key] for key in _FILES if options[key])]
    written += [str(place(name, history))] if history is not None else []
    made = SCHEDULERS[scheduler](
        Job(
            words=words,
            name=name,
            every=span(every, "--every"),
            folder=os.getcwd(),
            via=options["via"] or (options["command"][0] if options["command"] else None),
            writes=written,
            splay=splay if given(context, "splay") else None,
            user=user,
            own=own,
        )
    )
    if not write:
        click.echo("\n".join(f"# --- {file}\n{text}" for file, text in made.items()), nl=False)
        return 0
    for path, how in write_files(made, _folder(scheduler, own)).items():
        click.echo(f"{path}: {how}")
    if scheduler == "systemd":
        manager = "systemctl --user" if own else "systemctl"
        click.echo(f"Start it: {manager} daemon-reload && {manager} enable --now egress-probe-{name}.timer")
    return 0


def _no_secret(alerts: tuple[str, ...]) -> None:
    """A unit and a crontab can be read by everybody. Raises UserError."""
    for text in alerts:
        kind, _, value = text.partition("=")
        if kind in _SECRET and not value.startswith("@"):
            raise UserError(
                f"install: --alert {kind}: a URL is a secret, and units can be read by everybody: {kind}=@FILE"
            )


def given(context: click.Context, name: str) -> bool:
    """Whether the option was on the command line."""
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _program() -> str:
    """The installed command, beside this interpreter or as it was called. Raises UserError."""
    for path in (Path(sys.executable).with_name("egress-probe"), Path(sys.argv[0])):
        if path.name == "egress-probe" and os.access(path, os.X_OK):
            return str(path.absolute())
    raise UserError("install: the command egress-probe was not found beside this Python")


def _folder(scheduler: str, own: bool) -> str:
    if scheduler == "cron":
        return "/etc/cron.d"
    if not own:
        return "/etc/systemd/system"
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", "systemd", "user")
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)

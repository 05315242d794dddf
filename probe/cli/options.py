"""Options that several commands share, and what they mean as values."""

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

from probe.addresses import is_connectable
from probe.destinations import Endpoint
from probe.errors import UserError
from probe.judge import FAIL_ON
from probe.model import Destination, Transport
from probe.policies.patterns import domain_pattern
from probe.report import Report
from probe.timing import MOST_TRIES
from reports import FORMATS, SUFFIXES

F = TypeVar("F", bound=Callable[..., Any])
MOST_RANDOM = 256
SLOWEST = 0.1
MOST_HOPS = 30  # a walk goes no farther


def stack(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in this order."""

    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


class Finite(click.FloatRange):
    """A number that is one: not nan, not inf."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number that can be used.", param, ctx)
        return number


class Rate(Finite):
    """Packets per second: 0 for no cap, or at least one in ten seconds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if 0 < number < SLOWEST:
            self.fail(f"{number:g} is slower than {SLOWEST}; 0 means no cap.", param, ctx)
        return number


policy_options = stack(
    click.option("--policy", "policies", multiple=True, metavar="FILE", help="A declared policy; several are layers."),
    click.option("--dialect", metavar="NAME", help="Force the dialect: native, openclaw, clawpinch, docker."),
    click.option(
        "--agent",
        metavar="ID",
        help="Judge this OpenClaw agent's sandbox, or this compose service.",
    ),
)

scenario_options = stack(
    click.option("--scenario", "scenarios", multiple=True, metavar="ID", help="Only these (default: all)."),
    click.option("--control", "controls", multiple=True, metavar="HOST:PORT[/udp]",
                 help="An allowed destination that must work."),
    click.option("--witness", "witnesses", multiple=True, metavar="HOST:PORT[/udp]",
                 help="A denied destination that is known to answer when it can be reached."),
    click.option("--zone", metavar="DOMAIN", help='Your zone with a record *.DOMAIN TXT "egress-probe".'),
    click.option("--random-public", type=click.IntRange(0, MOST_RANDOM), default=0, metavar="N",
                 help=f"Also try N random public addresses (at most {MOST_RANDOM})."),
    click.option("--seed", default="", help="Seed of random addresses and of the jitter."),
    click.option("--deadline", type=Finite(0.05, 60), metavar="SECONDS",
                 help="For one try (default: measured)."),
    click.option("--rate", type=Rate(0), default=200.0, show_default=True,
                 help="Packets per second; 0 = no cap."),
    click.option("--tries", type=click.IntRange(1, 10), default=MOST_TRIES, show_default=True,
                 help="Of each address, at most; the controls' answers decide."),
    click.option("--walk/--no-walk", default=True, show_default=True,
                 help="Walk to destinations hop by hop, to see who accepts, refuses or drops."),
    click.option("--scan-signature", is_flag=True,
                 help="Raw SYNs as egress validators are known to send them: DF clear, window 3."),
    click.option("--collector", metavar="URL",
                 help="Your far end, as `egress-probe collector serve` prints it: it says what really arrived."),
    click.option("--resolver", "resolvers", multiple=True, metavar="ADDRESS",
                 help="Also ask this DNS resolver, as a skill may name one of its own."),
    click.option("--vpc-resolver", is_flag=True,
                 help="Also ask the DNS resolver of AWS networks (169.254.169.253)."),
    click.option("--boundary", metavar="HOP|CIDR",
                 help="Where enforcement is expected to end: what a router there answers has left."),
    click.option("--concurrency", type=click.IntRange(0), default=0, help="Addresses at the same time; 0 = no cap."),
    click.option("--plan-out", metavar="FILE", help="Write the plan as JSON."),
)  # fmt: skip

report_options = stack(
    click.option("--format", "form", default="table", show_default=True, metavar="NAME",
                 help=f"On stdout: {', '.join(FORMATS)}."),
    click.option("-o", "--output", "outputs", multiple=True, metavar="FILE",
                 help=f"Also write FILE; its suffix decides: {' '.join(SUFFIXES)}"),
)  # fmt: skip

output_options = stack(
    report_options,
    click.option("--fail-on", type=click.Choice(FAIL_ON), default="unproven",
                 show_default=True, help="What makes the exit code non-zero."),
)  # fmt: skip


def endpoint(text: str, option: str) -> Endpoint:
    """`HOST:PORT`, `[v6]:PORT`, with `/udp` or `/tcp`. Raises UserError."""
    from ipaddress import ip_address

    where, _, protocol = text.partition("/")
    host, _, port = where.rpartition(":")
    if protocol not in ("", "tcp", "udp") or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise UserError(f"{option} {text}: expected HOST:PORT, [IPV6]:PORT, or either with /udp")
    transport = Transport(protocol or "tcp")
    bare = host.removeprefix("[").removesuffix("]")
    try:
        address = str(ip_address(bare))
    except ValueError:
        name = domain_pattern(host, f"{option} {text}")
        if name.startswith("*."):
            raise UserError(f"{option} {text}: a wildcard names no host") from None
        return Endpoint(Destination(name, None, int(port)), transport)
    if not is_connectable(address):
        raise UserError(f"{option} {text}: a multicast, broadcast or link-local address cannot be tried")
    if (":" in address) != host.startswith("["):
        raise UserError(f"{option} {text}: expected HOST:PORT, or [IPV6]:PORT with brackets")
    return Endpoint(Destination(None, address, int(port)), transport)


def resolver(text: str) -> str:
    """The address of a resolver that may be asked. Raises UserError."""
    from ipaddress import ip_address

    try:
        address = str(ip_address(text))
    except ValueError:
        raise UserError(f"--resolver {text}: expected an IPv4 or IPv6 address") from None
    if not is_connectable(address):
        raise UserError(f"--resolver {text}: a multicast, broadcast or link-local address cannot be tried")
    return address


def boundary(text: str) -> str:
    """A hop's number (1 is the next hop), or a network. Raises UserError."""
    from ipaddress import ip_network

    if text.isascii() and text.isdigit():
        if not 1 <= int(text) <= MOST_HOPS:
            raise UserError(f"--boundary {text}: expected a hop from 1 to {MOST_HOPS}, or a network")
        return str(int(text))
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise UserError(
            f"--boundary {text}: expected a hop's number or a network such as 10.0.0.0/8 ({error})"
        ) from None


def check_formats(form: str, outputs: tuple[str, ...]) -> None:
    """Every format is known. Raises UserError."""
    if form not in FORMATS:
        raise UserError(f"--format {form}: unknown format (known: {', '.join(FORMATS)})")
    for path in outputs:
        if Path(path).suffix not in SUFFIXES:
            raise UserError(f"-o {path}: unknown suffix (known: {' '.join(SUFFIXES)})")


def check_outputs(form: str, outputs: tuple[str, ...]) -> None:
    """Before anything is sent: every format is known, every file can be written. Raises UserError."""
    check_formats(form, outputs)
    for path in outputs:
        check_writable(path)


def check_writable(path: str) -> None:
    """Raises UserError where a file cannot be made there."""
    folder = Path(path).parent
    if not folder.is_dir():
        raise UserError(f"{path}: no such folder: {folder}")
    if Path(path).is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{path}: cannot be written")


def print_report(report: Report, form: str, outputs: tuple[str, ...]) -> int:
    """On stdout and into files; gives the exit code."""
    from probe.files import write_text
    from reports.style import Style

    # First to stdout: a disk that is full must not cost the report.
    print_out(FORMATS[form](report, style()))
    for path in outputs:
        write_text(path, FORMATS[SUFFIXES[Path(path).suffix]](report, Style()))
    return report.summary.exit_code


def print_out(text: str) -> None:
    """On stdout. A reader that left (`| head`) has what it wanted. Raises UserError where it cannot be written."""
    try:
        click.echo(text, nl=False)
        sys.stdout.flush()
    except BrokenPipeError:
        point_nowhere(sys.stdout)
    except OSError as error:
        point_nowhere(sys.stdout)
        raise UserError(f"standard output: cannot be written: {error.strerror}") from None


def point_nowhere(stream: TextIO) -> None:
    """Python must not say at its end that it could not say something, and exit with 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def style() -> Any:
    """Colour only on a terminal, and not where NO_COLOR is set (https://no-color.org)."""
    from reports.style import Style

    return Style(colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))

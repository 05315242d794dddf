"""`egress-probe collector`: the far end that proves arrival."""

import os
from pathlib import Path

import click

from probe.errors import UserError


@click.group(short_help="The far end that proves arrival.")
def collector() -> None:
    """The far end: what arrives here left the sandbox, whatever the inside says.

    \b
    Examples:
      egress-probe collector serve --zone exfil.example --address 203.0.113.53
    """


class Ports(click.ParamType["tuple[int, ...]"]):
    """`53,80,443`: ports, each once."""

    name = "ports"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        words = [word for word in str(value).split(",") if word]
        if not all(word.isascii() and word.isdigit() and len(word) < 6 and 1 <= int(word) <= 65535 for word in words):
            self.fail(f"{value!r}: expected ports from 1 to 65535, such as 53,80,443.", param, ctx)
        return tuple(dict.fromkeys(map(int, words)))


_PORT = click.IntRange(1, 65535)


@collector.command()
@click.option("--zone", required=True, metavar="DOMAIN", help="The zone that is delegated to this collector.")
@click.option(
    "--address",
    "addresses",
    multiple=True,
    required=True,
    metavar="ADDRESS",
    help="Where clients reach it; the zone's own names point there.",
)
@click.option("--listen", multiple=True, metavar="ADDRESS", help="Listen on this address only (default: on all).")
@click.option(
    "--tcp",
    type=Ports(),
    default="53,80,443,853,4444",
    show_default=True,
    metavar="PORTS",
    help="TCP ports for tokens.",
)
@click.option(
    "--udp", type=Ports(), default="53,443,4444", show_default=True, metavar="PORTS", help="UDP ports for tokens."
)
@click.option(
    "--dns-port",
    type=_PORT,
    default=53,
    show_default=True,
    help="Listen there instead of on 53, which a firewall redirects to it.",
)
@click.option(
    "--all-tcp",
    type=_PORT,
    metavar="PORT",
    help="Listen there too: a firewall of yours redirects all other TCP ports to it.",
)
@click.option(
    "--says-tcp",
    type=Ports(),
    default="",
    metavar="PORTS",
    help="TCP ports that clients may ask for (default: those that are listened on).",
)
@click.option("--says-udp", type=Ports(), default="", metavar="PORTS", help="The same of UDP.")
@click.option("--api", default="8443", show_default=True, metavar="[ADDRESS:]PORT", help="The controllers' HTTPS API.")
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Certificate, secrets and arrivals (default: $XDG_STATE_HOME/egress-probe/collector).",
)
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A certificate of your own (PEM), with --key (default: one is made).",
)
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="Its private key.")
@click.option(
    "--keep-days",
    type=click.FloatRange(0.01, 3650),
    default=7.0,
    show_default=True,
    help="How long a run's arrivals are kept.",
)
@click.option("--most-mb", type=click.IntRange(1, 1 << 20), default=1024, show_default=True,
              help="The database's largest size.")  # fmt: skip
def serve(
    zone: str,
    addresses: tuple[str, ...],
    listen: tuple[str, ...],
    tcp: tuple[int, ...],
    udp: tuple[int, ...],
    dns_port: int,
    all_tcp: int | None,
    says_tcp: tuple[int, ...],
    says_udp: tuple[int, ...],
    api: str,
    state: Path | None,
    certificate: Path | None,
    key: Path | None,
    keep_days: float,
    most_mb: int,
) -> int:
    """Answer for a delegated zone and on ports of your own, and remember which tokens arrived.

    Prints the URL for `--collector`, where the bearer token lies, and `ready`. SIGTERM ends it. It needs no root: ports
    below 1024 may come from systemd (socket activation; the API's socket is named `api`) or a firewall's redirection.

    \b
    Examples:
      egress-probe collector serve --zone exfil.example --address 203.0.113.53
      egress-probe collector serve --zone exfil.example --address 203.0.113.53 \\
        --address 2001:db8:53::53 --dns-port 5353 --tcp 8080 --udp 4444 --says-tcp 53,80
      egress-probe collector serve --zone exfil.example --address 203.0.113.53 --all-tcp 9999

    Exit codes: 0 stopped by a signal, 2 usage or configuration.
    """
    from probe.collector.serve import serve as run
    from probe.collector.settings import Settings

    where, port = _api(api)
    settings = Settings(
        zone=zone,
        addresses=addresses,
        state=state or _state(),
        listen=listen,
        tcp=tcp,
        udp=udp,
        dns_port=dns_port,
        all_tcp=all_tcp,
        says_tcp=says_tcp,
        says_udp=says_udp,
        api_address=where,
        api_port=port,
        certificate=certificate,
        key=key,
        keep_days=keep_days,
        most_mb=most_mb,
    )
    run(settings, click.echo, lambda line: click.echo(f"egress-probe: {line}", err=True))
    return 0


def _api(text: str) -> tuple[str | None, int]:
    """`8443`, `192.0.2.1:8443`, `[2001:db8::1]:8443`. Raises UserError."""
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or len(port) > 5 or not 1 <= int(port) <= 65535:
        raise UserError(f"--api {text}: expected PORT, ADDRESS:PORT or [IPV6]:PORT")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise UserError(f"--api {text}: expected [IPV6]:PORT with brackets")
    return host.removeprefix("[").removesuffix("]") or None, int(port)


def _state() -> Path:
    """The XDG base directory specification's place for what outlives a process."""
    base = os.environ.get("XDG_STATE_HOME", "")
    # A relative path there is invalid, the specification says.
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "egress-probe" / "collector"

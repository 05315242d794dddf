"""A world: what enforces, what is declared, and the truth (truth.py). TOML → World, strictly."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

from probe.codec import DecodeError, decode, parse_toml
from probe.errors import UserError
from probe.lab.truth import Truth, differences
from probe.report import Report


@dataclass(frozen=True, slots=True)
class PolicyText:
    """The policy that the sandbox declares, as a file would hold it."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Run:
    """The operator's part."""

    scenarios: tuple[str, ...] = ()
    control: tuple[str, ...] = ()
    witness: tuple[str, ...] = ()
    zone: str | None = None
    resolver: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`link`: the wire to the gateway exists; `next_hop`: where the default route leads. `nft`, `ip`: as in Router.

    `confine`: what holds the agent itself, in the words of probe/lab/confine.py.
    """

    link: bool = True
    next_hop: Literal["gateway", "nobody", "none"] = "gateway"
    nft: str = ""
    ip: tuple[str, ...] = ()
    confine: tuple[str, ...] = ()
    nameserver: tuple[str, ...] = ()  # of /etc/resolv.conf; none: the gateway


@dataclass(frozen=True, slots=True)
class Router:
    """`nft`: its rules; `ip`: arguments of ip(8), one command each; `sysctl`: `name=value`, set after the rules."""

    nft: str = ""
    ip: tuple[str, ...] = ()
    sysctl: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DnsFile:
    """A file that a server's configuration names as `{folder}/NAME`."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class DnsServer:
    """A real server with a configuration in its own language. Places: those of probe/lab/servers.py.

    `ready`: what it says when all of that is in force, where this comes apart from its being up.
    """

    server: Literal["unbound", "bind", "dnsmasq"]
    config: str
    ready: str = ""
    file: tuple[DnsFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Gateway(Router):
    """The first router. `forward`: it passes packets on; `listener`: a server of its own, for what rules turn to it.

    `resolver`: unbound, for all names or for some; `dns`: a resolver of the world's own. `proxy`: squid's text of
    configuration, and the agent is told of it.
    """

    dns: DnsServer | None = None
    proxy: str = ""

    forward: bool = True
    listener: bool = False
    resolver: Literal["none", "open", "refuse"] = "none"
    resolver_allows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    """An address or network of the internet that behaves in a way of its own.

    `closed`: nobody listens, and its kernel says so; `drop`: its own firewall drops; `mute`: it accepts and never
    speaks; `reset`: it accepts, and resets when it is spoken to. Every other address waits for the client and answers.
    """

    address: str
    does: Literal["closed", "drop", "mute", "reset"]


@dataclass(frozen=True, slots=True)
class Internet:
    """Hosts that differ from the rest of the internet, which answers everything.

    `collector`: our own far end is there, with real DNS above it: a root that delegates, and a public resolver.
    """

    host: tuple[Host, ...] = ()
    collector: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """One world file."""

    id: str
    title: str
    shows: str
    exit_code: int
    policy: PolicyText
    truth: tuple[Truth, ...]
    run: Run = Run()
    sandbox: Sandbox = Sandbox()
    gateway: Gateway = Gateway()
    middle: Router | None = None  # a second router, between gateway and internet
    internet: Internet = Internet()


# Worlds that show one way to enforce each, and what they share.
KIND = "kind-"
_BASES = "bases"


def world_names() -> list[str]:
    """The ids of our worlds, sorted, those of one enforcement each at the end."""
    files = resources.files("scenarios").joinpath("worlds").iterdir()
    names = (file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))
    return sorted(names, key=lambda name: (name.startswith(KIND), name))


def load_world(name: str) -> World:
    """A world by id. Raises UserError for one that does not exist."""
    if name not in world_names():
        raise UserError(f"lab {name}: unknown world (egress-probe lab --list)")
    text = resources.files("scenarios").joinpath("worlds", f"{name}.toml").read_text(encoding="utf-8")
    return parse_world(f"{name}.toml", text)


def parse_world(path: str, text: str) -> World:
    """The world in `text`. Raises UserError that names file and key."""
    try:
        world = decode(World, _based(parse_toml(text, path)))
    except DecodeError as error:
        raise UserError(f"{path}: {error}") from None
    if path.rsplit("/", 1)[-1] != f"{world.id}.toml":
        raise UserError(f"{path}: id: {world.id!r} is not the file's name")
    return world


def _based(table: Mapping[str, Any]) -> dict[str, Any]:
    """`table` on its base, if it names one: its keys replace the base's, its truths come before them."""
    own = {key: value for key, value in table.items() if key != "base"}
    if "base" not in table:
        return own
    path = resources.files("scenarios").joinpath("worlds", _BASES, f"{table['base']}.toml")
    if "/" in str(table["base"]) or not path.is_file():
        raise DecodeError("base", f"{table['base']!r} is no file of scenarios/worlds/{_BASES}")
    base = parse_toml(path.read_text(encoding="utf-8"), f"{table['base']}.toml")
    return {**base, **own, "truth": [*own.get("truth", ()), *base.get("truth", ())]}


def misses(world: World, report: Report) -> list[str]:
    """Where the report differs from the world's truth, one plain line each."""
    found = differences(world.truth, report)
    found += [f"damaged evidence: {problem}" for problem in report.problems]
    if report.summary.exit_code != world.exit_code:
        found.append(f"exit code {report.summary.exit_code}, but the truth is {world.exit_code}")
    return found

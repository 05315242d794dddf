"""One world, played: build it, start the internet and the resolver, run the agent in the sandbox, judge."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from probe import latch
from probe.codec import encode
from probe.documents import Collector, FarEnd, Plan
from probe.errors import UserError
from probe.evidence import Reader
from probe.farclient import Client, parse_url, wait_and_read
from probe.judge import judge
from probe.lab.namespaces import SCRATCH, bind_mount, enter, inside
from probe.lab.reach import show_ports
from probe.lab.servers import PROXY_PORT, collector, gateway_dns, internet_servers, places, program, server, write
from probe.lab.topology import GATEWAY, INTERNET, Networks, build
from probe.lab.world import World
from probe.model import Policy
from probe.orders import make_orders
from probe.policies import Context, parse_policy
from probe.run import run_process
from probe.techniques.proxy_connect import VARIABLES
from probe.tokens import new_key

AGENT: Sequence[str] = (sys.executable, "-I", "-m", "probe.agent")
SERVER: Sequence[str] = (sys.executable, "-I", "-m", "probe.lab.internet")


@dataclass(frozen=True, slots=True)
class Stage:
    """A world that is up. `far`: its collector, and a client of the collector's."""

    networks: Networks
    far: tuple[Collector, Client] | None = None


def agent(world: World) -> Sequence[str]:
    """The agent's command line, behind the launcher that confines it where the world says so."""
    words = world.sandbox.confine
    return (sys.executable, "-I", "-m", "probe.lab.confine", *words, "--", *AGENT) if words else AGENT


def _own_proxy(world: World) -> None:
    """The sandbox's proxy is the world's; what is configured for whoever plays the world is none of it."""
    for name in VARIABLES:
        os.environ.pop(name, None)
    if world.gateway.proxy:
        os.environ["HTTPS_PROXY"] = f"http://{GATEWAY[0]}:{PROXY_PORT}"


def parse(world: World) -> tuple[Policy, ...]:
    """The world's policies. Raises UserError."""

    def read(path: str) -> str:
        raise UserError(f"{path}: a world's policy stands alone")

    return parse_policy(world.policy.name, world.policy.text, Context(read, {}))


def play(world: World, make_plan: Callable[[tuple[Policy, ...], Collector | None], Plan]) -> Any:
    """The world's report as plain JSON. Runs inside namespaces.in_isolation(); `make_plan` runs in the sandbox."""
    with (
        tempfile.TemporaryDirectory(prefix="egress-probe-lab-", dir=SCRATCH) as folder,
        serving(world, Path(folder)) as stage,
    ):
        enter(stage.networks.sandbox)
        _own_proxy(world)
        plan = make_plan(parse(world), stage.far[0] if stage.far else None)
        key, reader = new_key(), Reader(plan)
        if stage.far:
            with inside(stage.networks.internet):
                stage.far[1].register(plan.run_id, key, plan.budget.seconds + 60)
        orders = make_orders(plan, key, latch.from_environment(os.environ))
        reader.explain(trio.run(run_process, agent(world), orders, reader.feed).problem())
        return encode(judge(plan, reader.done(), far=_arrivals(stage, key)))


def _arrivals(stage: Stage, key: bytes) -> FarEnd | None:
    """What the collector saw: asked from outside, where no world's rules are."""
    if stage.far is None:
        return None
    with inside(stage.networks.internet):
        return wait_and_read(stage.far[1], key)


@contextmanager
def serving(world: World, folder: Path) -> Iterator[Stage]:
    """The world, built, with its internet and its resolver up."""
    with ExitStack() as stack:
        networks = build(world)
        stack.enter_context(server(networks.internet, SERVER, ("ready",)))
        far = stack.enter_context(_far_end(networks, folder)) if world.internet.collector else None
        if world.gateway.listener:
            stack.enter_context(server(networks.gateway, SERVER, ("ready",)))
        if world.gateway.resolver != "none":
            config = folder / "gateway.conf"
            config.write_text(unbound_config(world), encoding="ascii")
            stack.enter_context(program("unbound", networks.gateway, config))
        if world.gateway.dns is not None:
            stack.enter_context(gateway_dns(networks.gateway, folder, world.gateway.dns))
        if world.gateway.proxy:
            config = write(folder, "squid.conf", world.gateway.proxy, places(folder))
            stack.enter_context(program("squid", networks.gateway, config))
        _resolv_conf(folder, world.sandbox.nameserver or GATEWAY[:1])
        yield Stage(networks, far)


@contextmanager
def _far_end(networks: Networks, folder: Path) -> Iterator[tuple[Collector, Client]]:
    """The collector, with real DNS above it, and all of its ports shown to be reachable from outside."""
    with internet_servers(networks.internet, folder), collector(networks.internet, folder) as (url, bearer):
        address, far = parse_url(url)
        assert far is not None
        client = Client(address, bearer)
        with inside(networks.gateway):  # from there it is another's address; and no world's rules for the sandbox apply
            show_ports(far, client)
        yield far, client


def unbound_config(world: World) -> str:
    """The gateway's resolver: forwards to the internet, all names or only the ones that the world allows."""
    zones = ['  local-zone: "." refuse'] if world.gateway.resolver == "refuse" else []
    zones += [f'  local-zone: "{name}." transparent' for name in world.gateway.resolver_allows]
    return "\n".join(
        [
            "server:",
            *(f"  interface: {address}" for address in GATEWAY),
            "  access-control: 0.0.0.0/0 allow",
            "  access-control: ::0/0 allow",
            '  username: ""',
            '  chroot: ""',
            '  pidfile: ""',
            '  directory: "/"',
            "  use-syslog: no",
            "  verbosity: 1",
            "  num-threads: 1",
            '  module-config: "iterator"',
            "  do-daemonize: no",
            *zones,
            "forward-zone:",
            '  name: "."',
            f"  forward-addr: {INTERNET[0]}",
            "remote-control:",
            "  control-enable: no",
            "",
        ]
    )


def _resolv_conf(folder: Path, servers: Sequence[str]) -> None:
    """What the sandbox is told to ask, whether or not a resolver runs there."""
    if not os.path.exists("/etc/resolv.conf"):
        raise UserError("lab: /etc/resolv.conf is missing, so that a resolver cannot be declared")
    source = folder / "resolv.conf"
    source.write_text("".join(f"nameserver {server}\n" for server in servers), encoding="ascii")
    bind_mount(str(source), "/etc/resolv.conf")

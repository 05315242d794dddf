"""One world, played: build it, start the internet and the resolver, run the agent in the sandbox, judge."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import trio

from probe import latch
from probe.codec import encode
from probe.documents import Plan
from probe.errors import UserError
from probe.evidence import Reader
from probe.hostfacts import path_with_sbin
from probe.judge import judge
from probe.lab.namespaces import SCRATCH, bind_mount, enter, inside
from probe.lab.topology import GATEWAY, INTERNET, Networks, build
from probe.lab.world import World
from probe.model import Policy
from probe.orders import make_orders
from probe.policies import Context, parse_policy
from probe.run import run_process
from probe.tokens import new_key

AGENT: Sequence[str] = (sys.executable, "-I", "-m", "probe.agent")
SERVER: Sequence[str] = (sys.executable, "-I", "-m", "probe.lab.internet")
_MOST_LINES = 100  # that a server may print before it says that it is ready


def agent(world: World) -> Sequence[str]:
    """The agent's command line, behind the launcher that confines it where the world says so."""
    words = world.sandbox.confine
    return (sys.executable, "-I", "-m", "probe.lab.confine", *words, "--", *AGENT) if words else AGENT


def parse(world: World) -> tuple[Policy, ...]:
    """The world's policies. Raises UserError."""

    def read(path: str) -> str:
        raise UserError(f"{path}: a world's policy stands alone")

    return parse_policy(world.policy.name, world.policy.text, Context(read, {}))


def play(world: World, make_plan: Callable[[tuple[Policy, ...]], Plan]) -> Any:
    """The world's report as plain JSON. Runs inside namespaces.in_isolation(); `make_plan` runs in the sandbox."""
    with (
        tempfile.TemporaryDirectory(prefix="egress-probe-lab-", dir=SCRATCH) as folder,
        serving(world, Path(folder)) as networks,
    ):
        enter(networks.sandbox)
        plan = make_plan(parse(world))
        orders = make_orders(plan, new_key(), latch.from_environment(os.environ))
        reader = Reader(plan)
        trio.run(run_process, agent(world), orders, reader.feed, plan.budget.seconds)
        return encode(judge(plan, reader.done()))


@contextmanager
def serving(world: World, folder: Path) -> Iterator[Networks]:
    """The world, built, with its internet and its resolver up."""
    with ExitStack() as stack:
        networks = build(world)
        stack.enter_context(_server(networks.internet, SERVER, "ready"))
        if world.gateway.listener:
            stack.enter_context(_server(networks.gateway, SERVER, "ready"))
        if world.gateway.resolver != "none":
            config = folder / "unbound.conf"
            config.write_text(unbound_config(world), encoding="ascii")
            stack.enter_context(_server(networks.gateway, ["unbound", "-d", "-c", str(config)], "start of service"))
        _resolv_conf(folder)
        yield networks


@contextmanager
def _server(network: int, command: Sequence[str], ready: str) -> Iterator[None]:
    """A server in `network`, from the moment on when it says that it is ready."""
    environment = {**os.environ, "PATH": path_with_sbin()}
    with inside(network):
        try:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
            )
        except FileNotFoundError:
            raise UserError(f"lab: {command[0]} is not installed (Debian, Ubuntu: apt install {command[0]})") from None
    with process:
        try:
            _await(process, command[0], ready)
            yield
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)


def _await(process: "subprocess.Popen[str]", name: str, ready: str) -> None:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        if ready in line:
            return
        seen.append(line.strip())
        if len(seen) > _MOST_LINES:
            break
    raise UserError(f"lab: {name} did not start: {' '.join(seen[-3:])}")


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


def _resolv_conf(folder: Path) -> None:
    """The sandbox's resolver is the gateway, whether or not one runs there."""
    if not os.path.exists("/etc/resolv.conf"):
        raise UserError("lab: /etc/resolv.conf is missing, so that a resolver cannot be declared")
    source = folder / "resolv.conf"
    source.write_text(f"nameserver {GATEWAY[0]}\n", encoding="ascii")
    bind_mount(str(source), "/etc/resolv.conf")

"""Real DNS servers and proxies in the lab: what they are configured with, and how they are started.

Real: nsd as root, unbound as a public resolver, the project's own collector; and what a world lays over its gateway
(unbound, BIND, dnsmasq, squid), in the product's own language.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from probe.errors import UserError
from probe.hostfacts import path_with_sbin
from probe.lab.namespaces import inside
from probe.lab.rules import COLLECTOR, PUBLIC_RESOLVER, ROOT
from probe.lab.world import DnsServer, World

ZONE = "exfil.example"
PROXY_PORT = 3128
_MOST_LINES = 400  # that a server may print before it says that it is ready

# The root delegates the collector's zone at once, and answers for the lab's own names itself.
_ROOT_ZONE = f"""
$ORIGIN .
$TTL 60
. SOA root.lab. hostmaster.lab. 1 3600 600 86400 60
. NS root.lab.
root.lab. A {ROOT}
*.lab.example. A 203.0.113.10
*.lab.example. AAAA 2001:db8:10::10
{ZONE}. NS ns1.{ZONE}.
ns1.{ZONE}. A {COLLECTOR[0]}
ns1.{ZONE}. AAAA {COLLECTOR[1]}
"""
_HINTS = f"""
. 3600000 NS root.lab.
root.lab. 3600000 A {ROOT}
"""
_NSD = """
server:
  ip-address: {root}
  username: ""
  chroot: ""
  pidfile: ""
  database: ""
  zonelistfile: "{folder}/zone.list"
  xfrdfile: "{folder}/xfrd.state"
  xfrdir: "{folder}"
  zonesdir: "{folder}"
  server-count: 1
remote-control:
  control-enable: no
zone:
  name: "."
  zonefile: "{folder}/root.zone"
"""
# What every unbound here needs, whatever it serves: it runs in the foreground, as whoever it is, and keeps no file.
UNBOUND = """
server:
  username: ""
  chroot: ""
  pidfile: ""
  directory: "/"
  use-syslog: no
  verbosity: 1
  num-threads: 1
  do-daemonize: no
  root-hints: "{folder}/root.hints"
remote-control:
  control-enable: no
"""
_PUBLIC = """
server:
  interface: {public}
  outgoing-interface: {public}
  access-control: 0.0.0.0/0 allow
  module-config: "iterator"
"""


@dataclass(frozen=True, slots=True)
class Program:
    """How a server is started with a configuration file, and the words by which it says that it is ready.

    `insists`: it changes its user where it finds itself root, and cannot be told not to.
    """

    command: tuple[str, ...]
    ready: str
    package: str
    insists: bool = False


PROGRAMS = {
    "nsd": Program(("nsd", "-d", "-c", "{file}"), "nsd started", "nsd"),
    "unbound": Program(("unbound", "-d", "-c", "{file}"), "start of service", "unbound"),
    "bind": Program(("named", "-g", "-c", "{file}"), "running", "bind9"),
    "dnsmasq": Program(("dnsmasq", "--no-daemon", "-C", "{file}"), "started", "dnsmasq-base"),  # nor changes its user
    "squid": Program(("squid", "-N", "-d", "1", "-f", "{file}"), "Accepting HTTP", "squid", insists=True),
}
# Without root there is nobody but uid 0 to become (user_namespaces(7)): such a server is started as somebody else.
_SOMEBODY = ("unshare", "--user", "--map-user=13", "--map-group=13")


def missing(world: World, path: str | None = None) -> str | None:
    """Why a server of this world cannot be started here (a package is missing), or None. `path`: instead of PATH."""
    gateway, used = world.gateway, ["nsd", "unbound"] if world.internet.collector else []
    used += ["unbound"] if gateway.resolver != "none" else []
    used += [gateway.dns.server] if gateway.dns else []
    used += ["squid"] if gateway.proxy else []
    for name in used:
        program = PROGRAMS[name]
        if shutil.which(program.command[0], path=path or path_with_sbin()) is None:
            return f"{program.command[0]} is not installed (Debian, Ubuntu: apt install {program.package})"
    return None


def write(folder: Path, name: str, text: str, places: Mapping[str, str]) -> Path:
    """A file of a server, its places (`{folder}`, `{root}` …) filled in."""
    for place, value in places.items():
        text = text.replace(f"{{{place}}}", value)
    path = folder / name
    path.write_text(text, encoding="ascii")
    return path


def places(folder: Path) -> dict[str, str]:
    """What a world's configurations may name."""
    return {
        "folder": str(folder),
        "hints": str(folder / "root.hints"),
        "root": ROOT,
        "public": PUBLIC_RESOLVER,
        "collector": COLLECTOR[0],
        "zone": ZONE,
        "port": str(PROXY_PORT),
    }


@contextmanager
def internet_servers(network: int, folder: Path) -> Iterator[None]:
    """The root and the public resolver."""
    known = places(folder)
    write(folder, "root.hints", _HINTS, known)
    write(folder, "root.zone", _ROOT_ZONE, known)
    root = write(folder, "nsd.conf", _NSD, known)
    public = write(folder, "public.conf", UNBOUND + _PUBLIC, known)
    with program("nsd", network, root), program("unbound", network, public):
        yield


@contextmanager
def gateway_dns(network: int, folder: Path, wanted: DnsServer) -> Iterator[None]:
    """The world's own resolver."""
    known = places(folder)
    for file in wanted.file:
        write(folder, file.name, file.text, known)
    config = (UNBOUND if wanted.server == "unbound" else "") + wanted.config
    with program(wanted.server, network, write(folder, f"{wanted.server}.conf", config, known), wanted.ready):
        yield


@contextmanager
def program(name: str, network: int, config: Path, also: str = "") -> Iterator[None]:
    """One of PROGRAMS in `network`, from the moment on when it says that it is ready, and has said `also`."""
    known = PROGRAMS[name]
    command = [word.replace("{file}", str(config)) for word in known.command]
    if known.insists and Path("/proc/self/setgroups").read_text(encoding="ascii").strip() == "deny":
        command = [*_SOMEBODY, *command]
    with server(network, command, (known.ready, also), known.package):
        yield


@contextmanager
def collector(network: int, folder: Path) -> Iterator[tuple[str, str]]:
    """Our own far end: its URL, and its bearer token."""
    state = folder / "collector"
    command = [
        sys.executable, "-I", "-m", "probe", "collector", "serve", "--zone", ZONE, "--state", str(state),
        *(word for address in COLLECTOR for word in ("--address", address)),
        # Not everywhere: other servers have port 53 of addresses of their own.
        *(word for address in COLLECTOR for word in ("--listen", address)),
    ]  # fmt: skip
    with server(network, command, ("ready",)) as seen:
        url = next(line for line in seen if line.startswith("https://"))
        yield url.strip(), (state / "bearer-token").read_text(encoding="ascii").strip()


@contextmanager
def server(
    network: int, command: Sequence[str], ready: Sequence[str], package: str | None = None
) -> Iterator[list[str]]:
    """A server in `network`, from the moment on when it has said all of `ready`; what it printed until then."""
    environment = {**os.environ, "PATH": path_with_sbin()}
    with inside(network):
        try:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
            )
        except FileNotFoundError:
            name = package or command[0]
            raise UserError(f"lab: {command[0]} is not installed (Debian, Ubuntu: apt install {name})") from None
    with process:
        try:
            yield _await(process, command[0], ready)
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)


def _await(process: "subprocess.Popen[str]", name: str, ready: Sequence[str]) -> list[str]:
    assert process.stdout is not None
    seen: list[str] = []
    lacking = set(ready)
    for line in process.stdout:
        seen.append(line)
        lacking = {words for words in lacking if words not in line}
        if not lacking:
            # Nobody reads on: a server that logs must not come to stand with a full pipe.
            threading.Thread(target=_drain, args=(process.stdout,), daemon=True).start()
            return seen
        if len(seen) > _MOST_LINES:
            break
    raise UserError(f"lab: {name} did not start: {' '.join(line.strip() for line in seen[-3:])}")


def _drain(stream: object) -> None:
    with suppress(ValueError):  # closed at the end
        for _ in stream:  # type: ignore[attr-defined] # a text stream, which typing knows by no common name
            pass

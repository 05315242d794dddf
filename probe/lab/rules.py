"""What a world lays over the wires: nftables rulesets, ip(8) commands, sysctls. Text from the world's file → kernel."""

import os
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_network

from probe.errors import UserError
from probe.hostfacts import path_with_sbin
from probe.lab.world import Internet

# Ports of the internet's own servers; every other port is redirected to them.
TCP_PORT, UDP_PORT, MUTE_PORT, RESET_PORT, DNS_PORT = 9000, 9001, 9002, 9003, 9053

# Where a collector and real DNS are, on the ports of their own.
COLLECTOR = ("203.0.113.53", "2001:db8:53::53")
ROOT, PUBLIC_RESOLVER = "203.0.113.4", "198.51.100.53"
REAL = (*COLLECTOR, ROOT, PUBLIC_RESOLVER)
_LINES = "\n    "

# What a host does instead of answering: where its packets go.
_DOES = {
    "closed": "accept",  # not redirected: nobody listens there, and the kernel itself says so
    "drop": "drop",
    "mute": f"redirect to :{MUTE_PORT}",
    "reset": f"redirect to :{RESET_PORT}",
}

_INTERNET = f"""
table inet internet {{{{
  chain prerouting {{{{
    type nat hook prerouting priority dstnat; policy accept;
    {{hosts}}
    tcp dport != 53 redirect to :{TCP_PORT}
    tcp dport 53 redirect to :{DNS_PORT}
    udp dport != 53 redirect to :{UDP_PORT}
    udp dport 53 redirect to :{DNS_PORT}
  }}}}
}}}}
"""


def internet_rules(internet: Internet) -> str:
    """The internet's nftables ruleset: every packet to one of its servers, less the hosts that differ."""
    lines = [f"{_to(address)} accept" for address in REAL if internet.collector]
    lines += [f"{_to(host.address)} meta l4proto {{ tcp, udp }} {_DOES[host.does]}" for host in internet.host]
    return _INTERNET.format(hosts=_LINES.join(lines))


def _to(address: str) -> str:
    return f"ip{'6' if ip_network(address).version == 6 else ''} daddr {address}"


def load_rules(text: str, where: str) -> None:
    """Load an nftables ruleset into the namespace that this process is in. Raises UserError."""
    if text.strip():
        _run(["nft", "-f", "-"], text, "nftables", where)


def run_ip(commands: Iterable[str], where: str) -> None:
    """Run ip(8), command by command, in the namespace that this process is in. Raises UserError."""
    for command in commands:
        _run(["ip", *shlex.split(command)], "", "iproute2", where)


def set_sysctls(values: Mapping[str, str]) -> None:
    """Set kernel parameters, named by their path under /proc/sys, of the namespace that this process is in."""
    for name, value in values.items():
        with open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
            file.write(value)


def _run(command: Sequence[str], text: str, package: str, where: str) -> None:
    environment = {**os.environ, "PATH": path_with_sbin()}
    name = command[0]
    try:
        done = subprocess.run(command, input=text, text=True, capture_output=True, check=False, env=environment)
    except FileNotFoundError:
        raise UserError(f"lab: {name} is not installed (Debian, Ubuntu: apt install {package})") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise UserError(f"{where}: {name}: {said[0] if said else 'refused'}")

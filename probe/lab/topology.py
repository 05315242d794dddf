"""The wires: sandbox — gateway — internet, with IPv4 and IPv6, and an internet that answers for every address.

Pairs of veth are made inside the namespaces, so nothing ever appears outside. Duplicate address detection is off: the
first seconds of a world are measured too.
"""

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from pyroute2 import IPRoute

from probe.errors import UserError
from probe.hostfacts import path_with_sbin
from probe.lab.namespaces import inside, new_network
from probe.lab.world import World

SANDBOX = ("10.99.0.2", "fd99::2")
GATEWAY = ("10.99.0.1", "fd99::1")
GATEWAY_OUT = ("10.98.0.1", "fd98::1")
INTERNET = ("10.98.0.2", "fd98::2")
_NEXT_HOP = {"gateway": GATEWAY, "nobody": ("10.99.0.9", "fd99::9"), "none": ()}
_PREFIX = {"10.99.0": 24, "10.98.0": 24, "fd99:": 64, "fd98:": 64}
_IFA_F_NODAD = 0x02
_RTN_LOCAL = 2

# Ports of the internet's own servers; every other port is redirected to them.
TCP_PORT, UDP_PORT, DNS_PORT = 9000, 9001, 53

_INTERNET_NFT = f"""
table inet internet {{
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    tcp dport != {DNS_PORT} redirect to :{TCP_PORT}
    tcp dport {DNS_PORT} redirect to :{DNS_PORT}
    udp dport != {DNS_PORT} redirect to :{UDP_PORT}
    udp dport {DNS_PORT} redirect to :{DNS_PORT}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Networks:
    """The three namespaces, as file descriptors."""

    sandbox: int
    gateway: int
    internet: int


def build(world: World) -> Networks:
    """The wired namespaces, with the world's rules loaded. Raises UserError where nft is missing or refuses them."""
    networks = Networks(new_network(), new_network(), new_network())
    for network in (networks.sandbox, networks.gateway, networks.internet):
        with inside(network):
            _quiet_kernel()
    _wire(networks, world)
    _route_internet(networks)
    with inside(networks.gateway):
        _sysctls(
            {
                f"net/{family}": str(int(world.gateway.forward))
                for family in ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
            }
        )
        load_rules(world.gateway.nft, f"{world.id}.toml: gateway.nft")
    with inside(networks.internet):
        load_rules(_INTERNET_NFT, "lab")
    with inside(networks.sandbox):
        load_rules(world.sandbox.nft, f"{world.id}.toml: sandbox.nft")
    return networks


def _quiet_kernel() -> None:
    with IPRoute() as route:
        route.link("set", index=1, state="up")
    _sysctls({f"net/ipv6/conf/{which}/accept_dad": "0" for which in ("default", "all")})


def _sysctls(values: dict[str, str]) -> None:
    for name, value in values.items():
        with open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
            file.write(value)


def _wire(networks: Networks, world: World) -> None:
    _pair(networks.gateway, "out", GATEWAY_OUT, networks.internet, INTERNET)
    _default_route(networks.gateway, INTERNET)
    if world.sandbox.link:
        _pair(networks.gateway, "in", GATEWAY, networks.sandbox, SANDBOX)
        _default_route(networks.sandbox, _NEXT_HOP[world.sandbox.next_hop])


def _default_route(network: int, routers: Iterable[str]) -> None:
    with inside(network), IPRoute() as route:
        for router in routers:
            route.route("add", dst="::/0" if ":" in router else "0.0.0.0/0", gateway=router)


def _pair(near: int, name: str, near_addresses: Iterable[str], far: int, far_addresses: Iterable[str]) -> None:
    with inside(near), IPRoute() as route:
        route.link("add", ifname=name, kind="veth", peer={"ifname": "eth0", "net_ns_fd": far})
    _bring_up(near, name, near_addresses)
    _bring_up(far, "eth0", far_addresses)


def _bring_up(network: int, name: str, addresses: Iterable[str]) -> None:
    with inside(network), IPRoute() as route:
        index = route.link_lookup(ifname=name)[0]
        for address in addresses:
            prefix = next(bits for start, bits in _PREFIX.items() if address.startswith(start))
            flags = {"flags": _IFA_F_NODAD} if ":" in address else {}
            route.addr("add", index=index, address=address, prefixlen=prefix, **flags)
        route.link("set", index=index, state="up")


def _route_internet(networks: Networks) -> None:
    """The internet takes every address for its own, and still finds the way back to the sandbox."""
    with inside(networks.internet), IPRoute() as route:
        eth0 = route.link_lookup(ifname="eth0")[0]
        route.route("add", dst="10.99.0.0/24", gateway=GATEWAY_OUT[0], table=50)
        route.route("add", dst="10.98.0.1/32", oif=eth0, table=50, scope="link")
        route.rule("add", priority=100, table=50)
        # The way back is looked up before "everything is local": rule 0 makes room for that.
        route.rule("add", priority=300, table=255)
        route.rule("del", priority=0, table=255)
        route.route("add", dst="0.0.0.0/0", oif=1, type=_RTN_LOCAL, table=255, scope="host")
        route.route("add", dst="fd99::/64", gateway=GATEWAY_OUT[1])
        route.route("add", dst="::/0", oif=1, type=_RTN_LOCAL, table=100)
        route.rule("add", priority=40000, table=100, family=10)


def load_rules(text: str, where: str) -> None:
    """Load an nftables ruleset into the namespace that this process is in."""
    if not text.strip():
        return
    environment = {**os.environ, "PATH": path_with_sbin()}
    try:
        done = subprocess.run(
            ["nft", "-f", "-"], input=text, text=True, capture_output=True, check=False, env=environment
        )
    except FileNotFoundError:
        raise UserError("lab: nft is not installed (Debian, Ubuntu: apt install nftables)") from None
    if done.returncode:
        raise UserError(f"{where}: nft: {done.stderr.strip().splitlines()[0] if done.stderr.strip() else 'refused'}")

"""The wires: sandbox — gateway — internet, with IPv4 and IPv6, and an internet that answers for every address.

A world may have a second router between gateway and internet. Pairs of veth are made inside the namespaces, so nothing
ever appears outside. Duplicate address detection is off: the first seconds of a world are measured too.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pyroute2 import IPRoute

from probe.lab.namespaces import inside, new_network
from probe.lab.rules import REAL, internet_rules, load_rules, run_ip, set_sysctls
from probe.lab.world import Router, World

SANDBOX = ("10.99.0.2", "fd99::2")
GATEWAY = ("10.99.0.1", "fd99::1")
GATEWAY_OUT = ("10.98.0.1", "fd98::1")
INTERNET = ("10.98.0.2", "fd98::2")
# Where there is a second router, it has GATEWAY_OUT, and these lie between the two.
_BETWEEN = ("10.97.0.1", "fd97::1"), ("10.97.0.2", "fd97::2")
_NEXT_HOP = {"gateway": GATEWAY, "nobody": ("10.99.0.9", "fd99::9"), "none": ()}
_PREFIX = {".": 24, ":": 64}
_IFA_F_NODAD = 0x02
_RTN_LOCAL = 2


@dataclass(frozen=True, slots=True)
class Networks:
    """The namespaces, as file descriptors."""

    sandbox: int
    gateway: int
    internet: int
    middle: int | None = None


def build(world: World) -> Networks:
    """The wired namespaces, with the world's rules loaded. Raises UserError where nft or ip are missing or refuse."""
    middle = None if world.middle is None else new_network()
    networks = Networks(new_network(), new_network(), new_network(), middle)
    for network in (networks.sandbox, networks.gateway, networks.internet, middle):
        if network is not None:
            with inside(network):
                _quiet_kernel()
    _wire(networks, world)
    _route_internet(networks)
    _route(networks.gateway, world.gateway, f"{world.id}.toml: gateway", world.gateway.forward)
    if networks.middle is not None and world.middle is not None:
        _route(networks.middle, world.middle, f"{world.id}.toml: middle")
    with inside(networks.internet):
        load_rules(internet_rules(world.internet), f"{world.id}.toml: internet")
        _own([host.address for host in world.internet.host if host.does == "closed"])
        _own(REAL if world.internet.collector else ())
    with inside(networks.sandbox):
        load_rules(world.sandbox.nft, f"{world.id}.toml: sandbox.nft")
        run_ip(world.sandbox.ip, f"{world.id}.toml: sandbox.ip")
    return networks


def _own(addresses: Iterable[str]) -> None:
    """Give this namespace addresses that are really its own: "everything is local" is not enough for some things.

    A kernel signs its ICMPv6 errors, and lets a server answer over IPv6/UDP, with such an address only.
    """
    with IPRoute() as route:
        for address in addresses:
            route.addr("add", index=1, address=address, prefixlen=128 if ":" in address else 32)


def _route(network: int, router: Router, where: str, forward: bool = True) -> None:
    with inside(network):
        set_sysctls({name: str(int(forward)) for name in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")})
        load_rules(router.nft, f"{where}.nft")
        set_sysctls(dict(line.replace(".", "/").split("=", 1) for line in router.sysctl))
        run_ip(router.ip, f"{where}.ip")


def _quiet_kernel() -> None:
    with IPRoute() as route:
        route.link("set", index=1, state="up")
    set_sysctls({f"net/ipv6/conf/{which}/accept_dad": "0" for which in ("default", "all")})


def _wire(networks: Networks, world: World) -> None:
    last = networks.gateway
    if networks.middle is not None:
        last = networks.middle
        _pair(networks.gateway, "out", _BETWEEN[0], last, _BETWEEN[1], "in")
        _default_route(networks.gateway, _BETWEEN[1])
        with inside(last), IPRoute() as route:
            route.route("add", dst="10.99.0.0/24", gateway=_BETWEEN[0][0])
            route.route("add", dst="fd99::/64", gateway=_BETWEEN[0][1])
    _pair(last, "out", GATEWAY_OUT, networks.internet, INTERNET)
    _default_route(last, INTERNET)
    if world.sandbox.link:
        _pair(networks.gateway, "in", GATEWAY, networks.sandbox, SANDBOX)
        _default_route(networks.sandbox, _NEXT_HOP[world.sandbox.next_hop])


def _default_route(network: int, routers: Iterable[str]) -> None:
    with inside(network), IPRoute() as route:
        for router in routers:
            route.route("add", dst="::/0" if ":" in router else "0.0.0.0/0", gateway=router)


def _pair(
    near: int, name: str, near_addresses: Iterable[str], far: int, far_addresses: Iterable[str], peer: str = "eth0"
) -> None:
    with inside(near), IPRoute() as route:
        route.link("add", ifname=name, kind="veth", peer={"ifname": peer, "net_ns_fd": far})
    _bring_up(near, name, near_addresses)
    _bring_up(far, peer, far_addresses)


def _bring_up(network: int, name: str, addresses: Iterable[str]) -> None:
    with inside(network), IPRoute() as route:
        index = route.link_lookup(ifname=name)[0]
        for address in addresses:
            prefix = next(bits for sign, bits in _PREFIX.items() if sign in address)
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

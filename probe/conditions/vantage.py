"""What the place is like that the agent ran in. What differs from run to run by nature is not told."""

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from probe.conditions.nouns import STARTED, THERE, About, Said, short
from probe.documents import Vantage
from probe.errors import one_line
from probe.report import Report

_MOST = 64  # things of one kind that a place has; an honest agent tells no more


def say(report: Report) -> Iterator[Said]:
    """Nothing, where the agent told nothing."""
    if report.run.vantage is not None:
        yield from _vantage(report.run.vantage)
        yield Said(STARTED, one_line(report.run.via or "in place"), About("started"))


def _vantage(seen: Vantage) -> Iterator[Said]:
    """Things of which there may be several have a key each; the others have one."""
    several = {
        "capability": seen.capabilities,
        "unix socket": seen.sockets,
        "refused socket": seen.refused_sockets,
    }
    for name, values in several.items():
        for value in values[:_MOST]:
            yield Said(f"vantage:{name} {short(value)}", THERE, About(f"{name} {short(value)}"))
    one = {
        "user id": str(seen.uid),
        "no_new_privs": _flag(seen.no_new_privs),
        "seccomp": seen.seccomp or "unknown",
        "container": seen.container or "none",
        # Not the network namespace: launchers make one per run, and the kernel uses their numbers again.
        "container id": seen.container_id or "unknown",
        "IPv4": _global(seen, 4),
        "IPv6": _global(seen, 6),
        # Together: on a host that starts containers, single ones come and go with every run.
        "interfaces": ", ".join(sorted(seen.interfaces)) or "none",
        "resolvers": ", ".join(seen.resolvers) or "none",
        "proxies": ", ".join(seen.proxies) or "none",
        "event loop": "cannot start" if seen.event_loop else "starts",
    }
    for name, value in one.items():
        yield Said(f"vantage:{name}", short(value), About(name))


def _flag(value: bool | None) -> str:
    return {True: "on", False: "off", None: "unknown"}[value]


def _global(seen: Vantage, version: int) -> str:
    """Whether the place has an address of this family that leads somewhere, and a default route for it."""
    found = [a for a in map(_address, seen.addresses) if a is not None and a.version == version]
    found = [a for a in found if not (a.ip.is_loopback or a.ip.is_link_local)]
    routes = [line.split() for line in seen.routes if line.startswith("default ")]
    routed = any((":" in words[2]) == (version == 6) for words in routes if len(words) > 2 and words[1] == "via")
    return ("address" if found else "no address") + (" and default route" if routed else "")


def _address(line: str) -> IPv4Interface | IPv6Interface | None:
    """Of `eth0 10.0.0.2/24`. The inside may say anything."""
    try:
        return ip_interface(line.split(" ")[-1])
    except ValueError:
        return None

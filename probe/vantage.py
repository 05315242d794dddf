"""What the agent can say of the place that it runs in: unprivileged and read-only, from /proc.

Not from /sys: bubblewrap and others leave the host's there.
"""

import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Callable

from probe.documents import Vantage

# linux/capability.h, in order of their bits.
_CAPABILITIES = (
    "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service "
    "net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin "
    "sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override "
    "mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore"
).split()
_SECCOMP = {"0": "disabled", "1": "strict", "2": "filter"}
_CONTAINERS = {"/.dockerenv": "docker", "/run/.containerenv": "podman"}

# A route to a device that is wider than this (a default route, a tunnel's 0.0.0.0/1) says nothing of who is near.
_NEAR = {4: 8, 6: 32}

Read = Callable[[str], str | None]


def look(read: Read | None = None) -> Vantage:
    """The facts; each is None or empty where /proc does not tell."""
    read = read or _read
    status = dict(line.split(":", 1) for line in (read("/proc/self/status") or "").splitlines() if ":" in line)
    return Vantage(
        executable=sys.executable or "",
        uid=os.getuid(),
        capabilities=_capabilities(status.get("CapEff", "0").strip()),
        interfaces=_interfaces(),
        no_new_privs=_flag(status.get("NoNewPrivs")),
        seccomp=_SECCOMP.get(status.get("Seccomp", "").strip()),
        container=next((name for path, name in _CONTAINERS.items() if os.path.exists(path)), None),
        on_link=on_link(read("/proc/net/route"), read("/proc/net/ipv6_route")),
    )


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(1024 * 1024)
    except OSError:
        return None


def _flag(text: str | None) -> bool | None:
    return None if text is None else text.strip() == "1"


def _capabilities(text: str) -> tuple[str, ...]:
    try:
        bits = int(text, 16)
    except ValueError:
        return ()
    return tuple(name for bit, name in enumerate(_CAPABILITIES) if bits >> bit & 1)


def _interfaces() -> tuple[str, ...]:
    try:
        return tuple(name for _, name in socket.if_nameindex())
    except OSError:
        return ()


def on_link(route: str | None, ipv6_route: str | None) -> tuple[str, ...] | None:
    """Networks reached without a router, from /proc/net/route and /proc/net/ipv6_route. None: it cannot be known."""
    if route is None:  # a kernel without IPv6 has no ipv6_route
        return None
    found = [net for line in (route or "").splitlines()[1:] if (net := _v4(line.split()))]
    found += [net for line in (ipv6_route or "").splitlines() if (net := _v6(line.split()))]
    return tuple(dict.fromkeys(found))


def _v4(words: list[str]) -> str | None:
    if len(words) < 8 or int(words[2], 16) != 0:
        return None
    address, mask = (struct.pack("=I", int(words[place], 16)) for place in (1, 7))
    net = ipaddress.ip_network((address, _bits(mask)))
    return str(net) if net.prefixlen >= _NEAR[4] else None


def _bits(mask: bytes) -> int:
    return bin(int.from_bytes(mask, "big")).count("1")


def _v6(words: list[str]) -> str | None:
    # Flag 0x0200 (RTF_REJECT) is an unreachable route; a next hop is a router; lo's own are no network.
    if len(words) < 10 or int(words[8], 16) & 0x0200 or words[9] == "lo" or int(words[4], 16):
        return None
    prefix = int(words[1], 16)
    net = ipaddress.ip_network((bytes.fromhex(words[0]), prefix))
    return str(net) if prefix >= _NEAR[6] and not net.is_multicast else None


def tentative(read: Read | None = None) -> bool:
    """Whether an IPv6 address is still in duplicate address detection: a connect would fail for that reason alone."""
    text = (read or _read)("/proc/net/if_inet6") or ""
    rows = [line.split() for line in text.splitlines()]
    return any(len(row) > 4 and int(row[4], 16) & 0x40 for row in rows)  # IFA_F_TENTATIVE

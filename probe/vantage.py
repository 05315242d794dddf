"""What the agent can say of the place that it runs in: unprivileged and read-only, nothing is sent."""

import errno
import os
import socket
import sys
from collections.abc import Iterator, Mapping

from probe import latch, netlink, place, surroundings
from probe.documents import Vantage
from probe.rtnetlink import Message
from probe.sockets import FAMILY, os_error
from probe.surroundings import Read

# linux/capability.h, in order of their bits.
_CAPABILITIES = (
    "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service "
    "net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin "
    "sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override "
    "mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore"
).split()
_SECCOMP = {"0": "disabled", "1": "strict", "2": "filter"}
# linux/if_addr.h: being checked for duplicates. An address that failed the check stays so; nobody waits for that.
_TENTATIVE, _FAILED = 0x40, 0x08


def look(read: Read | None = None, environ: Mapping[str, str] | None = None, ask: netlink.Ask | None = None) -> Vantage:
    """The facts; each is None or empty where it cannot be known. `read` alone: only what those files tell."""
    ask = ask or (netlink.ask if read is None else _nothing)
    read = read or _read
    environ = os.environ if environ is None else environ
    status = dict(line.split(":", 1) for line in (read("/proc/self/status") or "").splitlines() if ":" in line)
    seccomp = _SECCOMP.get(status.get("Seccomp", "").strip())
    ways = surroundings.ways(read, ask)
    return Vantage(
        executable=surroundings.printable(sys.executable or "", 4096),
        uid=os.getuid(),
        capabilities=_capabilities(status.get("CapEff", "0").strip()),
        interfaces=surroundings.interfaces(read, ask),
        no_new_privs=_flag(status.get("NoNewPrivs")),
        seccomp=seccomp,
        container=place.container(read, environ),
        container_id=place.container_id(read),
        on_link=None if ways is None else surroundings.near(ways),
        # Only where it is certain that no filter stands in the way: one may end the whole process for a call that it
        # does not know, and the fact is not worth the run. A `seccomp` that cannot be read is not certain.
        landlock_abi=landlock_abi() if seccomp == "disabled" else None,
        routes=surroundings.routes(ways or ()),
        addresses=surroundings.addresses(read, ask),
        resolvers=place.resolvers(read("/etc/resolv.conf")),
        proxies=place.proxies(environ),
        sockets=place.unix_sockets(environ, os.getuid()),
        netns=latch.own_namespace(),
        refused_sockets=tuple(_refused_sockets()),
    )


def _refused_sockets() -> Iterator[str]:
    """A socket of each family and kind is made and closed: nothing is sent."""
    for name, kind in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)):
        for version, family in FAMILY.items():
            try:
                socket.socket(family, kind).close()
            except OSError as error:
                yield f"{name} over IPv{version}: {os_error(error)}"


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(1024 * 1024)
    except OSError:
        return None


def _nothing(request: bytes) -> tuple[Message, ...] | None:  # noqa: ARG001 - has the form of netlink.ask
    return None


def _flag(text: str | None) -> bool | None:
    return None if text is None else text.strip() == "1"


def _capabilities(text: str) -> tuple[str, ...]:
    try:
        bits = int(text, 16)
    except ValueError:
        return ()
    return tuple(name for bit, name in enumerate(_CAPABILITIES) if bits >> bit & 1)


def on_link(route: str | None, ipv6_route: str | None) -> tuple[str, ...] | None:
    """Networks reached without a router, from /proc/net/route and /proc/net/ipv6_route. None: it cannot be known."""
    found = surroundings.parse_routes(route, ipv6_route)
    return None if found is None else surroundings.near(found)


def tentative(read: Read | None = None, ask: netlink.Ask | None = None) -> bool:
    """Whether an IPv6 address is still in duplicate address detection: a connect would fail for that reason alone."""
    found = netlink.addresses(ask or (netlink.ask if read is None else _nothing))
    if found is not None:
        flags = [one.flags for one in found]
    else:
        flags = [row.flags for row in surroundings.parse_if_inet6((read or _read)("/proc/net/if_inet6"))]
    return any(word & (_TENTATIVE | _FAILED) == _TENTATIVE for word in flags)


_CREATE_RULESET = 444  # landlock_create_ruleset(2); the same number on all architectures that Python runs on but alpha
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION: makes no ruleset, only tells


def landlock_abi() -> int | None:
    """Landlock's ABI version, 0 where the kernel has none (ENOSYS) or it is off (EOPNOTSUPP); None where refused."""
    if sys.platform != "linux" or os.uname().machine == "alpha":
        return None
    try:
        import ctypes
    except ImportError:  # an interpreter without libffi
        return None
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    version: int = call(ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    if version >= 0:
        return version
    return 0 if ctypes.get_errno() in (errno.ENOSYS, errno.EOPNOTSUPP) else None

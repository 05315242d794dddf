"""How strict a unit may be and still tell the truth: tables of options, by how the agent is started.

- `place`: the unit is part of the sandbox that is observed. An option that blocks a path would be measured as the
  policy's work. Options that act through a seccomp filter block no path, but the report's vantage would show it.
- `child`: below a launcher the agent inherits all of it, and the launcher needs its own rights.
- `client`: docker, kubectl, ssh only ask a daemon elsewhere for the agent. They can be shut in as any program can.
"""

import os.path
from collections.abc import Iterator
from typing import Final, Literal

from probe.units.job import Checked
from probe.units.quoting import systemd_word

Kind = Literal["place", "child", "client"]

# openclaw is no client: its engine may be podman, whose containers are its children.
_CLIENTS: Final = frozenset(("docker", "docker-image", "kubectl", "ssh"))

# About six times what was measured: in place 84 MB and 7 tasks; below Codex 152 MB and 24, below gVisor 33 tasks.
_BOUNDS: Final[dict[Kind, tuple[str, ...]]] = {
    "place": ("MemoryMax=512M", "TasksMax=64"),
    "child": ("MemoryMax=1G", "TasksMax=256"),
    "client": ("MemoryMax=512M", "TasksMax=128"),
}
_ALWAYS: Final = ("UMask=0077", "LimitCORE=0", "Nice=5")

# They need a mount namespace, which only the system's manager makes without PrivateUsers=. A read-only mount keeps
# nobody from a unix socket.
_MOUNTS: Final[dict[Kind, tuple[str, ...]]] = {
    # As ProtectKernelTunables= and ProtectControlGroups=, without the filter that the first one brings along.
    "place": ("ProtectSystem=strict", "ProtectHome=read-only", "ReadOnlyPaths=/proc/sys /sys"),
    "child": ("ProtectSystem=full",),
    "client": (
        "ProtectSystem=strict",
        "ProtectHome=read-only",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "ProtectKernelTunables=yes",
        "ProtectControlGroups=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectHostname=yes",
        "ProtectClock=yes",
    ),
}
# What a user's own manager can do too.
_CALLS: Final[dict[Kind, tuple[str, ...]]] = {
    "place": ("NoNewPrivileges=yes",),
    "child": (),
    "client": (
        "NoNewPrivileges=yes",
        "LockPersonality=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "RestrictNamespaces=yes",
        "SystemCallArchitectures=native",
    ),
}

_NETWORK: Final = (
    "# Left out, each would block paths itself, and the sandbox would look tighter than it is:",
    "# - PrivateNetwork=, NetworkNamespacePath=, JoinsNamespaceOf=: another network, not the one to be observed",
    "# - RestrictAddressFamilies=: sockets that the policy may allow; netlink, which tells the routes",
    "# - IPAddressDeny=, IPEgressFilterPath=, SocketBindDeny=, RestrictNetworkInterfaces=: they are an egress policy",
    "# - SystemCallFilter=, SystemCallArchitectures=: calls fail as they do under a sandbox's own filter",
    "# - CapabilityBoundingSet=, AmbientCapabilities=, PrivateUsers=: raw SYNs are tried only with CAP_NET_RAW",
    "# - PrivateTmp=, ProtectHome=yes, InaccessiblePaths=: unix sockets there would be out of reach",
    "# - ProtectProc=, ProcSubset=: what /proc tells of the network and of the container would be missing",
)
# Each of them brings a system call filter along (tests/units/test_real_systemd.py).
_FILTERS: Final = (
    "# - LockPersonality=, RestrictRealtime=, RestrictSUIDSGID=, RestrictNamespaces=, ProtectHostname=, ProtectClock=,",
    "#   ProtectKernelModules=, ProtectKernelLogs=, ProtectKernelTunables=, PrivateDevices=, MemoryDenyWriteExecute=",
)
_LEFT_OUT: Final[dict[Kind, tuple[str, ...]]] = {
    "place": (
        *_NETWORK,
        "# Left out, the report would show the unit's seccomp filter as the sandbox's (and not ask for Landlock):",
        *_FILTERS,
        "# NoNewPrivileges= is shown too, but no probe runs a setuid program: what is found stays the same.",
    ),
    "child": (
        *_NETWORK,
        "# Left out, the sandbox below would inherit the seccomp filter, and the report show it as the sandbox's:",
        *_FILTERS,
        "# Left out, launchers could not start their sandbox:",
        "# - NoNewPrivileges=: firejail, newuidmap (podman without root) and the bubblewrap of some systems are setuid",
        "# - ProtectKernelTunables=, ProtectKernelLogs=: the kernel refuses a new /proc in a user namespace while",
        "#   parts of the old one are covered (bubblewrap, podman without root)",
        "# - ProtectControlGroups=: podman makes control groups",
        "# - ProtectSystem=strict, ProtectHome=: srt, Codex, gVisor, ip netns, podman write to /tmp, /run, /var, home",
        "# - MemoryDenyWriteExecute=: srt, Codex and gVisor make code while they run",
    ),
    "client": (
        "# The agent runs elsewhere: nothing here is measured. RestrictAddressFamilies=, IPAddressDeny= and",
        "# SystemCallFilter= are left to you: they must leave the ways to the daemon, the collector and alerts.",
    ),
}


def kind_of(via: str | None) -> Kind:
    """`via`: a target, or any other launcher; None: in place. A launcher that is not known keeps all of its rights."""
    if via is None:
        return "place"
    return "client" if via.partition(":")[0] in _CLIENTS else "child"


def hardening(job: Checked) -> Iterator[str]:
    """The lines for the unit's [Service], with a comment for what is missing."""
    kind = kind_of(job.via)
    yield from (*_ALWAYS, *_BOUNDS[kind], *_CALLS[kind])
    if job.own:
        yield "# Read-only mounts need the system's manager, or PrivateUsers=, which would change whose network it is."
    else:
        yield from _MOUNTS[kind]
        yield from (f"ReadWritePaths={systemd_word(f'-{folder}')}" for folder in _folders(job))
    yield from _LEFT_OUT[kind]


def _folders(job: Checked) -> list[str]:
    """Files are replaced as a whole, so their folders must be writable."""
    return sorted({os.path.dirname(path) for path in job.writes})

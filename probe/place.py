"""Signs of what surrounds this process: resolvers, proxies, container, unix sockets that are there.

Read from files and variables, never by a connect. Variables are shown redacted; all texts are bounded printable ASCII.
"""

import ipaddress
import os
import re
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress

from probe.surroundings import MOST, Read, printable

Exists = Callable[[str], bool]

# --- resolvers --------------------------------------------------------------------------------------------------------


def resolvers(text: str | None) -> tuple[str, ...]:
    """Name servers of resolv.conf(5), in order; what is no address is left out."""
    found = []
    for words in map(str.split, (text or "").splitlines()):
        if len(words) > 1 and words[0] == "nameserver":
            with suppress(ValueError):
                found.append(printable(str(ipaddress.ip_address(words[1]))))
    return tuple(dict.fromkeys(found))[:MOST]


# --- proxies ----------------------------------------------------------------------------------------------------------

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,15})://")
_HOST = re.compile(r"(?:([A-Za-z0-9._-]{1,253})|\[([0-9A-Fa-f:.]{2,45})\])(:[0-9]{1,5})?")


def proxies(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Proxy variables that are set: `HTTPS_PROXY=http://host:3128`, `NO_PROXY=2 entries`.

    User name and password become `…@`; path and query are left out; what is no plain URL is `…`.
    """
    found = [f"{name}={redacted(environ[name])}" for name in _both_cases(_PROXIES) if environ.get(name)]
    for name in _both_cases(("NO_PROXY",)):
        count = sum(1 for entry in environ.get(name, "").split(",") if entry.strip())
        found += [f"{name}={count} {'entry' if count == 1 else 'entries'}"] if count else []
    return tuple(found)


def _both_cases(names: tuple[str, ...]) -> list[str]:
    return [form for name in names for form in (name, name.lower())]


def redacted(url: str) -> str:
    """Scheme, host and port of a proxy's URL; nothing of it that may be a secret."""
    scheme = _SCHEME.match(url)
    rest = url[scheme.end() :] if scheme else url
    shown = scheme[0].lower() if scheme else ""
    # A password may hold an unescaped `/`, a path an `@`: where the one cannot be told from the other, neither is told.
    authority, _, tail = rest.partition(next((char for char in rest if char in "/?#\\"), "/"))
    secret, at, place = authority.rpartition("@")
    host = _HOST.fullmatch(place)
    if "@" in tail or host is None or (at and not secret):
        return f"{shown}…"
    return shown + ("…@" if at else "") + place


# --- container --------------------------------------------------------------------------------------------------------

_FILES = {"/.dockerenv": "docker", "/run/.containerenv": "podman", "/.flatpak-info": "flatpak"}
# The first process of a PID namespace (proc(5), /proc/pid/comm).
_FIRST = {"bwrap": "bubblewrap", "firejail": "firejail", "docker-init": "docker", "systemd-nspawn": "systemd-nspawn"}
# Folders in the path of a control group, by the engine that makes them.
_GROUPS = {"kubepods": "kubernetes", "libpod": "podman", "docker": "docker", "lxc": "lxc"}
# What gVisor's /proc/version says, whatever the host's kernel is (its older releases: a fixed date).
_GVISOR = re.compile(r"gvisor|Linux version 4\.4\.0 #1 SMP Sun Jan 10 15:06:54 PST 2016", re.IGNORECASE)
_WORD = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}")


def container(read: Read, environ: Mapping[str, str], exists: Exists = os.path.exists) -> str | None:
    """The kind of container that signs itself here; None where nothing does, which proves nothing.

    The kernel's word first, then engines' marker files, `$container` (systemd's container interface), the first
    process, control groups.
    """
    if _GVISOR.search(read("/proc/version") or ""):
        return "gvisor"
    for path, name in _FILES.items():
        if exists(path):
            return name
    if _WORD.fullmatch(environ.get("container", "")):
        return environ["container"]
    first = (read("/proc/1/comm") or "").strip()
    return _FIRST.get(first) or _by_group((read("/proc/1/cgroup") or "") + (read("/proc/self/cgroup") or ""))


def _by_group(text: str) -> str | None:
    # `docker.service` and `lxcfs` are a host's own: a word counts as a whole folder or before an id or a slice's end.
    for word, name in _GROUPS.items():
        if re.search(rf"/{word}(?:/|\.slice|\.payload|-|_|$)", text, re.MULTILINE):
            return name
    return None


# Docker and podman bind a file of the container's own folder to /etc/hostname; control groups carry the id elsewhere.
_ID = re.compile(r"[/-](?:containers|overlay-containers|libpod|docker|crio|containerd)[/-]([0-9a-f]{64})\b")
_POD = re.compile(r"/kubepods\S*?/(?:cri-containerd-|crio-)?([0-9a-f]{64})\b")


def container_id(read: Read) -> str | None:
    """The first twelve digits of this container's id, as engines show it; None where no path tells it."""
    for path in ("/proc/self/mountinfo", "/proc/self/cgroup", "/proc/1/cgroup"):
        text = read(path) or ""
        # Only the mount of this container's own /etc/hostname: a host's table has those of all of its containers.
        if path.endswith("mountinfo"):
            text = "\n".join(line for line in text.splitlines() if line.split(" ")[4:5] == ["/etc/hostname"])
        if found := _ID.search(text) or _POD.search(text):
            return found[1][:12]
    return None


# --- unix sockets -----------------------------------------------------------------------------------------------------

# Each is a way out: an engine or a bus that acts for whoever connects, a name service, a display.
_SOCKETS = tuple(
    """
    /var/run/docker.sock /run/docker.sock /run/user/{uid}/docker.sock
    /run/podman/podman.sock /run/user/{uid}/podman/podman.sock
    /run/containerd/containerd.sock /run/crio/crio.sock /run/buildkit/buildkitd.sock
    /var/run/nscd/socket /run/systemd/resolve/io.systemd.Resolve /run/avahi-daemon/socket
    /run/dbus/system_bus_socket /run/user/{uid}/bus /run/systemd/private /run/snapd.socket
    /run/libvirt/libvirt-sock /dev/lxd/sock /dev/incus/sock /var/run/tailscale/tailscaled.sock
    /tmp/.X11-unix/X0 /run/user/{uid}/wayland-0
    """.split()
)


def unix_sockets(environ: Mapping[str, str], uid: int) -> tuple[str, ...]:
    """Well-known unix sockets that are there, by stat(2). Of variables only the name is told, not where they lead."""
    places = {path.format(uid=uid): path.format(uid=uid) for path in _SOCKETS}
    if environ.get("SSH_AUTH_SOCK"):
        places["SSH_AUTH_SOCK"] = environ["SSH_AUTH_SOCK"]
    if environ.get("XDG_RUNTIME_DIR"):
        places["XDG_RUNTIME_DIR/bus"] = f"{environ['XDG_RUNTIME_DIR']}/bus"
    found: dict[tuple[int, int], str] = {}
    for name, path in places.items():
        with suppress(OSError, ValueError):
            seen = os.stat(path)
            if stat.S_ISSOCK(seen.st_mode):
                found.setdefault((seen.st_dev, seen.st_ino), name)  # /var/run is /run on most systems
    return tuple(found.values())

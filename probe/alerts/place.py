"""The value of an option whose URL is a secret: the URL itself, or a private file that holds it. Nothing is sent here.

A webhook's path, query and user are as good as a password: whatever is said of it has the host alone.
"""

import os
import re
import stat
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from probe.alerts.proxying import basic
from probe.errors import UserError

_MOST = 64 * 1024
_LONGEST_URL = 4096
_PORTS = {"https": 443, "http": 80}
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*|[0-9a-f.]*:[0-9a-f:.]{1,45}")
_BEARER = re.compile(r"Bearer ([\x21-\x7e]{1,4096})")  # RFC 6750, and what servers hand out beyond it


@dataclass(frozen=True, slots=True, repr=False)
class Place:
    """Where to POST. `target` (path and query) and `authorization` (the header's value) are secrets: no repr."""

    scheme: str
    host: str
    port: int
    target: str
    authorization: str | None

    @property
    def plain(self) -> bool:
        """Without TLS: it is this host itself."""
        return self.scheme == "http"

    @property
    def authority(self) -> str:
        """What the header Host says (RFC 9110, 7.2)."""
        return self.host_and_port if self.port != _PORTS[self.scheme] else self._bracketed

    @property
    def host_and_port(self) -> str:
        """HOST:PORT, with an IPv6 address in brackets."""
        return f"{self._bracketed}:{self.port}"

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def place(option: str, value: str) -> Place:
    """The value of `option`. Raises UserError, with the option and no part of the secret."""
    where = option
    url, bearer = value, None
    if value.startswith("@"):
        where = f"{option} {value}"
        url, bearer = _lines(where, _private(where, value[1:]))
    if len(url) > _LONGEST_URL or not re.fullmatch(r"[\x21-\x7e]+", url):
        raise UserError(f"{where}: expected https://… in printable ASCII, or @FILE with that as its first line")
    return _parsed(where, url, bearer)


def _parsed(where: str, url: str, bearer: str | None) -> Place:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its words hold the URL
        raise UserError(f"{where}: not a URL (expected https://…, or @FILE)") from None
    host = parts.hostname or ""
    if parts.scheme not in _PORTS or not _HOST.fullmatch(host) or port == 0:
        raise UserError(f"{where}: not a URL that can be posted to (expected https://…, or @FILE)")
    if parts.scheme == "http" and not _is_this_host(host):
        raise UserError(f"{where}: http:// would show the alert and its secret on the way: expected https://…")
    if bearer and "@" in parts.netloc:
        raise UserError(f"{where}: has a user in its URL and a Bearer token as well: expected one of them")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    port = port or _PORTS[parts.scheme]
    return Place(
        parts.scheme, host, port, target, f"Bearer {bearer}" if bearer else basic(parts.username, parts.password)
    )


def _is_this_host(host: str) -> bool:
    """Addresses alone: what a name leads to is for others to say, `localhost` included."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _lines(where: str, text: str) -> tuple[str, str | None]:
    first, *more = [line.strip() for line in text.splitlines()] or [""]
    second = more[0] if more else ""
    bearer = _BEARER.fullmatch(second)
    if second and not bearer:
        raise UserError(f"{where}: line 2: expected `Bearer TOKEN`, or nothing")
    return first, bearer[1] if bearer else None


def _private(where: str, path: str) -> str:
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            if problem := exposed(found.st_uid, found.st_gid, found.st_mode, (os.getegid(), *os.getgroups())):
                raise UserError(f"{where}: {problem}")
            return file.read(_MOST).decode("utf-8", "replace")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UserError(f"{where}: cannot be read: {getattr(error, 'strerror', None) or 'no file name'}") from None


def exposed(owner: int, group: int, mode: int, groups: Collection[int] = ()) -> str | None:
    """Why a file is not private: another owner, or others may open it. root is no other: it reads everything.

    systemd hands credentials over as root's, mode 440 (LoadCredential=; the bits of the group are the ACL's mask), and
    Kubernetes secrets as root's with a group of the pod's (fsGroup). `groups`: this process's own.
    """
    shared = group == 0 or (owner == 0 and group in groups)
    if owner not in (os.geteuid(), 0):
        return f"belongs to user {owner}, expected {os.geteuid()}, who runs this"
    if stat.S_IMODE(mode) & (0o037 if shared else 0o077):
        return f"others may open it (mode {stat.S_IMODE(mode):o}): chmod 600"
    return None

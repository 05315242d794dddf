"""The HTTP proxy that the environment names, and a tunnel through it (RFC 9110, 9.3.6): it learns host and port."""

from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import h11
import trio

from probe.alerts.base import DeliveryError
from probe.alerts.conversing import ask
from probe.errors import UserError


@dataclass(frozen=True, slots=True, repr=False)
class Proxy:
    """`authorization`: the header's value, a secret."""

    host: str
    port: int
    authorization: str | None


def environment_proxy(option: str, host: str) -> Proxy | None:
    """The proxy for https:// to `host`, read as Python and curl read HTTPS_PROXY, ALL_PROXY and NO_PROXY.

    Raises UserError for one that is not http://HOST[:PORT].
    """
    known = getproxies()
    found = known.get("https") or known.get("all")
    if not found or proxy_bypass(host):
        return None
    try:
        parts = urlsplit(found if "://" in found else f"http://{found}")
        port = parts.port or 80
    except ValueError:
        parts, port = urlsplit(""), 0
    named = parts.hostname or ""
    if parts.scheme != "http" or not named or not named.isascii():  # it is not shown: it may hold a password
        raise UserError(f"{option}: the proxy of HTTPS_PROXY or ALL_PROXY cannot be used (expected http://HOST:PORT)")
    return Proxy(named, port, basic(parts.username, parts.password))


def basic(user: str | None, password: str | None) -> str | None:
    """The Basic credentials of a URL's user and password (RFC 7617); None where there are none."""
    if user is None and password is None:
        return None
    pair = f"{unquote(user or '')}:{unquote(password or '')}"
    return "Basic " + b64encode(pair.encode("utf-8", "surrogateescape")).decode("ascii")


async def tunnel(stream: trio.abc.Stream, proxy: Proxy, authority: str) -> None:
    """Afterwards `stream` leads to `authority` (HOST:PORT). Raises DeliveryError, and what `ask` raises."""
    headers = [("Host", authority)]
    if proxy.authorization:
        headers.append(("Proxy-Authorization", proxy.authorization))
    _, answer = await ask(stream, h11.Request(method="CONNECT", target=authority, headers=headers), b"")
    if not 200 <= answer.status_code < 300:
        raise DeliveryError(f"the proxy answered {answer.status_code}", again=True)

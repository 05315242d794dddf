"""Names as a stub resolver sees them: /etc/hosts first, then A and AAAA from the servers of /etc/resolv.conf, in order.

Our own, because getaddrinfo retries, searches and caches: it would ask for names that the plan does not list. Search
domains are not used. At most four addresses are tried per name.
"""

import ipaddress
import socket
from collections.abc import Iterable

import trio

from probe.addresses import MOST_ADDRESSES, MOST_SERVERS, is_own_business
from probe.documents import Attempt, DnsAnswer
from probe.model import Transport
from probe.techniques.base import Pace

_LOCAL = "127.0.0.1"  # resolv.conf(5): without a nameserver line the local machine is asked


def parse_hosts(text: str) -> dict[str, tuple[str, ...]]:
    """hosts(5): name → addresses, in order."""
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if len(words) > 1 and (address := _address(words[0])):
            for name in words[1:]:
                key = name.lower().removesuffix(".")
                found[key] = (*found.get(key, ()), address)
    return found


def parse_resolv_conf(text: str) -> tuple[str, ...]:
    """resolv.conf(5): the name servers, at most three."""
    words = (line.split() for line in text.splitlines())
    servers = [_server(w[1]) for w in words if len(w) > 1 and w[0] == "nameserver"]
    return tuple(server for server in servers if server)[:MOST_SERVERS] or (_LOCAL,)


def _server(text: str) -> str | None:
    """An address as resolv.conf(5) may have it: the C library takes `127.1` and octal forms too (inet_aton(3))."""
    if (address := _address(text)) is not None:
        return address
    try:
        return socket.inet_ntoa(socket.inet_aton(text))
    except (OSError, UnicodeError):
        return None


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(256 * 1024)
    except OSError:
        return ""


class Names:
    """Looks names up once per run; later rows with the same name get the same attempts."""

    def __init__(self, hosts: str | None = None, resolv_conf: str | None = None) -> None:
        self._hosts = parse_hosts(_read("/etc/hosts") if hosts is None else hosts)
        self.servers = parse_resolv_conf(_read("/etc/resolv.conf") if resolv_conf is None else resolv_conf)
        self._known: dict[str, tuple[tuple[str, ...], list[Attempt]]] = {}
        self._busy: dict[str, trio.Lock] = {}

    async def lookup(self, name: str, pace: Pace, started: float) -> tuple[tuple[str, ...], list[Attempt]]:
        """Addresses (A before AAAA, at most four) and the attempts that gave them, or that say why there is none."""
        key = name.lower().removesuffix(".")
        listed = self.listed(key, trio.current_time() - started)
        if listed is not None:
            return listed
        async with self._busy.setdefault(key, trio.Lock()):
            if key not in self._known:
                self._known[key] = await self._ask(key, pace, started)
            return self._known[key]

    def listed(self, name: str, now: float) -> tuple[tuple[str, ...], list[Attempt]] | None:
        """What the hosts file says of a name (lower case, no final dot); None where it does not have it."""
        listed = self._hosts.get(name)
        if listed is None:
            return None
        usable = tuple(address for address in listed if not is_own_business(address))[:MOST_ADDRESSES]
        if usable:
            return usable, []
        # A blocklist in the hosts file: the same word as a resolver's, and nothing is connected to.
        answer = DnsAnswer(name, "A", "NOERROR", False, False, listed)
        return (), [Attempt(now, 0.0, "resolve", "answered", Transport.UDP, dns=answer)]

    async def _ask(self, name: str, pace: Pace, started: float) -> tuple[tuple[str, ...], list[Attempt]]:
        from probe.techniques.dns_query import ask  # dnspython costs 90 ms, and most orders have no name

        attempts: list[Attempt] = []
        for server in self.servers:
            both: dict[str, Attempt] = {}

            async def one(kind: str, server: str = server, both: dict[str, Attempt] = both) -> None:
                both[kind] = await ask(server, 53, name, kind, Transport.UDP, pace, started, "resolve")

            async with trio.open_nursery() as nursery:
                for kind in ("A", "AAAA"):
                    nursery.start_soon(one, kind)
            attempts += [both["A"], both["AAAA"]]
            # A server that answered is believed, as a stub resolver does; the next one is for silence and errors.
            if any(attempt.dns and attempt.dns.rcode in ("NOERROR", "NXDOMAIN") for attempt in both.values()):
                return spread(attempts), attempts
        return spread(attempts), attempts


def spread(attempts: Iterable[Attempt]) -> tuple[str, ...]:
    """At most four addresses, both families where both are there."""
    by_type: dict[str, list[str]] = {"A": [], "AAAA": []}
    for attempt in attempts:
        if attempt.dns:
            found = [address for text in attempt.dns.records if (address := _address(text))]
            # A sinkhole's address is this very host: a local service there is not the destination. And a resolver
            # must not steer the probe to a metadata service.
            by_type[attempt.dns.type] += [address for address in found if not is_own_business(address)]
    half = MOST_ADDRESSES // 2
    four, six = by_type["A"], by_type["AAAA"]
    take = max(half, MOST_ADDRESSES - len(six))
    return (*four[:take], *six[: MOST_ADDRESSES - len(four[:take])])

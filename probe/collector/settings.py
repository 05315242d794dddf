"""What the operator asked for, checked before anything is opened; and the URL that tells controllers of it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from urllib.parse import urlencode

from probe.collector.listening import Place, places
from probe.documents import Collector
from probe.errors import UserError

TCP = (53, 80, 443, 853, 4444)
UDP = (53, 443, 4444)
DNS = 53
API = 8443
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - a collector is there to be reached
_MOST_PORTS = 32  # in a URL


@dataclass(frozen=True, slots=True)
class Settings:
    """`listen` empty: on every address. `says_tcp`, `says_udp`: what clients may ask for, where a firewall redirects.

    `all_tcp`: a port to which the operator's firewall redirects all others. `dns_port`: listened on in place of 53, to
    which it is redirected, and told as 53.
    """

    zone: str
    addresses: tuple[str, ...]
    state: Path
    listen: tuple[str, ...] = ()
    tcp: tuple[int, ...] = TCP
    udp: tuple[int, ...] = UDP
    dns_port: int = DNS
    all_tcp: int | None = None
    says_tcp: tuple[int, ...] = ()
    says_udp: tuple[int, ...] = ()
    api_address: str | None = None
    api_port: int = API
    certificate: Path | None = None
    key: Path | None = None
    keep_days: float = 7.0
    most_mb: int = 1024


def check(settings: Settings) -> None:
    """Raises UserError for what cannot be served."""
    _check_addresses(settings.addresses)
    for text in settings.listen:
        _address(text, "--listen")
    if settings.api_address is not None:
        _address(settings.api_address, "--api")
    if (settings.certificate is None) != (settings.key is None):
        raise UserError("--certificate and --key: expected both or none")
    if settings.all_tcp in (*settings.tcp, *settings.says_tcp, settings.dns_port):
        # A SYN that the firewall redirected there could not be told from one that asked for it.
        raise UserError(f"--all-tcp: port {settings.all_tcp} is one of those that clients ask for: choose another")
    if settings.api_port in tcp_ports(settings):
        raise UserError(f"--api: port {settings.api_port} is one of those that tokens go to: choose another")
    for option, ports in (("--says-tcp", told_tcp(settings)), ("--says-udp", told_udp(settings))):
        if len(ports) > _MOST_PORTS:
            raise UserError(f"{option}: expected at most {_MOST_PORTS} ports for the URL to tell")


def _check_addresses(texts: Sequence[str]) -> None:
    if not texts:
        raise UserError("--address: expected the address that clients reach this collector at")
    for text in texts:
        if _address(text, "--address").is_unspecified:
            raise UserError(f"--address {text}: expected the address that clients reach, not what is listened on")
    if len({_address(text, "--address").version for text in texts}) < len(set(texts)):
        # What is shown of one address is not shown of another.
        raise UserError("--address: two of one IP version (expected one for IPv4, one for IPv6)")


def _address(text: str, option: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError:
        raise UserError(f"{option} {text}: expected an IPv4 or IPv6 address") from None


def tcp_ports(settings: Settings) -> tuple[int, ...]:
    """The ports that streams are listened on."""
    found = [settings.dns_port if port == DNS else port for port in settings.tcp]
    found += [settings.all_tcp] if settings.all_tcp is not None else []
    return tuple(dict.fromkeys((*found, settings.dns_port)))


def udp_ports(settings: Settings) -> tuple[int, ...]:
    """The ports that datagrams are listened on."""
    found = [settings.dns_port if port == DNS else port for port in settings.udp]
    return tuple(dict.fromkeys((*found, settings.dns_port)))


def told_tcp(settings: Settings, bound: Sequence[int] = ()) -> tuple[int, ...]:
    """What the URL tells. Where everything is redirected: the usual ports, which are enough to show that it is."""
    if settings.says_tcp:
        return settings.says_tcp
    return TCP if settings.all_tcp is not None else _told(settings, bound or tcp_ports(settings))


def told_udp(settings: Settings, bound: Sequence[int] = ()) -> tuple[int, ...]:
    """The same of datagrams."""
    return settings.says_udp or _told(settings, bound or udp_ports(settings))


def _told(settings: Settings, ports: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted({DNS if port == settings.dns_port else port for port in ports}))


def wanted(settings: Settings, ipv6: bool) -> list[Place]:
    """Every place to listen on. `ipv6`: whether this host has it; without, its wildcard is left out."""
    anywhere = EVERYWHERE if ipv6 else EVERYWHERE[:1]
    on = settings.listen or anywhere
    api = (settings.api_address,) if settings.api_address is not None else on
    return [
        *places("tcp", on, tcp_ports(settings)),
        *places("udp", on, udp_ports(settings)),
        *places("api", api, (settings.api_port,)),
    ]


def shown(
    settings: Settings, zone: str, tcp: Sequence[int] = (), udp: Sequence[int] = (), *, api: int = 0
) -> Collector:
    """What controllers are told. `tcp`, `udp`, `api`: ports that are listened on."""
    host = settings.api_address
    if host is None or ip_address(host).is_unspecified:
        host = settings.addresses[0]
    place = Place("api", str(ip_address(host)), api or settings.api_port)
    addresses = tuple(str(ip_address(text)) for text in settings.addresses)
    return Collector(f"https://{place.authority}", zone, addresses, told_tcp(settings, tcp), told_udp(settings, udp))


def url(told: Collector, sha256: str) -> str:
    """What a controller is given: everything that planning needs, and the certificate's fingerprint; no secret."""
    fields = [("zone", told.zone), *(("address", address) for address in told.addresses)]
    fields += [(kind, ",".join(map(str, ports))) for kind, ports in (("tcp", told.tcp), ("udp", told.udp))]
    return f"{told.url}/?{urlencode(fields, safe=':,')}#sha256={sha256}"

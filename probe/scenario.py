"""Scenario files: TOML text → Scenario, strictly. The file's name is its id; expectations are the policy's business."""

import re
from dataclasses import dataclass
from typing import Literal

from probe.codec import DecodeError, decode, parse_toml
from probe.errors import UserError
from probe.model import HttpRequest, Transport

# Techniques whose protocol has no ports, and the generators that name destinations without one.
PORTLESS = frozenset(("icmp_echo",))
_WITHOUT_PORTS = frozenset(("documentation", "documentation-one", "reserved", "witness-hosts"))
# Techniques that ask a DNS question, each by its own transport.
ASKING = frozenset(("dns_query", "dns_over_tls", "dns_over_https"))
# Parents that a run's own zone takes the place of, where there is a collector.
ZONE_PLACE = ".example"
PERMITTED = "permitted"  # the label under which names of the collector's zone are for the operator's allow-list


@dataclass(frozen=True, slots=True)
class QuerySpec:
    """A DNS question; `{token}` in the name becomes the nonce, `{chunks}` as many long labels as fit before it.

    `hops`: the datagram dies there, so that only somebody so near can answer.
    """

    name: str
    type: Literal["TXT", "A", "AAAA", "MX", "NULL", "CNAME", "HTTPS", "SVCB"]
    transport: Transport = Transport.UDP
    klass: Literal["IN", "CH"] = "IN"
    hops: int | None = None


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """One [[check]]: a technique, where to (a generator's name), and its parameters."""

    technique: str
    destinations: str
    proves: str
    ports: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    query: QuerySpec | None = None
    http: HttpRequest | None = None
    early: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """One exfiltration path and where it was seen."""

    id: str
    title: str
    why: str
    source: tuple[str, ...]
    attack: tuple[str, ...]
    check: tuple[CheckSpec, ...]
    # The option without which it is not planned.
    opt_in: Literal["--random-public", "--collector", "--vpc-resolver"] | None = None


def parse_scenario(path: str, text: str, techniques: frozenset[str], generators: frozenset[str]) -> Scenario:
    """The scenario in `text`. Raises UserError that names file and key."""
    try:
        scenario = decode(Scenario, parse_toml(text, path))
    except DecodeError as error:
        raise UserError(f"{path}: {error}") from None
    _check(path, scenario, techniques, generators)
    return scenario


def _check(path: str, scenario: Scenario, techniques: frozenset[str], generators: frozenset[str]) -> None:
    name = path.rsplit("/", 1)[-1]
    if name != f"{scenario.id}.toml":
        raise UserError(f"{path}: id: {scenario.id!r} is not the file's name (expected {name.removesuffix('.toml')!r})")
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", scenario.id):
        raise UserError(f"{path}: id: {scenario.id!r} (expected lower-case words joined by hyphens)")
    for index, attack in enumerate(scenario.attack):
        if not re.fullmatch(r"T\d{4}(\.\d{3})?", attack):
            raise UserError(f"{path}: attack[{index}]: {attack!r} is not a MITRE ATT&CK technique (expected T1048.003)")
    if not scenario.check:
        raise UserError(f"{path}: check: empty (expected at least one [[check]])")
    for index, spec in enumerate(scenario.check):
        _check_spec(f"{path}: check[{index}]", spec, techniques, generators)


def _check_spec(where: str, spec: CheckSpec, techniques: frozenset[str], generators: frozenset[str]) -> None:
    for what, value, known in (
        ("technique", spec.technique, techniques),
        ("destinations", spec.destinations, generators),
    ):
        if value not in known:
            raise UserError(f"{where}.{what}: unknown {value!r} (known: {', '.join(sorted(known))})")
    if (spec.technique in ASKING) != (spec.query is not None):
        raise UserError(f"{where}.query: belongs to {', '.join(sorted(ASKING))}, which need one")
    if spec.query is not None:
        _check_query(where, spec.technique, spec.query)
    _check_ports(where, spec)
    for place, name in enumerate(spec.names):
        if not re.fullmatch(r"(\{token\}|[a-z0-9-]+)(\.[a-z0-9-]+)*\.(invalid|example)", name):
            raise UserError(f"{where}.names[{place}]: {name!r} (expected a name under .invalid or .example)")


def _check_query(where: str, technique: str, query: QuerySpec) -> None:
    if query.transport is Transport.UDP and technique != "dns_query":
        raise UserError(f"{where}.query.transport: {technique} goes over tcp")
    if query.hops is not None and not (1 <= query.hops <= 255 and query.transport is Transport.UDP):
        raise UserError(f"{where}.query.hops: {query.hops} (expected 1 to 255, over udp)")
    if not re.fullmatch(r"(\{chunks\}\.)?(\{token\}|[a-z0-9_-]+)(\.[a-z0-9-]+)*", query.name):
        raise UserError(f"{where}.query.name: {query.name!r} (expected labels, one of them {{token}} perhaps)")


def _check_ports(where: str, spec: CheckSpec) -> None:
    portless = spec.technique in PORTLESS
    if portless and spec.ports:
        raise UserError(f"{where}.ports: {spec.technique} has no ports")
    if portless and spec.destinations not in _WITHOUT_PORTS:
        expected = ", ".join(sorted(_WITHOUT_PORTS))
        raise UserError(f"{where}.destinations: {spec.technique} has no ports (expected one of {expected})")
    if not portless and spec.destinations == "witness-hosts":
        raise UserError(f"{where}.destinations: witness-hosts names no port, and {spec.technique} needs one")
    for place, port in enumerate(spec.ports):
        if not 1 <= port <= 65535:
            raise UserError(f"{where}.ports[{place}]: {port} is not a port (expected 1 to 65535)")

"""Destination generators: where a scenario's rows go. The only sources of destinations that a run has.

Built in: documentation and reserved blocks, `.invalid`/`.example` names, the policy's own entries, the operator's
controls and witnesses. Everything else is behind an option of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from probe.addresses import DOCUMENTATION, RESERVED, is_connectable, is_reserved, random_public
from probe.documents import Collector
from probe.model import Action, Channel, Destination, Policy, Purpose, Rule, Transport, Via
from probe.policies.decide import decide
from probe.policies.patterns import single_host
from probe.scenario import PORTLESS, ZONE_PLACE, CheckSpec


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the operator named with --control or --witness."""

    destination: Destination
    transport: Transport = Transport.TCP


@dataclass(frozen=True, slots=True)
class Choices:
    """What the operator chose that decides destinations."""

    controls: tuple[Endpoint, ...] = ()
    witnesses: tuple[Endpoint, ...] = ()
    own_witnesses: bool = True  # the operator named them; false: the one that is used where none is given
    zone: str | None = None  # a zone of the operator's with a wildcard TXT record
    collector: Collector | None = None
    vpc_resolver: bool = False
    resolvers: tuple[str, ...] = ()
    random_public: int = 0
    seed: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """One destination and what is known of it. `skip`: why it cannot be attempted."""

    destination: Destination
    purpose: Purpose = Purpose.POLICY
    answers: bool = False
    skip: str | None = None
    entry: str | None = None  # the policy entry that it stands for
    unreal: bool = False  # a name that we made up: no address for it is real
    forwards: bool = False  # a resolver or a proxy, which may ask the zone's own server


Generator = Callable[[CheckSpec, Sequence[Policy], Choices], Iterator[Target]]

_MOST_PORTS = 16
# The one documentation address of IPv4 that single checks go to.
_ONE_V4 = "198.51.100.44"
# An entry without ports means any port; one is tried, and nobody promises that it answers.
_ANY_PORT = 443
_DNS = 53
# Docker's embedded resolver, and the one of every AWS VPC: addresses that are the same everywhere.
_DOCKER_RESOLVER = "127.0.0.11"
_VPC_RESOLVER = "169.254.169.253"
# The collector's port that is the witness, if it is denied: the one that filters are most likely to know.
_RANK = {443: 0, 80: 1}


def _blocks(table: tuple[tuple[str, str], ...]) -> Generator:
    def generate(spec: CheckSpec, policies: Sequence[Policy], choices: Choices) -> Iterator[Target]:  # noqa: ARG001
        ports: tuple[int | None, ...] = (None,) if spec.technique in PORTLESS else spec.ports
        for _, address in table:
            for port in ports:
                yield Target(Destination(None, address, port))

    return generate


def _names(spec: CheckSpec, policies: Sequence[Policy], choices: Choices) -> Iterator[Target]:  # noqa: ARG001
    for name in spec.names:
        for port in spec.ports:
            yield Target(Destination(name, None, port), unreal=True)


def _endpoints(purpose: Purpose, transport: Transport) -> Generator:
    def generate(spec: CheckSpec, policies: Sequence[Policy], choices: Choices) -> Iterator[Target]:  # noqa: ARG001
        given = choices.controls if purpose is Purpose.CONTROL else choices.witnesses
        for endpoint in given:
            if endpoint.transport is transport and (not spec.ports or endpoint.destination.port in spec.ports):
                yield Target(endpoint.destination, purpose, answers=True)

    return generate


def _witness_ports(spec: CheckSpec, policies: Sequence[Policy], choices: Choices) -> Iterator[Target]:
    """The operator's witnesses on other ports: a filter may stop their own port only."""
    mine = choices.collector.addresses if choices.collector is not None else ()  # it has a generator of its own
    tcp = (e.destination for e in choices.witnesses if e.transport is Transport.TCP and choices.own_witnesses)
    named = [destination for destination in tcp if destination.address not in mine]
    denied = {port for p in policies for rule in p.rules if rule.action is Action.DENY for port in rule.ports}
    seen = set(named)
    for destination in named:
        for port in (*spec.ports, *sorted(denied - set(spec.ports))[:_MOST_PORTS]):
            other = replace(destination, port=port)
            if other not in seen and decide(policies, other, Channel.TCP).action is Action.DENY:
                seen.add(other)
                yield Target(other)


def _witness_hosts(spec: CheckSpec, policies: Sequence[Policy], choices: Choices) -> Iterator[Target]:  # noqa: ARG001
    """The hosts of the operator's witnesses, without a port. That they answer on one says nothing of ICMP."""
    named = choices.witnesses if choices.own_witnesses else ()
    for host, address in dict.fromkeys((e.destination.host, e.destination.address) for e in named):
        yield Target(Destination(host, address, None))


def _v4_mapped(spec: CheckSpec, policies: Sequence[Policy], choices: Choices) -> Iterator[Target]:  # noqa: ARG001
    """IPv4 destinations written as ::ffff:a.b.c.d (RFC 4291 2.5.5.2): an AF_INET6 socket, and packets of IPv4."""
    for port in spec.ports:
        yield Target(Destination(None, f"::ffff:{_ONE_V4}", port))
    for endpoint in choices.witnesses:
        where = endpoint.destination
        if endpoint.transport is Transport.TCP and where.address is not None and ":" not in where.address:
            yield Target(replace(where, address=f"::ffff:{where.address}"), answers=True)


def _declared(transport: Transport) -> Generator:
    def generate(spec: CheckSpec, policies: Sequence[Policy], choices: Choices) -> Iterator[Target]:  # noqa: ARG001
        named = {e.destination.host or e.destination.address for e in (*choices.controls, *choices.witnesses)}
        for policy in policies:
            for rule in policy.rules:
                if (rule.protocol or Transport.TCP) is transport:
                    yield from _entry(rule, named)

    return generate


def _entry(rule: Rule, named: set[str | None]) -> Iterator[Target]:
    host, address, skip = _host_of(rule)
    if skip is not None:
        yield Target(Destination(rule.domain or rule.cidr, None, None), skip=skip, entry=rule.by)
        return
    if not rule.ports and (host or address) in named:
        return  # the operator named this host with its port: that row stands for the entry
    for port in rule.ports or (_ANY_PORT,):
        # Somebody is known to answer only where the policy names host and port, and the address can be somebody's.
        answers = rule.action is Action.ALLOW and bool(rule.ports)
        yield Target(Destination(host, address, port), answers=answers, entry=rule.by)


def _host_of(rule: Rule) -> tuple[str | None, str | None, str | None]:
    """Host, address, or why the entry names no single one."""
    if rule.domain is not None:
        if rule.domain.startswith("*."):
            return None, None, "a wildcard names no host: name one under it with --control or --witness"
        return rule.domain, None, None
    address = single_host(rule.cidr or "0.0.0.0/0")
    if address is None:
        return None, None, "a network names no host: name one in it with --control or --witness"
    if not is_connectable(address):
        return None, None, "a multicast, broadcast or link-local address cannot be tried"
    return None, address, None


def _system_resolver(spec: CheckSpec, policies: Sequence[Policy], choices: Choices) -> Iterator[Target]:  # noqa: ARG001
    yield Target(Destination("system-resolver", None, _DNS), forwards=True)


def _policy_resolvers(spec: CheckSpec, policies: Sequence[Policy], choices: Choices) -> Iterator[Target]:  # noqa: ARG001
    for policy in policies:
        for address in policy.dns.resolvers if policy.dns else ():
            yield Target(Destination(None, address, _DNS), forwards=True)


def _named_resolvers(spec: CheckSpec, policies: Sequence[Policy], choices: Choices) -> Iterator[Target]:  # noqa: ARG001
    """Those that the operator named, as a skill may name one."""
    for address in choices.resolvers:
        yield Target(Destination(None, address, _DNS), forwards=True)


def _fixed_resolver(address: str) -> Generator:
    def generate(spec: CheckSpec, policies: Sequence[Policy], choices: Choices) -> Iterator[Target]:  # noqa: ARG001
        yield Target(Destination(None, address, _DNS), forwards=True)

    return generate


# --- the collector ----------------------------------------------------------------------------------------------------


def with_collector(choices: Choices, policies: Sequence[Policy], collector: Collector) -> Choices:
    """The collector as control where the policy allows it, and one denied port of each address as witness."""
    controls, witnesses = list(choices.controls), list(choices.witnesses)
    for address in collector.addresses:
        for transport, ports in ((Transport.TCP, collector.tcp), (Transport.UDP, collector.udp)):
            denied = True
            for port in sorted(ports, key=lambda port: (_RANK.get(port, len(_RANK)), port)):
                endpoint = Endpoint(Destination(None, address, port), transport)
                if decide(policies, endpoint.destination, Channel(transport.value)).action is Action.ALLOW:
                    controls.append(endpoint)
                elif denied:
                    witnesses.append(endpoint)
                    denied = False
    return replace(choices, collector=collector, controls=tuple(controls), witnesses=tuple(witnesses))


def _collector(transport: Transport) -> Generator:
    """Every port that it says it listens on and that is neither control nor witness."""

    def generate(spec: CheckSpec, policies: Sequence[Policy], choices: Choices) -> Iterator[Target]:  # noqa: ARG001
        far = choices.collector
        ports = () if far is None else far.tcp if transport is Transport.TCP else far.udp
        taken = {(e.destination, e.transport) for e in (*choices.controls, *choices.witnesses)}
        for address in far.addresses if far is not None else ():
            for port in ports:
                destination = Destination(None, address, port)
                if (destination, transport) not in taken:
                    yield Target(destination, answers=True)

    return generate


def _collector_ports(spec: CheckSpec, policies: Sequence[Policy], choices: Choices) -> Iterator[Target]:  # noqa: ARG001
    """The collector on the row's own ports; with a name of its zone as server name, where the row has names."""
    far = choices.collector
    if far is None:
        return
    names: tuple[str | None, ...] = tuple(in_zone(name, far) for name in spec.names) or (None,)
    datagrams = spec.query is not None and spec.query.transport is Transport.UDP
    open_ports = [port for port in spec.ports if port in (far.udp if datagrams else far.tcp)]
    for address, port, name in product(far.addresses, open_ports, names):
        yield Target(Destination(name, address, port), answers=True)


def _through_proxy(spec: CheckSpec, policies: Sequence[Policy], choices: Choices) -> Iterator[Target]:  # noqa: ARG001
    """Names of the collector's zone, which the configured proxy is asked for."""
    for name in spec.names if choices.collector is not None else ():
        for port in spec.ports:
            yield Target(Destination(in_zone(name, choices.collector), None, port, Via.PROXY), forwards=True)


def in_zone(name: str, collector: Collector | None) -> str:
    """`name`, with the collector's zone in the place of `.example`."""
    if collector is None or not name.endswith(ZONE_PLACE):
        return name
    return f"{name.removesuffix(ZONE_PLACE)}.{collector.zone}"


def _random(spec: CheckSpec, policies: Sequence[Policy], choices: Choices) -> Iterator[Target]:  # noqa: ARG001
    for address in random_public(choices.random_public, choices.seed):
        for port in spec.ports:
            yield Target(Destination(None, address, port))


GENERATORS: dict[str, Generator] = {
    "documentation": _blocks(DOCUMENTATION),
    "documentation-one": _blocks((("198.51.100.0/24", _ONE_V4), ("2001:db8::/32", "2001:db8:44::44"))),
    "reserved": _blocks(RESERVED),
    "names": _names,
    "declared-tcp": _declared(Transport.TCP),
    "declared-udp": _declared(Transport.UDP),
    "control-tcp": _endpoints(Purpose.CONTROL, Transport.TCP),
    "control-udp": _endpoints(Purpose.CONTROL, Transport.UDP),
    "witness-tcp": _endpoints(Purpose.WITNESS, Transport.TCP),
    "witness-udp": _endpoints(Purpose.WITNESS, Transport.UDP),
    "witness-ports": _witness_ports,
    "witness-hosts": _witness_hosts,
    "v4-mapped": _v4_mapped,
    "system-resolver": _system_resolver,
    "policy-resolvers": _policy_resolvers,
    "named-resolvers": _named_resolvers,
    "docker-resolver": _fixed_resolver(_DOCKER_RESOLVER),
    "vpc-resolver": _fixed_resolver(_VPC_RESOLVER),
    "collector-tcp": _collector(Transport.TCP),
    "collector-udp": _collector(Transport.UDP),
    "collector-ports": _collector_ports,
    "through-proxy": _through_proxy,
    "random-public": _random,
}


def nobody_lives_at(destination: Destination) -> bool:
    """Whether a registry says that the destination's address is nobody's, or that its name cannot exist (RFC 6761)."""
    if destination.address is not None:
        return is_reserved(destination.address.removeprefix("::ffff:"))  # v4-mapped, as written above
    return destination.host is not None and destination.host.endswith(".invalid")

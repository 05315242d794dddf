"""Destination generators: where a scenario's rows go. The only sources of destinations that a run has.

Built in: documentation and reserved blocks, `.invalid`/`.example` names, the policy's own entries, the operator's
controls and witnesses. Everything else is behind an option of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from probe.addresses import DOCUMENTATION, RESERVED, is_connectable, is_reserved, random_public
from probe.model import Action, Channel, Destination, Policy, Purpose, Rule, Transport
from probe.policies.decide import decide
from probe.policies.patterns import single_host
from probe.scenario import PORTLESS, CheckSpec


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


Generator = Callable[[CheckSpec, Sequence[Policy], Choices], Iterator[Target]]

_MOST_PORTS = 16
# The one documentation address of IPv4 that single checks go to.
_ONE_V4 = "198.51.100.44"
# An entry without ports means any port; one is tried, and nobody promises that it answers.
_ANY_PORT = 443


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
    named = [e.destination for e in choices.witnesses if e.transport is Transport.TCP and choices.own_witnesses]
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
    yield Target(Destination("system-resolver", None, 53))


def _policy_resolvers(spec: CheckSpec, policies: Sequence[Policy], choices: Choices) -> Iterator[Target]:  # noqa: ARG001
    for policy in policies:
        for address in policy.dns.resolvers if policy.dns else ():
            yield Target(Destination(None, address, 53))


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
    "random-public": _random,
}


def nobody_lives_at(destination: Destination) -> bool:
    """Whether a registry says that the destination's address is nobody's, or that its name cannot exist (RFC 6761)."""
    if destination.address is not None:
        return is_reserved(destination.address.removeprefix("::ffff:"))  # v4-mapped, as written above
    return destination.host is not None and destination.host.endswith(".invalid")

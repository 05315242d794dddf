"""`decide(policies, destination, …)`: what the declaration says of one destination, and which rule says it.

Layers combine as the report's contract has it: any deny → deny; else any allow → allow; else undeclared.
"""

from collections.abc import Sequence

from probe.model import (
    Action,
    Channel,
    Declared,
    Destination,
    DnsResolver,
    DnsRules,
    Policy,
    Query,
    Rule,
    Transport,
    Via,
)
from probe.policies.patterns import domain_matches, network_contains

_TRANSPORT = {
    Channel.TCP: Transport.TCP,
    Channel.HTTP: Transport.TCP,
    Channel.TLS: Transport.TCP,
    Channel.PROXY: Transport.TCP,
    Channel.UDP: Transport.UDP,
}

_DNS_PORT = 53

# Dialects that declare networks: a proxy on an internal one decides by rules of its own.
_SAY_NOTHING_OF_PROXIES = ("docker",)
_NOTHING = Declared(Action.UNDECLARED, "no policy was found")


def decide(
    policies: Sequence[Policy], destination: Destination, channel: Channel, query: Query | None = None
) -> Declared:
    """The combined answer of all layers, with the rule that decided and where it stands."""
    answers = [_one(policy, destination, channel, query) for policy in policies]
    for action in (Action.DENY, Action.ALLOW, Action.UNDECLARED):
        for answer in answers:
            if answer.action is action:
                return answer
    return _NOTHING


def combined_default(policies: Sequence[Policy]) -> Action:
    """The default of all layers together."""
    defaults = {policy.default for policy in policies}
    return next((action for action in (Action.DENY, Action.ALLOW) if action in defaults), Action.UNDECLARED)


def _one(policy: Policy, destination: Destination, channel: Channel, query: Query | None) -> Declared:
    if query is not None:
        return _dns(policy, destination, query)
    if destination.via is Via.PROXY and policy.source.dialect in _SAY_NOTHING_OF_PROXIES:
        by = f"{policy.default_by} (what goes through a proxy, it does not declare)"
        return Declared(Action.UNDECLARED, by, policy.source.path, policy.default_line)
    return _first(policy, destination, _TRANSPORT.get(channel)) or default_of(policy)


def default_of(policy: Policy) -> Declared:
    """What a policy says where no rule does."""
    return Declared(policy.default, policy.default_by, policy.source.path, policy.default_line)


def said(rule: Rule) -> Declared:
    """What one rule says."""
    return Declared(rule.action, rule.by, rule.path, rule.line)


def _by_dns(dns: DnsRules, action: Action) -> Declared:
    return Declared(action, dns.by, dns.path, dns.line)


def _first(policy: Policy, destination: Destination, transport: Transport | None) -> Declared | None:
    for action in (Action.DENY, Action.ALLOW):  # deny wins whatever the order
        for rule in policy.rules:
            if rule.action is action and matches(rule, destination, transport):
                return said(rule)
    return None


def matches(rule: Rule, destination: Destination, transport: Transport | None) -> bool:
    """Whether `rule` speaks of `destination`."""
    if rule.ports and destination.port not in rule.ports:
        return False
    if rule.protocol is not None and rule.protocol is not transport:
        return False
    if rule.domain is not None:
        return destination.host is not None and domain_matches(rule.domain, destination.host)
    if rule.cidr is not None:
        return destination.address is not None and network_contains(rule.cidr, destination.address)
    return True


def _dns(policy: Policy, destination: Destination, query: Query) -> Declared:
    # A query to a resolver of the probe's own choice is also a packet to that address.
    if query.resolver is DnsResolver.EXPLICIT:
        packet = _first(policy, destination, query.transport)
        # DNS over HTTPS to an allowed host is that host's HTTPS: what `[dns]` says is about port 53.
        by_rule = policy.dns is None or destination.port != _DNS_PORT
        if packet is not None and (packet.action is Action.DENY or by_rule):
            return packet
    if policy.dns is None:
        return _dns_absent(policy, query)
    if policy.dns.policy != "restricted":
        return _by_dns(policy.dns, Action.ALLOW if policy.dns.policy == "open" else Action.DENY)
    return _dns_restricted(policy, policy.dns, destination, query)


def _dns_absent(policy: Policy, query: Query) -> Declared:
    """Absent: A and AAAA of allowed names through the system resolver; everything else follows the default."""
    if query.type in ("A", "AAAA") and query.resolver is DnsResolver.SYSTEM:
        rule = _allowing(policy, query.name)
        if rule is not None:
            return said(rule)
    return default_of(policy)


def _dns_restricted(policy: Policy, dns: DnsRules, destination: Destination, query: Query) -> Declared:
    """Restricted: only names under `allow` (default: the allowed domains), only `resolvers`, any type."""
    if dns.allow is not None:
        named = any(domain_matches(pattern, query.name) for pattern in dns.allow)
    else:
        named = _allowing(policy, query.name) is not None
    if not named:
        return _by_dns(dns, Action.DENY)
    if query.resolver is DnsResolver.EXPLICIT:
        return _by_dns(dns, Action.ALLOW if destination.address in dns.resolvers else Action.DENY)
    if dns.resolvers:
        # Whether the system's resolver is one of the listed ones is seen only inside.
        by = f"{dns.by}: resolvers are listed, and the system's may be another"
        return Declared(Action.UNDECLARED, by, dns.path, dns.line)
    return _by_dns(dns, Action.ALLOW)


def _allowing(policy: Policy, name: str) -> Rule | None:
    """The rule that allows `name` on some port, unless a rule denies it on every port."""
    found = None
    for rule in policy.rules:
        if rule.domain is None or not domain_matches(rule.domain, name):
            continue
        if rule.action is Action.DENY and not rule.ports and rule.protocol is None:
            return None
        if rule.action is Action.ALLOW:
            found = found or rule
    return found

"""What the declared policy says, by file. A rule is known by what it says: its number and its line may change."""

from collections.abc import Iterator, Sequence

from probe.conditions.nouns import THERE, About, Said, key, place, short
from probe.model import DnsRules, Rule
from probe.report import Report


def say(report: Report) -> Iterator[Said]:
    """Layers, their modes and defaults, DNS, and a key per subject of rules."""
    policy = report.policy
    for source in policy.sources:
        layers = sum(one.path == source.path for one in policy.sources)
        about = About(f"{short(source.path)} ({source.dialect})", seen=str(layers))
        yield Said(key("source", source.path, source.dialect), THERE, about)
        yield Said(key("mode", source.path, source.dialect), source.mode.value, About(short(source.path)))
    # One file may be two layers: an openclaw.json with keys that the product does not know.
    for source, default in zip(policy.sources, policy.defaults, strict=False):
        about = About(short(source.path), place(default))
        yield Said(key("default", source.path, source.dialect), default.action.value, about)
    for dns in policy.dns:
        yield Said(key("dns", str(dns.path)), _dns(dns), About(short(str(dns.path)), place(dns)))
    rules: dict[str, list[Rule]] = {}
    for rule in policy.rules:
        rules.setdefault(key("rule", str(rule.path), _subject(rule)), []).append(rule)
    for name, same in rules.items():
        yield Said(name, _ports(same), About(_subject(same[0]), _places(same)))


def _places(same: Sequence[Rule]) -> str | None:
    """Of rules with one subject: the file, and all of their lines."""
    more = "".join(f", {rule.line}" for rule in same[1:] if rule.line is not None)
    first = place(same[0])
    return None if first is None else first + more


def _subject(rule: Rule) -> str:
    return f"{rule.action.value} {rule.domain or rule.cidr or 'everything'}"


def _ports(same: Sequence[Rule]) -> str:
    """Of rules with one subject, together: two rules for a port each say what one rule for both says."""
    found: dict[str, set[int] | None] = {}
    for rule in same:
        protocol = f"/{rule.protocol.value}" if rule.protocol else ""
        known = found.setdefault(protocol, set())
        found[protocol] = None if known is None or not rule.ports else known | set(rule.ports)
    return "; ".join(
        ("any port" if ports is None else f"port {', '.join(map(str, sorted(ports)))}") + protocol
        for protocol, ports in sorted(found.items())
    )


def _dns(dns: DnsRules) -> str:
    allow = "" if dns.allow is None else f", names {', '.join(sorted(dns.allow)) or 'none'}"
    return dns.policy + (f", resolvers {', '.join(sorted(dns.resolvers))}" if dns.resolvers else "") + allow

"""A report as a flat table of conditions, key → word, so that any two runs can be compared. Nothing is compared here.

    row:ID              leak, open, closed, blocked or unknown, and by whom it was stopped
    default: mode: source: dns: rule:      the declared policy, by file
    vantage:NAME        the place that the agent ran in
    baseline:ID, severity:ID               config findings

A rule is known by what it says: its number and its line may change. What differs from run to run by nature (times,
ports of our own, link-local addresses) is not in the table.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import NamedTuple

from probe.addresses import known_block
from probe.documents import Vantage
from probe.model import Action, Declared, DnsRules, EnforcerKind, Outcome, Purpose, Rule, Verdict
from probe.naming import observed, path_of
from probe.report import Observed, Report, Result

THERE = "there"
UNKNOWN, LEAK, OPEN, CLOSED, BLOCKED = "unknown", "leak", "open", "closed", "blocked"
UNVERIFIED = "unverified"
_STOPPED = (Outcome.DENIED, Outcome.NO_ROUTE, Outcome.REJECTED, Outcome.PROXY_DENIED, Outcome.NAME_DENIED)
_FILTERS = (EnforcerKind.LOCAL_FIREWALL, EnforcerKind.ROUTER, EnforcerKind.MIDDLEBOX)


@dataclass(frozen=True, slots=True)
class About:
    """What a sentence about a key needs. `place`: file and line; `seen`: what was observed; `why`: the row's reason."""

    name: str
    place: str | None = None
    seen: str | None = None
    why: str | None = None
    address: str | None = None
    cidr: str | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """`silent_on`: beginnings of keys of which this run says nothing, so that their absence means nothing."""

    values: dict[str, str]
    about: dict[str, About] = field(default_factory=dict)
    silent_on: tuple[str, ...] = ()


class _Said(NamedTuple):
    key: str
    value: str
    about: About


def conditions(report: Report) -> Conditions:
    """What holds in one run."""
    said = [*_rows(report), *_policy(report), *_baseline(report)]
    vantage = report.run.vantage
    if vantage is not None:
        said += _vantage(vantage)
    return Conditions(
        {one.key: one.value for one in said},
        {one.key: one.about for one in said},
        () if vantage is not None else ("vantage:",),
    )


# --- rows -------------------------------------------------------------------------------------------------------------


def _rows(report: Report) -> Iterator[_Said]:
    for row in report.results:
        if row.purpose is not Purpose.SELF_TEST:
            address = row.destination.address
            about = About(
                name=path_of(row),
                place=place(row.declared),
                seen=observed(row.observed),
                why=row.why,
                address=address,
                cidr=known_block(address),
            )
            yield _Said(f"row:{row.id}", word(row), about)


def word(row: Result) -> str:
    """`leak`, `open`, `closed` or `blocked` (with who stopped it, where that is known), or `unknown`."""
    if row.verdict is Verdict.LEAK:
        return LEAK
    if row.verdict is Verdict.OVERBLOCKED:
        return BLOCKED + _by(row.observed)
    if row.verdict is Verdict.CONFORMS:
        return OPEN if row.declared.action is Action.ALLOW else CLOSED + _by(row.observed)
    if row.verdict is Verdict.UNDECLARED:
        return _undeclared(row.observed)
    return UNKNOWN


def _undeclared(seen: Observed) -> str:
    """Nothing is declared: only what the network did is told."""
    if seen.outcome is Outcome.REACHED:
        return OPEN
    filtered = seen.enforcer is not None and seen.enforcer.kind in _FILTERS
    return CLOSED + _by(seen) if seen.outcome in _STOPPED or (seen.outcome is Outcome.REFUSED and filtered) else UNKNOWN


def _by(seen: Observed) -> str:
    who = seen.enforcer
    if who is None or who.kind is EnforcerKind.UNKNOWN:
        return ""
    return f" by {who.kind.value.replace('_', ' ')}" + (f" {who.address}" if who.address else "")


def place(declared: Declared | Rule | DnsRules) -> str | None:
    """`egress-policy.toml:7`: the file as it was named, and the line where that is known."""
    if declared.path is None:
        return None
    return declared.path if declared.line is None else f"{declared.path}:{declared.line}"


# --- the declared policy ----------------------------------------------------------------------------------------------


def _policy(report: Report) -> Iterator[_Said]:
    policy = report.policy
    for source in policy.sources:
        yield _Said(f"source:{source.path} {source.dialect}", THERE, About(f"{source.path} ({source.dialect})"))
        yield _Said(f"mode:{source.path} {source.dialect}", source.mode.value, About(source.path))
    for default in policy.defaults:
        yield _Said(f"default:{default.path}", default.action.value, About(str(default.path), place(default)))
    for dns in policy.dns:
        yield _Said(f"dns:{dns.path}", _dns(dns), About(str(dns.path), place(dns)))
    rules: dict[str, list[Rule]] = {}
    for rule in policy.rules:
        rules.setdefault(f"rule:{rule.path}:{_subject(rule)}", []).append(rule)
    for key, same in rules.items():
        yield _Said(key, "; ".join(sorted(map(_ports, same))), About(_subject(same[0]), place(same[0])))


def _subject(rule: Rule) -> str:
    return f"{rule.action.value} {rule.domain or rule.cidr or 'everything'}"


def _ports(rule: Rule) -> str:
    ports = f"port {', '.join(map(str, sorted(rule.ports)))}" if rule.ports else "any port"
    return ports + (f"/{rule.protocol.value}" if rule.protocol else "")


def _dns(dns: DnsRules) -> str:
    allow = "" if dns.allow is None else f", names {', '.join(sorted(dns.allow)) or 'none'}"
    return dns.policy + (f", resolvers {', '.join(sorted(dns.resolvers))}" if dns.resolvers else "") + allow


# --- the place --------------------------------------------------------------------------------------------------------


def _vantage(seen: Vantage) -> Iterator[_Said]:
    """Things of which there may be several have a key each; the others have one."""
    several = {
        "capability": seen.capabilities,
        "interface": seen.interfaces,
        "unix socket": seen.sockets,
        "refused socket": seen.refused_sockets,
    }
    for name, values in several.items():
        for value in values:
            yield _Said(f"vantage:{name} {value}", THERE, About(f"{name} {value}"))
    one = {
        "user id": str(seen.uid),
        "no_new_privs": _flag(seen.no_new_privs),
        "seccomp": seen.seccomp or "unknown",
        "container": _container(seen),
        "IPv4": _global(seen, 4),
        "IPv6": _global(seen, 6),
        "resolvers": ", ".join(seen.resolvers) or "none",
        "proxies": ", ".join(seen.proxies) or "none",
        "event loop": "cannot start" if seen.event_loop else "starts",
    }
    for name, value in one.items():
        yield _Said(f"vantage:{name}", value, About(name))


def _flag(value: bool | None) -> str:
    return {True: "on", False: "off", None: "unknown"}[value]


def _container(seen: Vantage) -> str:
    """The engine and the container's id; else the network namespace, which is a new one after a replacement too."""
    return f"{seen.container or 'none'} {seen.container_id or seen.netns or 'unknown'}"


def _global(seen: Vantage, version: int) -> str:
    """Whether the place has an address of this family that leads somewhere, and a default route for it."""
    found = [a for a in map(_address, seen.addresses) if a is not None and a.version == version]
    found = [a for a in found if not (a.ip.is_loopback or a.ip.is_link_local)]
    routes = [line.split() for line in seen.routes if line.startswith("default ")]
    routed = any((":" in words[2]) == (version == 6) for words in routes if len(words) > 2 and words[1] == "via")
    return ("address" if found else "no address") + (" and default route" if routed else "")


def _address(line: str) -> IPv4Interface | IPv6Interface | None:
    """Of `eth0 10.0.0.2/24`. The inside may say anything."""
    try:
        return ip_interface(line.split(" ")[-1])
    except ValueError:
        return None


# --- config findings --------------------------------------------------------------------------------------------------


def _baseline(report: Report) -> Iterator[_Said]:
    seen: Counter[str] = Counter()
    for finding in report.baseline:
        seen[finding.id] += 1
        name = finding.id if seen[finding.id] == 1 else f"{finding.id} ({seen[finding.id]})"
        yield _Said(f"baseline:{name}", finding.observed, About(f"{name} ({finding.title})"))
        yield _Said(f"severity:{name}", finding.severity.value, About(f"{name} ({finding.title})"))

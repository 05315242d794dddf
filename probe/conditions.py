"""A report as a flat table of conditions, key → word, so that any two runs can be compared. Nothing is compared here.

    row:ID              leak, open, closed, blocked or unknown, and by whom it was stopped; not what was not tried
    default: mode: source: dns: rule:      the declared policy, by file
    vantage:NAME        the place that the agent ran in
    baseline:ID, severity:ID               config findings

A rule is known by what it says: its number and its line may change. What differs from run to run by nature (times,
ports of our own, the place's link-local addresses) is not in the table.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import NamedTuple

from probe.addresses import known_block
from probe.documents import Vantage
from probe.errors import one_line
from probe.model import Action, Declared, DnsRules, EnforcerKind, Outcome, Purpose, Rule, Verdict
from probe.naming import met_no_interception, observed, path_of
from probe.report import Observed, Report, Result

THERE = "there"
UNKNOWN, LEAK, OPEN, CLOSED, BLOCKED = "unknown", "leak", "open", "closed", "blocked"
UNVERIFIED = "unverified"
STARTED = "vantage:started"  # through which launcher
_TAB = "\t"
_LONGEST = 240  # characters of a name or a word
_MOST = 64  # things of one kind that a place has; an honest agent tells no more
_STOPPED = (Outcome.DENIED, Outcome.NO_ROUTE, Outcome.REJECTED, Outcome.PROXY_DENIED, Outcome.NAME_DENIED)
_FILTERS = (EnforcerKind.LOCAL_FIREWALL, EnforcerKind.ROUTER, EnforcerKind.MIDDLEBOX)


@dataclass(frozen=True, slots=True)
class About:
    """What a sentence about a key needs, printable. `place`: file and line; `seen`: what was observed."""

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
        said += [*_vantage(vantage), _Said(STARTED, one_line(report.run.via or "in place"), About("started"))]
    return Conditions(
        {one.key: one.value for one in said},
        {one.key: one.about for one in said},
        () if vantage is not None else ("vantage:",),
    )


def short(text: str) -> str:
    """One printable line of a bounded length: the inside may say anything. What was cut differs where it differed."""
    if len(text) <= _LONGEST:
        return one_line(text)
    mark = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    return one_line(text[:_LONGEST]) + f"…{mark}"


def key(sort: str, *parts: str) -> str:
    """A key whose parts can be told apart: no printable line has a tab."""
    return f"{sort}:" + _TAB.join(map(one_line, parts))


def parts_of(name: str) -> tuple[str, ...]:
    """The parts that `key` was made of."""
    return tuple(name.partition(":")[2].split(_TAB))


# --- rows -------------------------------------------------------------------------------------------------------------


def _rows(report: Report) -> Iterator[_Said]:
    for row in report.results:
        if not _is_left_out(row):
            address = row.destination.address
            about = About(
                name=short(path_of(row)),
                place=place(row.declared),
                seen=short(observed(row.observed)),
                why=short(row.why),
                address=None if address is None else short(address),
                cidr=known_block(address),
            )
            yield _Said(key("row", row.id), word(row), about)


def _is_left_out(row: Result) -> bool:
    """What was not tried is not there; who looked for an interception and met none says nothing."""
    if row.purpose is Purpose.SELF_TEST or row.verdict is Verdict.NOT_RUN:
        return True
    return row.verdict is Verdict.UNPROVEN and met_no_interception(row)


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
    return short(declared.path) if declared.line is None else f"{short(declared.path)}:{declared.line}"


# --- the declared policy ----------------------------------------------------------------------------------------------


def _policy(report: Report) -> Iterator[_Said]:
    policy = report.policy
    for source in policy.sources:
        about = About(f"{short(source.path)} ({source.dialect})")
        yield _Said(key("source", source.path, source.dialect), THERE, about)
        yield _Said(key("mode", source.path, source.dialect), source.mode.value, About(short(source.path)))
    # One file may be two layers: an openclaw.json with keys that the product does not know.
    for source, default in zip(policy.sources, policy.defaults, strict=False):
        about = About(short(source.path), place(default))
        yield _Said(key("default", source.path, source.dialect), default.action.value, about)
    for dns in policy.dns:
        yield _Said(key("dns", str(dns.path)), _dns(dns), About(short(str(dns.path)), place(dns)))
    rules: dict[str, list[Rule]] = {}
    for rule in policy.rules:
        rules.setdefault(key("rule", str(rule.path), _subject(rule)), []).append(rule)
    for name, same in rules.items():
        yield _Said(name, _ports(same), About(_subject(same[0]), _places(same)))


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
        for value in values[:_MOST]:
            yield _Said(f"vantage:{name} {short(value)}", THERE, About(f"{name} {short(value)}"))
    one = {
        "user id": str(seen.uid),
        "no_new_privs": _flag(seen.no_new_privs),
        "seccomp": seen.seccomp or "unknown",
        "container": seen.container or "none",
        # Not the network namespace: launchers make one per run, and the kernel uses their numbers again.
        "container id": seen.container_id or "unknown",
        "IPv4": _global(seen, 4),
        "IPv6": _global(seen, 6),
        "resolvers": ", ".join(seen.resolvers) or "none",
        "proxies": ", ".join(seen.proxies) or "none",
        "event loop": "cannot start" if seen.event_loop else "starts",
    }
    for name, value in one.items():
        yield _Said(f"vantage:{name}", short(value), About(name))


def _flag(value: bool | None) -> str:
    return {True: "on", False: "off", None: "unknown"}[value]


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
        about = About(short(f"{name} ({finding.title})"))
        yield _Said(key("baseline", name), finding.observed, about)
        yield _Said(key("severity", name), finding.severity.value, about)

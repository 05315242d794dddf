"""Dialect `native`: our own egress-policy.toml. docs/policy.md is its manual.

    default = "deny"                       # or "allow"
    [[allow]] / [[deny]]                   # domain or cidr, never both; ports and protocol are optional
    [dns] policy = "restricted|open|none"  # resolvers, allow

`*.x` = any depth, no apex; absent ports = any; absent protocol = any; deny wins whatever the order.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from probe.codec import DecodeError, decode
from probe.errors import UserError
from probe.model import Action, DnsRules, Policy, Rule, Source, Transport
from probe.policies.patterns import domain_pattern, network, port
from probe.policies.text import Document

if TYPE_CHECKING:
    from probe.policies import Context


@dataclass(frozen=True, slots=True)
class Entry:
    """One [[allow]] or [[deny]]."""

    domain: str | None = None
    cidr: str | None = None
    ports: tuple[int, ...] | None = None
    protocol: Literal["tcp", "udp"] | None = None


@dataclass(frozen=True, slots=True)
class Dns:
    """The [dns] table."""

    policy: Literal["restricted", "open", "none"]
    resolvers: tuple[str, ...] = ()
    allow: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class File:
    """The whole file."""

    default: Literal["deny", "allow"]
    allow: tuple[Entry, ...] = ()
    deny: tuple[Entry, ...] = ()
    dns: Dns | None = None


def recognises(document: Document) -> bool:
    """TOML with `default`, `allow` or `deny` at the top."""
    return document.syntax == "toml" and bool({"default", "allow", "deny"} & document.tree.keys())


def parse(document: Document, context: "Context") -> Policy:  # noqa: ARG001 - every dialect has this shape
    """The file as a policy. Raises UserError that names file and key."""
    try:
        file = decode(File, document.tree)
    except DecodeError as error:
        raise UserError(f"{document.path}: {error}") from None
    rules = [
        _rule(document, action, index, entry)
        for action, entries in ((Action.ALLOW, file.allow), (Action.DENY, file.deny))
        for index, entry in enumerate(entries)
    ]
    return Policy(
        source=Source(document.path, "native"),
        default=Action(file.default),
        default_by=f'{document.name}: default = "{file.default}"',
        rules=tuple(rules),
        dns=_dns(document, file.dns),
    )


def _rule(document: Document, action: Action, index: int, entry: Entry) -> Rule:
    where = f"{document.path}: {action.value}[{index}]"
    if (entry.domain is None) == (entry.cidr is None):
        raise UserError(f"{where}: expected either domain or cidr")
    if entry.ports == ():
        raise UserError(f"{where}.ports: empty (leave ports out for any port)")
    domain = None if entry.domain is None else domain_pattern(entry.domain, f"{where}.domain")
    cidr = None if entry.cidr is None else network(entry.cidr, f"{where}.cidr")
    return Rule(
        action=action,
        by=f"{document.name}: {action.value}[{index}] {domain or cidr}",
        domain=domain,
        cidr=cidr,
        ports=tuple(port(p, f"{where}.ports[{i}]") for i, p in enumerate(entry.ports or ())),
        protocol=None if entry.protocol is None else Transport(entry.protocol),
    )


def _dns(document: Document, dns: Dns | None) -> DnsRules | None:
    if dns is None:
        return None
    where = f"{document.path}: dns"
    if dns.policy != "restricted" and (dns.allow is not None or dns.resolvers):
        raise UserError(f'{where}: allow and resolvers mean something only with policy = "restricted"')
    resolvers = tuple(_resolver(text, f"{where}.resolvers[{i}]") for i, text in enumerate(dns.resolvers))
    allow = None if dns.allow is None else tuple(
        domain_pattern(text, f"{where}.allow[{i}]") for i, text in enumerate(dns.allow)
    )  # fmt: skip
    return DnsRules(dns.policy, f'{document.name}: dns.policy = "{dns.policy}"', resolvers, allow)


def _resolver(text: str, where: str) -> str:
    cidr = network(text, where)
    if cidr.rsplit("/", 1)[1] not in ("32", "128"):
        raise UserError(f"{where}: {text!r} is a network (expected one resolver's address)")
    return cidr.rsplit("/", 1)[0]

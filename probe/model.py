"""The nouns that every floor shares: vocabularies and small frozen values. No rule and no I/O lives here.

The words are the contract of the report (docs/report.md); where OONI, IANA or MITRE have a word, it is theirs.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class Action(StrEnum):
    """What a declared policy says of a destination."""

    DENY = "deny"
    ALLOW = "allow"
    UNDECLARED = "undeclared"


class Mode(StrEnum):
    """Whether anything enforces the declaration."""

    ENFORCE = "enforce"
    AUDIT = "audit"
    INERT = "inert"


class Channel(StrEnum):
    """What would carry the data out."""

    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"
    DNS = "dns"
    HTTP = "http"
    TLS = "tls"
    PROXY = "proxy"
    UNIX = "unix"


class Transport(StrEnum):
    """The IP protocol under a channel."""

    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"


class Via(StrEnum):
    """Whether the attempt goes straight to the destination or through a configured proxy."""

    DIRECT = "direct"
    PROXY = "proxy"


class Purpose(StrEnum):
    """Why a row is there."""

    CONTROL = "control"
    WITNESS = "witness"
    POLICY = "policy"
    BOUNDARY = "boundary"
    SELF_TEST = "self-test"


class Outcome(StrEnum):
    """What the network did, not what we think of it. Meanings: docs/report.md."""

    REACHED = "reached"
    ACCEPTED = "accepted"
    INTERCEPTED = "intercepted"
    REFUSED = "refused"
    REJECTED = "rejected"
    DENIED = "denied"
    NO_ROUTE = "no_route"
    SILENT = "silent"
    PROXY_DENIED = "proxy_denied"
    NAME_DENIED = "name_denied"
    NAME_UNRESOLVED = "name_unresolved"
    BROKEN = "broken"
    NOT_RUN = "not_run"


class EnforcerKind(StrEnum):
    """Who said no."""

    SYSCALL_FILTER = "syscall_filter"
    LOCAL_FIREWALL = "local_firewall"
    ROUTE = "route"
    ROUTER = "router"
    PROXY = "proxy"
    RESOLVER = "resolver"
    PEER = "peer"
    MIDDLEBOX = "middlebox"
    UNKNOWN = "unknown"


class Verdict(StrEnum):
    """Declared against observed."""

    CONFORMS = "conforms"
    LEAK = "leak"
    OVERBLOCKED = "overblocked"
    UNPROVEN = "unproven"
    UNDECLARED = "undeclared"
    NOT_RUN = "not_run"


class Grade(StrEnum):
    """How well a verdict is founded."""

    PROVEN = "proven"
    CORROBORATED = "corroborated"
    PRESUMED = "presumed"


class Severity(StrEnum):
    """Severity of a baseline finding."""

    CRITICAL = "critical"
    WARN = "warn"
    INFO = "info"
    OK = "ok"


class SelfTest(StrEnum):
    """A target on the agent's own loopback."""

    OPEN = "open"
    CLOSED = "closed"


# Techniques that take another way than a plain socket of their channel: a filter may know one way and not the other.
WAYS = frozenset(("udp_unconnected", "tcp_fastopen", "mptcp_connect", "source_port", "icmp_echo", "raw_syn"))


class DnsResolver(StrEnum):
    """Whom a DNS query is sent to."""

    SYSTEM = "system"  # every name server of /etc/resolv.conf
    EXPLICIT = "explicit"  # the destination's own address


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an attempt goes. `host` is a name (or a symbol such as `system-resolver` that the inside resolves)."""

    host: str | None
    address: str | None
    port: int | None
    via: Via = Via.DIRECT

    def __str__(self) -> str:
        where = self.address or self.host or "?"
        where = f"[{where}]" if ":" in where else where
        return where if self.port is None else f"{where}:{self.port}"


@dataclass(frozen=True, slots=True)
class Query:
    """A DNS question. `{token}` in `name` becomes the probe's nonce."""

    name: str
    type: str
    resolver: DnsResolver = DnsResolver.SYSTEM
    transport: Transport = Transport.UDP
    klass: Literal["IN", "CH"] = "IN"  # CHAOS asks a server about itself (RFC 4892)
    hops: int | None = None  # sent with this TTL: only somebody so near can answer
    # The text that the operator's wildcard record holds: only the zone's own server can give it for a fresh name.
    expect: str | None = None


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """An HTTP request. Its body, if any, is the nonce and nothing else."""

    method: Literal["GET", "POST"] = "GET"
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Declared:
    """The policy's answer for one destination, and the rule (with its place in the file) that gave it.

    Where it stands is not what it says: two that differ in `path` and `line` only are equal.
    """

    action: Action
    by: str
    path: str | None = field(default=None, compare=False)  # the file, as the user named it
    line: int | None = field(default=None, compare=False)  # from 1; None where it cannot be told for certain


@dataclass(frozen=True, slots=True)
class Finding:
    """A config baseline finding, in the exact shape that clawpinch-style tooling reads."""

    id: str
    severity: Severity
    title: str
    description: str
    evidence: str
    remediation: str
    auto_fix: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One normalised rule. It matches where every field that is set matches; an empty rule matches everything."""

    action: Action
    by: str
    domain: str | None = None  # "x.test" is exact; "*.x.test" is any depth below, without the apex
    cidr: str | None = None
    ports: tuple[int, ...] = ()
    protocol: Transport | None = None
    path: str | None = field(default=None, compare=False)
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class DnsRules:
    """What a policy says of DNS: `restricted`, `open` or `none`; resolvers empty = the system's."""

    policy: str
    by: str
    resolvers: tuple[str, ...] = ()
    allow: tuple[str, ...] | None = None  # domain patterns; None = the domains that the rules allow
    path: str | None = field(default=None, compare=False)
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Source:
    """The file that a policy was read from."""

    path: str
    dialect: str
    mode: Mode = Mode.ENFORCE


@dataclass(frozen=True, slots=True)
class Policy:
    """One declared policy, normalised: rules, a default with its place, DNS, and findings about the declaration."""

    source: Source
    default: Action
    default_by: str
    rules: tuple[Rule, ...] = ()
    dns: DnsRules | None = None
    findings: tuple[Finding, ...] = field(default=())
    default_line: int | None = field(default=None, compare=False)

"""The documents that pass between the halves: plan (stays outside), orders (what the inside sees), evidence lines.

The plan holds expectations; the orders never do. Evidence is facts only: no outcome, no verdict.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from probe.model import (
    Channel,
    Declared,
    Destination,
    Finding,
    HttpRequest,
    Policy,
    Purpose,
    Query,
    SelfTest,
    Transport,
)

PLAN_SCHEMA: Final = "egress-probe.plan/1"
ORDERS_SCHEMA: Final = "egress-probe.orders/1"
EVIDENCE_SCHEMA: Final = "egress-probe.evidence/1"
FAR_END_SCHEMA: Final = "egress-probe.far-end/1"


# --- plan -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """One planned row: where to, how, why, and what the policy declares."""

    n: int
    id: str
    scenario: str
    technique: str
    channel: Channel
    destination: Destination
    purpose: Purpose
    declared: Declared
    sends: str  # the bytes that leave, in words
    packets: int  # most packets that we start for it: SYNs, datagrams, writes
    query: Query | None = None
    http: HttpRequest | None = None
    self_test: SelfTest | None = None
    early: bool = False  # attempted before the others: what calibrates them
    repeat: bool = False  # attempted again at the end: a control must work before and after
    answers: bool = False  # somebody is known to answer there when it can be reached
    reserved: bool = False  # a registry entry says that nobody lives there
    skip: str | None = None  # why this row is not attempted
    first: bool = False  # attempted before all others as well, alone: a limit on crowds has seen nothing yet
    lone: bool = False  # attempted again, alone, where another one like it got out
    far_end: bool = False  # its token leads to the collector, if nothing stops it


@dataclass(frozen=True, slots=True)
class Traits:
    """What planning must know of a technique. `packets`: most packets that we start per address."""

    channel: Channel
    packets: int
    sends: Callable[[Check], str]
    resolves: bool = True  # a destination's name is resolved first
    connects: int = 0  # TCP connects that may stay open unanswered, on which the kernel sends its SYN again
    carries: bool = True  # the token goes along, in a form that a collector takes: without it no arrival can be missed


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run is paced. Seconds; packets per second, 0 = no cap."""

    deadline: float | None = None
    rate: float = 200.0
    concurrency: int = 0  # addresses in flight; 0 = as many as open files allow
    tries: int = 3  # at most; how many are made, the controls' answers decide
    seed: str = ""
    scan_signature: bool = False  # raw SYNs look like the scanner's that defenders know (DF clear, window 3)
    walk: bool = True  # where a silence, an accept or a refusal stands, hop by hop


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that a run starts, and the longest that it takes."""

    packets: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that `run` will do, with expectations. Stays outside the sandbox."""

    schema: Literal["egress-probe.plan/1"]
    run_id: str
    created: str
    policies: tuple[Policy, ...]
    baseline: tuple[Finding, ...]
    settings: Settings
    budget: Budget
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    boundary: str | None = None  # where enforcement is expected to end: a hop's number, or a network
    collector: "Collector | None" = None


# --- orders -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Order:
    """One thing to attempt. No expectation, no policy, no key: only the nonce token."""

    n: int
    technique: str
    destination: Destination
    token: str
    query: Query | None = None
    http: HttpRequest | None = None
    self_test: SelfTest | None = None
    early: bool = False
    repeat: bool = False
    first: bool = False
    lone: bool = False


@dataclass(frozen=True, slots=True)
class Orders:
    """What the inside is told."""

    schema: Literal["egress-probe.orders/1"]
    run_id: str
    settings: Settings
    packets: int
    orders: tuple[Order, ...]
    forbid_netns: str | None = None
    seconds: float | None = None  # when they are over the agent leaves, whoever started it may be gone


# --- evidence ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Icmp:
    """An ICMP or ICMPv6 error from the socket's error queue, and the address that sent it.

    `ttl`: time to live (hop limit) of the error itself, as it arrived: how far away its sender is.
    """

    type: int
    code: int
    offender: str | None
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """What TCP_INFO said when the attempt ended (tcp(7); struct tcp_info in linux/tcp.h). Seconds, bytes.

    A SYN that the kernel sends again after a second, and that this host's own firewall drops, counts in `resent` but
    not in `left`: it never left. Neither is counted while the next hop's link address is not known.
    """

    state: int
    timeouts: int  # tcpi_retransmits: how often the retransmission timer ran out
    resent: int  # tcpi_total_retrans: segments that were to be sent again
    left: int  # tcpi_retrans: … and of them, those that were handed to the network
    rtt: float | None = None
    mss: int | None = None
    window_scale: int | None = None


@dataclass(frozen=True, slots=True)
class Counters:
    """How far the namespace's own counters moved around one lone attempt (/proc/net/snmp, snmp6)."""

    requests: int  # Ip OutRequests: packets that the host made
    transmits: int  # Ip OutTransmits: … that got past its own firewall (since Linux 6.7)


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """One packet that answered a raw SYN."""

    kind: Literal["syn-ack", "rst", "icmp", "other"]
    source: str
    ttl: int
    delay: float  # seconds after the SYN
    ip_id: int | None = None  # IPv4 only
    window: int | None = None
    icmp: Icmp | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """Application bytes that came back. `excerpt` is printable ASCII, at most 200 characters."""

    bytes: int
    kind: Literal["banner", "reply"]
    excerpt: str
    http_status: int | None = None
    http_headers: tuple[str, ...] = ()
    token_echoed: bool = False
    receipt: str | None = None  # what claims to be a collector's receipt (probe/receipts.py)


@dataclass(frozen=True, slots=True)
class Tls:
    """What a TLS handshake showed. `verified` is None where there was no name to verify against."""

    handshake: bool
    version: str | None = None
    verified: bool | None = None
    problem: str | None = None
    certificate_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """What a DNS server answered."""

    name: str
    type: str
    rcode: str
    authoritative: bool
    truncated: bool
    records: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to one address. Seconds, monotonic, from the start of the run."""

    t: float
    elapsed: float
    # `walk`: the same connect or datagram with a limit on its hops (`hops`) or on its answer's (`least`).
    # `twin`: a datagram to the same address and port, to tell whose refusal a TCP connect met.
    step: Literal["listen", "resolve", "connect", "walk", "talk", "send", "query", "twin", "raw"]
    result: Literal["connected", "answered", "silent", "error"]
    transport: Transport = Transport.TCP
    address: str | None = None
    port: int | None = None
    source: str | None = None  # our own address on that socket
    # Where it failed: a call that returned the error at once, or `receive` for one that came back from the network.
    stage: Literal["socket", "bind", "connect", "send", "receive"] | None = None
    error: str | None = None  # the errno's name
    routed: bool | None = None  # after EADDRNOTAVAIL: does the kernel have a route and a source address?
    icmp: Icmp | None = None
    events: str | None = None  # what poll said: some of `in out err hup`
    tcp: TcpInfo | None = None
    hops: int | None = None  # sent with this TTL or hop limit; None: the system's
    least: int | None = None  # answers that arrive with a lower TTL are not heard (IP_MINTTL, RFC 5082)
    route: str | None = None  # the routing table's own word (netlink): unicast, local, or the errno's name
    neighbour: str | None = None  # state of the next hop's entry (netlink): reachable, stale, incomplete, failed …
    counters: Counters | None = None
    raw: tuple[RawAnswer, ...] = ()
    data: Data | None = None
    tls: Tls | None = None
    dns: DnsAnswer | None = None
    late: tuple[DnsAnswer, ...] = ()  # other answers to the same question that came after the first
    tries: int = 1
    again: bool = False  # the closing attempt of a control, or a lone retry


@dataclass(frozen=True, slots=True)
class Vantage:
    """What the agent can say of the place that it runs in. Read-only, unprivileged."""

    executable: str
    uid: int
    capabilities: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    no_new_privs: bool | None = None
    seccomp: str | None = None
    container: str | None = None
    container_id: str | None = None  # the first twelve digits, where an engine's own paths show it
    # Networks that are reached without a router, as CIDR; None where the kernel does not tell.
    on_link: tuple[str, ...] | None = None
    landlock_abi: int | None = None  # 0: this kernel has none
    routes: tuple[str, ...] = ()  # as `default via 10.0.0.1 dev eth0`
    addresses: tuple[str, ...] = ()  # as `eth0 10.0.0.2/24`
    resolvers: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()  # as `HTTPS_PROXY=http://…@host:3128`: never a user name, a password or a path
    sockets: tuple[str, ...] = ()  # well-known unix sockets that are there; nothing connects to them
    netns: str | None = None  # as `net:[4026531840]`
    refused_sockets: tuple[str, ...] = ()  # as `tcp over IPv4: EPERM`: what a plain socket() is refused
    event_loop: str | None = None  # why none can start here, as `EPERM`: then each order gets the bare errno


@dataclass(frozen=True, slots=True)
class Start:
    """First evidence line."""

    schema: Literal["egress-probe.evidence/1"]
    run_id: str
    vantage: Vantage
    kind: Literal["start"] = "start"


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the controls' answers gave. Seconds.

    `lost_answer`: the probability, at most, that a single silent destination answered and every answer was lost.
    """

    deadline: float
    samples: int
    missed: int = 0  # samples that got no answer to their first SYN in time
    tries: int = 2
    lost_answer: float | None = None
    kind: Literal["calibration"] = "calibration"


@dataclass(frozen=True, slots=True)
class Record:
    """All attempts of one check."""

    check: int
    attempts: tuple[Attempt, ...]
    not_run: str | None = None
    kind: Literal["record"] = "record"


@dataclass(frozen=True, slots=True)
class End:
    """Last evidence line. `complete` is false after a stop."""

    records: int
    complete: bool
    elapsed: float
    kind: Literal["end"] = "end"


@dataclass(frozen=True, slots=True)
class Evidence:
    """All lines of a run, sorted. `problems` are plain sentences about lines that do not fit."""

    start: Start | None = None
    calibration: Calibration | None = None
    records: dict[int, Record] = field(default_factory=dict)
    end: End | None = None
    problems: tuple[str, ...] = ()
    spoiled: frozenset[int] = frozenset()  # checks whose lines contradict themselves or each other


# --- far end ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Collector:
    """The operator's far end, as the URL that it printed tells. Its zone is delegated to it; no secret is in here."""

    url: str  # of its API
    zone: str
    addresses: tuple[str, ...]
    tcp: tuple[int, ...] = ()
    udp: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrival:
    """A token of this run that the collector got, and stored before it answered. `time`: seconds since 1970, its clock.

    `over` is what carried the channel: `tls` for DNS over TLS, `https` for DNS over HTTPS.
    """

    check: int
    time: float
    channel: Literal["tcp", "udp", "dns", "http", "tls"]
    over: Literal["tcp", "udp", "tls", "https"]
    source: str
    port: int  # the source's
    at: int  # the port that was asked for, before any redirection
    type: str | None = None  # of a DNS question
    name: str | None = None  # of a DNS question, or the server name of a TLS hello
    syn: str | None = None  # IP and TCP headers of the SYN that arrived (TCP_SAVE_SYN), as hex


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """A SYN that arrived and whose answer was never acknowledged: a way out without a way back."""

    time: float
    source: str
    port: int
    at: int


@dataclass(frozen=True, slots=True)
class Reachable:
    """A port of the collector at which a valid token, of whatever run, has arrived: nothing before it drops all."""

    transport: Transport
    version: int
    port: int
    last: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What the collector says of one run.

    `lost`: arrivals that it could not store (and did not answer) or may have missed: at least 1 where it was started
    anew after the run was registered. `sees_half_open`: whether its kernel tells it of half-open SYNs.
    """

    run_id: str
    arrivals: tuple[Arrival, ...] = ()
    half_open: tuple[HalfOpen, ...] = ()
    reachable: tuple[Reachable, ...] = ()
    lost: int = 0
    forged: int = 0  # unverifiable arrivals since it started, of whatever source
    sees_half_open: bool = True


@dataclass(frozen=True, slots=True)
class FarEnd:
    """What the controller knows from outside of the sandbox. It never passes through the inside.

    `key`: the run's, as hex; without it no receipt can be told from a forged one. `problem`: why it could not be asked.
    """

    schema: Literal["egress-probe.far-end/1"]
    key: str
    said: Arrivals
    problem: str | None = None

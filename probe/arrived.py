"""What the far end saw of a run: which tokens arrived, which receipts are real, and what came back to the inside.

Facts for farend.py's table. Whether nothing-arrived may be believed stands in trust.py.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import ip_address, ip_network

from probe import receipts
from probe.documents import Arrival, Arrivals, Attempt, Check, FarEnd, Plan, Reachable
from probe.errors import one_line
from probe.farend import Reply
from probe.knowledge import Seen
from probe.model import Action, Channel, Destination, EnforcerKind, Grade, Outcome, Query, Transport, Verdict
from probe.paths import family
from probe.policies.decide import decide
from probe.report import Enforcer, FarEndSeen, Observed
from probe.signs import who
from probe.tokens import token

_MOST_SHOWN = 4
_KEY = re.compile(r"([0-9a-fA-F]{2}){16,64}")
_FRESH = 30 * 86_400.0  # seconds
_STOPPED = (Outcome.REFUSED, Outcome.REJECTED, Outcome.DENIED, Outcome.NO_ROUTE)
_SAME_SITE = {4: 32, 6: 64}  # prefixes within which a source is taken for the same
_DNS_PORT = 53


@dataclass(frozen=True, slots=True)
class Arrived:
    """What is known of the run as a whole."""

    asked: bool = False
    key: bytes = b""
    run_id: str = ""
    zone: str = ""
    addresses: frozenset[str] = frozenset()
    arrivals: Mapping[int, tuple[Arrival, ...]] = field(default_factory=dict)
    beside: frozenset[int] = frozenset()  # checks whose token arrived by another way, which is allowed
    reachable: frozenset[tuple[Transport, int, int]] = frozenset()
    # IP version and port of SYNs that arrived without a way back; None: a firewall redirected them, from what port
    # nobody knows.
    half_open: frozenset[tuple[int, int | None]] = frozenset()
    sees_half_open: bool = True
    problem: str | None = None
    lost: int = 0
    # Where a permitted token arrived, at the start and at the end: straight, through servers of DNS, through proxies.
    direct: frozenset[tuple[Transport, int]] = frozenset()
    servers: frozenset[str] = frozenset()
    proxied: frozenset[str] = frozenset()
    leaks: Mapping[object, str] = field(default_factory=dict)  # of denied tokens, by the way that they took
    still_open: frozenset[object] = frozenset()  # ways that they took at the end as well


def arrivals_problem(said: Arrivals) -> str | None:
    """What is wrong with a collector's words as they were decoded; None for nothing."""
    for source in (*(one.source for one in said.arrivals), *(one.source for one in said.half_open)):
        try:
            ip_address(source)
        except ValueError:
            return f"source: expected an address, got {one_line(source)[:60]!r}"
    return None


def far_problem(far: FarEnd) -> str | None:
    """The same of what was stored of it, with the run's key."""
    if not _KEY.fullmatch(far.key):
        return "key: expected 16 to 64 bytes as hexadecimal digits"
    return arrivals_problem(far.said)


def gather(plan: Plan, far: FarEnd | None) -> Arrived:
    """The collector's word, sorted. Permitted tokens are added by `permitted`."""
    if far is None or plan.collector is None:
        return Arrived()
    checks = {check.n: check for check in plan.checks}
    arrivals: defaultdict[int, list[Arrival]] = defaultdict(list)
    beside: defaultdict[int, list[Arrival]] = defaultdict(list)
    for arrival in far.said.arrivals:
        check = checks.get(arrival.check)
        if check is not None:
            (arrivals if _counts(check, arrival, plan) else beside)[arrival.check].append(arrival)
    sources = {_site(arrival.source) for arrival in far.said.arrivals}
    return Arrived(
        asked=far.problem is None,
        key=bytes.fromhex(far.key),
        run_id=plan.run_id,
        zone=plan.collector.zone,
        addresses=frozenset(plan.collector.addresses),
        arrivals={n: tuple(some) for n, some in arrivals.items()},
        beside=frozenset(beside),
        reachable=frozenset(
            {(one.transport, one.version, one.port) for one in far.said.reachable if _is_fresh(one, plan)}
            | {(_carrier(one), family(one.source), one.at) for one in far.said.arrivals}
        ),
        half_open=frozenset(
            (family(one.source), one.at if one.at in plan.collector.tcp else None)
            for one in far.said.half_open
            if _site(one.source) in sources
        ),
        sees_half_open=far.said.sees_half_open,
        problem=far.problem,
        lost=far.said.lost,
    )


def _counts(check: Check, arrival: Arrival, plan: Plan) -> bool:
    """Whether an arrival speaks of the row's own path.

    A row's name is looked up by DNS, and beside a TCP row goes a datagram: another path, which may be allowed. There an
    arrival is a leak only where that path is denied, and never makes an allowed row work.
    """
    if arrival.channel == "dns" and check.channel is Channel.PROXY:  # the proxy looked it up, nobody else
        return True
    if arrival.channel == "dns" and check.channel is not Channel.DNS:
        asked = Query(arrival.name or check.destination.host or "", arrival.type or "A")
        resolver = Destination("system-resolver", None, _DNS_PORT)
        other = decide(plan.policies, resolver, Channel.DNS, asked)
    elif arrival.channel == "udp" and check.channel not in (Channel.UDP, Channel.DNS):
        other = decide(plan.policies, replace(check.destination, port=arrival.at), Channel.UDP)
    else:
        return True
    return check.declared.action is Action.DENY and other.action is Action.DENY


def granted(row: Seen) -> bool:
    """Whether a proxy opened a tunnel for the row, whoever is at its end."""
    talks = [a for a in row.record.attempts if a.step == "talk"] if row.record is not None else []
    statuses = [a.data.http_status or 0 for a in talks if a.data is not None]
    return row.check.channel is Channel.PROXY and any(200 <= status < 300 for status in statuses)


def is_permitted(check: Check) -> bool:
    return check.far_end and check.declared.action is Action.ALLOW


def _is_fresh(one: Reachable, plan: Plan) -> bool:
    """What was let through a month ago may be filtered by now, far from the sandbox."""
    return one.last >= datetime.fromisoformat(plan.created).timestamp() - _FRESH


def _carrier(arrival: Arrival) -> Transport:
    return Transport.UDP if arrival.over == "udp" else Transport.TCP


def _site(source: str) -> str:
    return str(ip_network((source, _SAME_SITE[ip_address(source).version]), strict=False))


# --- one row ----------------------------------------------------------------------------------------------------------


def concerns(row: Seen, outer: Arrived) -> bool:
    """Whether the far end has a word on this row."""
    return bool(outer.run_id) and (row.check.far_end or row.check.n in outer.arrivals)


def adjusted(row: Seen, outer: Arrived) -> Seen:
    """The row as it is with the far end's word: arrived or signed is `reached`, unsigned is `intercepted`."""
    if not concerns(row, outer):
        return row
    reply, arrived = _raw_reply(row, outer), row.check.n in outer.arrivals
    seen = FarEndSeen(arrived, reply.value, outer.arrivals.get(row.check.n, ())[:_MOST_SHOWN])
    if arrived or reply is Reply.RECEIPT:
        reached = Observed(Outcome.REACHED, None, Enforcer(EnforcerKind.PEER))
        each = tuple((attempt, reached if _may_be(attempt, row, outer) else one) for attempt, one in row.each)
        return replace(row, observed=replace(reached, attempts=row.observed.attempts, far_end=seen), each=each)
    if reply is Reply.OTHER and row.observed.outcome in (Outcome.REACHED, Outcome.ACCEPTED):
        relayed = row.check.channel in (Channel.DNS, Channel.PROXY)
        by = Enforcer(EnforcerKind.RESOLVER if relayed else EnforcerKind.MIDDLEBOX)
        instead = Observed(Outcome.INTERCEPTED, row.observed.failure, by)
        each = tuple((a, instead if one.outcome in (Outcome.REACHED, Outcome.ACCEPTED) else one) for a, one in row.each)
        return replace(row, observed=replace(instead, attempts=row.observed.attempts, far_end=seen), each=each)
    return replace(row, observed=replace(row.observed, far_end=seen))


def _may_be(attempt: Attempt, row: Seen, outer: Arrived) -> bool:
    """Whether this attempt may be the one that arrived: its IP version, where any has it (a relay may change it)."""
    if row.check.channel in (Channel.DNS, Channel.PROXY) or not attempt.address:
        return True
    versions = {family(arrival.source) for arrival in outer.arrivals.get(row.check.n, ())}
    tried = {family(one.address) for one, _ in row.each if one.address}
    return family(attempt.address) in versions or not versions & tried


def reply_of(row: Seen, outer: Arrived, ordinary: tuple[Verdict, Grade | None]) -> Reply:
    """What came back. `ordinary`: the verdict without a far end; one that is proven by a refusal stands."""
    reply = _raw_reply(row, outer)
    proven = ordinary[1] is Grade.PROVEN and ordinary[0] in (Verdict.CONFORMS, Verdict.OVERBLOCKED)
    if reply is Reply.RECEIPT or not proven or row.check.channel is Channel.PROXY:
        return reply
    return Reply.AT_HOME if all(_at_home(one) for _, one in row.each) else Reply.ATTRIBUTED


def _at_home(one: Observed) -> bool:
    """Whether this host's own kernel stopped it: no other host ever saw a packet of it."""
    return one.outcome in (Outcome.DENIED, Outcome.NO_ROUTE) or (one.enforcer is not None and one.enforcer.hop == 0)


def _raw_reply(row: Seen, outer: Arrived) -> Reply:
    attempts = row.record.attempts if row.record is not None else ()
    if any(signed(attempt, row.check, outer) for attempt in attempts):
        return Reply.RECEIPT
    outcome, whose = row.observed.outcome, who(row.observed.enforcer)
    # An RST or an ICMP error that no router signed speaks in the collector's own name.
    if outcome in (Outcome.REFUSED, Outcome.REJECTED) and whose in ("peer", "unknown"):
        return Reply.AS_TARGET
    if row.check.channel is Channel.PROXY and outcome is Outcome.PROXY_DENIED:
        return Reply.OTHER  # it may have looked the name up before it refused
    if outcome in _STOPPED or (outcome is Outcome.PROXY_DENIED and whose == "filter"):
        return Reply.STOPPED
    if outcome in (Outcome.REACHED, Outcome.ACCEPTED, Outcome.INTERCEPTED):
        return Reply.OTHER
    steps = ("connect", "walk", "talk", "send", "query")
    answered = (a for a in attempts if a.step in steps and a.result in ("connected", "answered"))
    if row.check.channel is Channel.PROXY:  # that the proxy itself is there, says nothing
        answered = (a for a in answered if a.step != "connect")
    return Reply.OTHER if any(True for _ in answered) else Reply.NONE


def signed(attempt: Attempt, check: Check, outer: Arrived) -> bool:
    """Whether the attempt brought a receipt that the collector made for this very token."""
    mine = token(outer.run_id, check.n, outer.key)
    if attempt.step == "twin":  # a datagram beside a TCP row: another path
        return False
    if attempt.data is not None and attempt.data.receipt is not None:
        return receipts.is_valid(attempt.data.receipt, outer.key, mine)
    seen = [(one.source, one.port) for one in outer.arrivals.get(check.n, ()) if one.channel == "dns"]
    for answer in (attempt.dns, *attempt.late):
        if answer is None:
            continue
        told = (receipts.find(record.encode()) for record in answer.records)
        if any(one is not None and receipts.is_valid(one, outer.key, mine) for one in told):
            return True
        if receipts.are_valid(answer.type, answer.records, outer.key, mine, seen, outer.zone):
            return True
    return False


def how(row: Seen, outer: Arrived) -> str:
    """`as DNS TXT over udp, from 10.98.0.1`: how the row's token came to the collector."""
    found = outer.arrivals.get(row.check.n)
    if not found:
        return "its own record of it is missing"
    asked = row.check.query.type if row.check.query else None
    first = next((one for one in found if one.type == asked), found[0])  # a resolver may have asked for others first
    kind = f" {first.type}" if first.type and first.channel == "dns" else ""
    over = f" over {first.over}" if first.over != first.channel else ""
    more = f", {len(found)} times" if len(found) > 1 else ""
    return f"as {first.channel.upper()}{kind}{over}, from {first.source}{more}"

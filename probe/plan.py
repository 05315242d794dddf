"""Policies + scenarios + the operator's choices → Plan: every destination, with technique and expectation.

Expectations come from the policy (`decide`), never from a scenario. `run` sends nothing that is not listed here.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from probe.addresses import MOST_ADDRESSES, MOST_SERVERS
from probe.destinations import GENERATORS, Choices, Target, in_zone, nobody_lives_at
from probe.documents import PLAN_SCHEMA, Budget, Check, Collector, Plan, Settings, Traits
from probe.model import (
    WAYS,
    Action,
    Channel,
    Declared,
    Destination,
    DnsResolver,
    Finding,
    Policy,
    Purpose,
    Query,
    SelfTest,
)
from probe.policies.decide import decide, said
from probe.scenario import PERMITTED, CheckSpec, Scenario
from probe.timing import (
    ALONE,
    BANNER,
    COMPARE_PACKETS,
    LONE_GAP,
    LONGEST,
    MOST_COMPARED,
    MOST_RETRIES,
    MOST_SECOND_LOOKS,
    MOST_WALKS,
    SAMPLES,
    WALK_PACKETS,
    deadlines,
    syn_retransmissions,
)

# Names under the operator's zone are answered by this text: `*.ZONE TXT "egress-probe"`.
ZONE_TEXT = "egress-probe"

SELF_TEST = "self-test"
# Techniques by which a witness is tried again, alone: each way has a witness of its own.
_REPEATED = {"tcp_connect", "udp_datagram", "udp_unconnected", "tcp_fastopen", "mptcp_connect", "source_port"}
# Looking up a name: A and AAAA, every server, each question sent twice.
_LOOKUP = 2 * MOST_SERVERS * 2
# Seconds for what follows an accept, for DNS, and for lone retries: the slowest of them bounds a run from above.
_CONVERSATION = 3 * (BANNER + 2.5)
_RETRIES = 2 * (MOST_RETRIES + 1) * (2 * LONE_GAP + 2.5)
# A conversation's packets; and how many deadlines walks take: six waves of one and a half and a confirmation of two and
# a half, for two batches of whole walks; then the comparisons, in batches of 24.
_TALK = 8
# Lone connects and datagrams around which the namespace's packets are counted, or that place an ICMP error.
_COUNTED = 64
# Controls are tried every half second while the crowd is: of a minute, a few of them.
_WATCHED = 4 * 3 * 120
_WALK_DEADLINES = 2 * (6 * 1.5 + 2.5) + (2 * MOST_COMPARED / 24 + 1) * (1.5 + 2.5)


_DNS_PORT = 53


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that a plan is made of."""

    run_id: str
    created: str
    policies: tuple[Policy, ...]
    baseline: tuple[Finding, ...]
    scenarios: tuple[Scenario, ...]
    choices: Choices
    settings: Settings
    traits: Mapping[str, Traits]
    notes: tuple[str, ...] = ()
    boundary: str | None = None
    collector: Collector | None = None


def make_plan(inputs: Inputs) -> Plan:
    """The plan: self-tests first, then the scenarios' rows in order."""
    seen: Counter[str] = Counter()
    rows = (*_self_tests(), *_scenario_checks(inputs))
    silence = deadlines(inputs.settings.deadline or LONGEST, inputs.settings.tries).total
    again = syn_retransmissions(max(silence, ALONE.total))
    checks = _numbered([_finished(check, seen, inputs, again) for check in rows])
    return Plan(
        schema=PLAN_SCHEMA,
        run_id=inputs.run_id,
        created=inputs.created,
        policies=inputs.policies,
        baseline=inputs.baseline,
        settings=inputs.settings,
        budget=_budget(checks, inputs.settings),
        checks=tuple(checks),
        notes=inputs.notes,
        boundary=inputs.boundary,
        collector=inputs.collector,
    )


def _self_tests() -> Iterator[Check]:
    """A known-open and a known-closed target per family and transport, on the agent's own loopback."""
    for technique, channel in (("tcp_connect", Channel.TCP), ("udp_datagram", Channel.UDP)):
        for address in ("127.0.0.1", "::1"):
            for kind in SelfTest:
                expected = Action.ALLOW if kind is SelfTest.OPEN else Action.DENY
                yield Check(
                    n=0,
                    id="",
                    scenario=SELF_TEST,
                    technique=technique,
                    channel=channel,
                    destination=Destination(None, address, None),
                    purpose=Purpose.SELF_TEST,
                    declared=Declared(expected, f"self-test: known {kind.value}"),
                    sends="",
                    packets=0,
                    self_test=kind,
                    early=True,
                )


def _scenario_checks(inputs: Inputs) -> Iterator[Check]:
    for scenario in inputs.scenarios:
        for spec in scenario.check:
            for target in GENERATORS[spec.destinations](spec, inputs.policies, inputs.choices):
                check = _check(scenario, spec, target, inputs)
                # A permitted name that no policy permits is one more denied name, and there are enough of them.
                if not _permitted(check, inputs.collector) or check.declared.action is Action.ALLOW:
                    yield check


def _check(scenario: Scenario, spec: CheckSpec, target: Target, inputs: Inputs) -> Check:
    channel = inputs.traits[spec.technique].channel
    query = _query(spec, target, inputs.choices)
    declared = decide(inputs.policies, target.destination, channel, query)
    if target.skip is not None and target.entry is not None:
        declared = _of_entry(inputs.policies, target.entry)
    elif target.skip is None and query is None and declared.action is Action.DENY and _is_dns(target, inputs):
        target = replace(target, skip="DNS to it is allowed, and a filter of packets takes this for DNS")
    allowed = declared.action is Action.ALLOW
    # What is expected to answer calibrates the others, and must still answer when they are done. A witness is tried
    # again then, alone: a limit on new connections may have stopped it in the crowd.
    far = inputs.choices.collector
    leads = inputs.traits[spec.technique].carries and _leads(target, query, far)
    theirs = far is not None and target.destination.address in far.addresses
    control = target.purpose is Purpose.CONTROL or (allowed and (target.answers or leads))
    witness = target.purpose is Purpose.WITNESS and spec.technique in _REPEATED
    return Check(
        n=0,
        id="",
        scenario=scenario.id,
        technique=spec.technique,
        channel=channel,
        destination=target.destination,
        purpose=Purpose.BOUNDARY if query is not None and _looks(query) else target.purpose,
        declared=declared,
        sends="",
        packets=0,
        query=query,
        http=spec.http,
        early=spec.early or control,
        # What a lossy or a limited resolver swallowed once, it may pass on when it is asked again.
        repeat=control or witness or (leads and query is not None),
        first=witness and leads,
        lone=leads and query is None and declared.action is Action.DENY and spec.technique not in WAYS,
        answers=target.answers,
        reserved=target.unreal or (nobody_lives_at(target.destination) and not theirs and not leads),
        skip=target.skip,
        far_end=leads,
    )


def _is_dns(target: Target, inputs: Inputs) -> bool:
    """Whether the policy lets DNS pass to where a row that is no DNS goes."""
    where = target.destination
    if where.address is None or where.port != _DNS_PORT:
        return False
    asked = Query("x.example", "TXT", DnsResolver.EXPLICIT)
    return decide(inputs.policies, where, Channel.DNS, asked).action is Action.ALLOW


def _looks(query: Query) -> bool:
    """Whether the row only looks at who answers on the way: by it nothing can be called blocked."""
    return query.hops is not None or query.klass == "CH"


def _permitted(check: Check, collector: Collector | None) -> bool:
    """Whether its name is one of those that are for the operator's allow-list."""
    name = check.query.name if check.query is not None else check.destination.host or ""
    return check.far_end and collector is not None and name.endswith(f".{PERMITTED}.{collector.zone}")


def _leads(target: Target, query: Query | None, collector: Collector | None) -> bool:
    """Whether the row's token comes to the collector, if nothing stops it."""
    if collector is None:
        return False
    if query is not None and (_looks(query) or not query.name.endswith(f".{collector.zone}")):
        return False
    return target.forwards or target.destination.address in collector.addresses


def _query(spec: CheckSpec, target: Target, choices: Choices) -> Query | None:
    if spec.query is None:
        return None
    resolver = DnsResolver.SYSTEM if target.destination.address is None else DnsResolver.EXPLICIT
    given = spec.query
    asked = Query(given.name, given.type, resolver, given.transport, klass=given.klass, hops=given.hops)
    if choices.collector is not None and given.klass == "IN":
        return replace(asked, name=in_zone(asked.name, choices.collector))
    # The operator's zone stands in for a name that nobody serves: only there can an answer prove anything.
    if choices.zone is not None and given.type == "TXT" and given.klass == "IN":
        return replace(asked, name=f"{{token}}.{choices.zone}", expect=ZONE_TEXT)
    return asked


def _of_entry(policies: Sequence[Policy], by: str) -> Declared:
    return next(said(rule) for policy in policies for rule in policy.rules if rule.by == by)


def _finished(check: Check, seen: Counter[str], inputs: Inputs, again: int) -> Check:
    """`check` with a unique id, and what it sends and costs. `again`: SYNs that the kernel adds to a silent connect."""
    traits, wanted = inputs.traits[check.technique], _id(check, inputs.collector)
    seen[wanted] += 1
    addresses, lookups = (MOST_ADDRESSES, _LOOKUP) if check.destination.host and traits.resolves else (1, 0)
    cost = (
        0
        if check.skip
        else (addresses * (traits.packets + traits.connects * again) + lookups)
        * (1 + check.repeat + check.first + check.lone)
    )
    return replace(
        check,
        id=wanted if seen[wanted] == 1 else f"{wanted}#{seen[wanted]}",
        packets=cost,
        sends="nothing" if check.skip else _sends(check, traits),
    )


def _sends(check: Check, traits: Traits) -> str:
    name = check.destination.host
    first = f"A and AAAA of {name} to the system's resolvers; then " if name and traits.resolves else ""
    before = "; all of it once before, alone" if check.first else ""
    after = "; all of it again at the end" if check.repeat or check.lone else ""
    return first + traits.sends(check) + before + after


def _id(check: Check, collector: Collector | None) -> str:
    question = _question(check, collector) if check.query else ""
    kind = f"/{check.self_test.value}" if check.self_test else ""
    way = f"/{check.technique}" if check.technique in WAYS else ""
    return f"{check.scenario}/{check.channel.value}/{check.destination}{question}{kind}{way}"


def _question(check: Check, collector: Collector | None) -> str:
    """`/TXT/udp`, and what else sets one question apart from its like."""
    query = check.query
    assert query is not None
    also = (
        (query.name, query.klass == "CH"),
        ("long", "{chunks}" in query.name),
        (PERMITTED, _permitted(check, collector)),
        (f"ttl{query.hops}", query.hops is not None),
        (check.http.method if check.http else "", check.http is not None),
    )
    return f"/{query.type}/{query.transport.value}" + "".join(f"/{word}" for word, there in also if there)


def _numbered(checks: Sequence[Check]) -> list[Check]:
    """Numbered from 1. A policy entry that another row stands for needs no row that says it was not attempted."""
    covered = {check.declared.by for check in checks if check.skip is None}
    kept = [check for check in checks if check.skip is None or check.declared.by not in covered]
    return [replace(check, n=index + 1) for index, check in enumerate(kept)]


def _budget(checks: Sequence[Check], settings: Settings) -> Budget:
    made = [check for check in checks if check.skip is None]
    addresses = sum(MOST_ADDRESSES if check.destination.host else 1 for check in made)
    packets = (
        sum(check.packets for check in made)
        + addresses * max(settings.tries - 2, 0)
        + sum(check.early for check in made) * MOST_ADDRESSES * SAMPLES
        + (min(addresses, 2 * MOST_WALKS) * (WALK_PACKETS + _TALK) if settings.walk else 0)
        + (min(addresses, 2 * MOST_COMPARED) * COMPARE_PACKETS if settings.walk else 0)
        + 4 * (MOST_RETRIES + 1) * 2 * 2
        + _COUNTED
        + _WATCHED
        + min(addresses, MOST_SECOND_LOOKS) * (ALONE.tries + syn_retransmissions(ALONE.total))
    )
    answer = settings.deadline or LONGEST
    silence = deadlines(answer, settings.tries).total
    walks = answer * _WALK_DEADLINES if settings.walk else 0.0
    paced = packets / settings.rate if settings.rate else 0.0
    # Early rows, the others, what answers take, lone retries, walks; then controls and witnesses, one by one.
    # … and before all that, the first ones, in the same way.
    alone = ALONE.total * MOST_ADDRESSES + _CONVERSATION + LONE_GAP
    closing = sum(check.repeat + check.first + check.lone for check in checks) * alone
    return Budget(
        packets,
        round(paced + 2 * silence + 3 * _CONVERSATION + _RETRIES + walks + _CONVERSATION + ALONE.total + closing, 1),
    )

"""What a run as a whole knows: which controls answered, which witnesses were stopped, what got out, what never works.

Everything is kept apart by (IP version, transport): a control over IPv4 says nothing about IPv6.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from probe.classify import Around, outcomes, worst
from probe.documents import Attempt, Check, Record, Vantage
from probe.kinds import BY_DISTANCE
from probe.model import WAYS, Action, Channel, Destination, EnforcerKind, Outcome, Purpose, Transport
from probe.paths import Surroundings, family, is_on_link, is_outside, path_of, seen_outside
from probe.report import Observed
from probe.signs import who
from probe.verdicts import SELF_TEST_PASSES

Group = tuple[int, Transport]


# Who answers on these is a server on the way: no sign of what lies beyond.
_RELAYED = (Channel.DNS, Channel.PROXY)
_AT_ONCE = (Outcome.NO_ROUTE, Outcome.DENIED)


def group_name(group: Group) -> str:
    """`IPv4 TCP`."""
    return f"IPv{group[0]} {group[1].value.upper()}"


@dataclass(frozen=True, slots=True)
class Seen:
    """One row with its outcome, and the outcome of each address that it tried."""

    check: Check
    record: Record | None
    observed: Observed
    each: tuple[tuple[Attempt, Observed], ...] = ()

    @classmethod
    def of(
        cls, check: Check, record: Record | None, vantage: Vantage | None, made_up: frozenset[str], around: Around
    ) -> "Seen":
        """The row, with its addresses told apart."""
        each = outcomes(check, record, vantage, made_up, around) if record is not None else []
        return cls(check, record, worst(record, each), tuple(each))

    def groups(self, *wanted: Outcome) -> set[Group]:
        """The groups in which one of its addresses had one of the `wanted` outcomes."""
        return {group_of(attempt) for attempt, one in self.each if one.outcome in wanted and attempt.address}


def group_of(attempt: Attempt) -> Group:
    """IP version and transport of an attempt that has an address. A v4-mapped address sends IPv4 packets."""
    return family(attempt.address or ""), attempt.transport


def way_of(row: Seen) -> str:
    """A technique that takes another way than a plain socket, or "plain"."""
    return row.check.technique if row.check.technique in WAYS else "plain"


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The run's own evidence about itself."""

    controls: dict[Group, list[Destination]] = field(default_factory=dict)  # those that answered, before and after
    reserved: set[Group] = field(default_factory=set)  # an address where nobody lives was tried
    interceptor: set[Group] = field(default_factory=set)  # … and the next hop answered for it
    control_problems: dict[Group, str] = field(default_factory=dict)  # why one does not count
    witnesses: dict[Group, list[Seen]] = field(default_factory=dict)
    companions: dict[tuple[Group, int | None], list[Seen]] = field(default_factory=dict)  # a witness on another port
    leaks: dict[Group, str] = field(default_factory=dict)  # a denied destination that got out
    failed_self_tests: dict[Group, str] = field(default_factory=dict)
    isolated: bool = False
    # Tries, alone, of destinations that were silent in the crowd: what each then was.
    alone: dict[tuple[Group, str], list[tuple[Seen, Observed]]] = field(default_factory=dict)
    around: Mapping[int, Surroundings] = field(default_factory=dict)
    lost_answer: float | None = None  # the probability, at most, that a silence is a lost answer
    refused_witnesses: set[tuple[int, int | None]] = field(default_factory=set)  # (IP version, hop), as by themselves
    boundary: str | None = None


def gather(
    rows: Sequence[Seen],
    vantage: Vantage | None,
    around: Around,
    boundary: str | None = None,
    lost_answer: float | None = None,
    no_witness: frozenset[int] = frozenset(),
) -> Knowledge:
    """Everything that single rows are supported by. `no_witness`: checks whose destination may not even be there."""
    known = Knowledge(isolated=_isolated(rows), around=around, boundary=boundary, lost_answer=lost_answer)
    for row in rows:
        if row.check.purpose is Purpose.SELF_TEST:
            _self_test(row, known)
        elif row.check.purpose is Purpose.WITNESS and row.check.n not in no_witness:
            _witness(row, known)
        elif row.check.repeat and row.check.purpose is not Purpose.WITNESS and row.check.channel not in _RELAYED:
            _control(row, known, vantage)
    hosts = {_host(seen.check) for found in known.witnesses.values() for seen in found}
    for row in rows:
        _reserved(row, known)
        _alone(row, known)
    for row in rows:
        if _host(row.check) in hosts and row.check.purpose is not Purpose.WITNESS and row.check.n not in no_witness:
            for group in _groups_tried(row):
                known.companions.setdefault((group, row.check.destination.port), []).append(row)
        if row.check.declared.action is Action.DENY and row.check.purpose is not Purpose.SELF_TEST:
            _leaks(row, known)
    return known


def _witness(row: Seen, known: Knowledge) -> None:
    if row.check.declared.action is Action.DENY:
        for group in _groups_tried(row):
            known.witnesses.setdefault(group, []).append(row)
        for attempt, one in row.each:
            if refused_itself(attempt, one):
                known.refused_witnesses.add((group_of(attempt)[0], one.enforcer.hop if one.enforcer else None))


def _leaks(row: Seen, known: Knowledge) -> None:
    for attempt, one in row.each:
        if refused_itself(attempt, one) and is_doubted(attempt, one, known):
            continue
        if _got_out(one) or is_near(row, attempt, one, known) or outside(row, one, known):
            known.leaks.setdefault(group_of(attempt), row.check.id)
    for attempt in row.record.attempts if row.record is not None else ():
        if attempt.step == "twin" and attempt.result == "answered":
            known.leaks.setdefault(group_of(attempt), f"a datagram beside {row.check.id}")


def refused_itself(attempt: Attempt, one: Observed) -> bool:
    """By its distance the destination's own refusal."""
    return (
        one.outcome is Outcome.REFUSED
        and who(one.enforcer) == "peer"
        and not ip_address(attempt.address or "::").is_loopback
    )


def is_doubted(attempt: Attempt, one: Observed, known: Knowledge) -> bool:
    """A witness, which is known to answer, was refused from the same distance: so somebody on the way refuses there."""
    return (group_of(attempt)[0], one.enforcer.hop if one.enforcer else None) in known.refused_witnesses


def outside(row: Seen, one: Observed, known: Knowledge) -> str | None:
    """Where, at or past the boundary, a packet of this row was seen: a router there answered it."""
    if known.boundary is None or row.record is None:
        return None
    walked = seen_outside(row.record, known.boundary, known.around)
    if walked is not None:
        return f"the router {walked[1]} at hop {walked[0]}"
    if one.enforcer is None or _side(one, known) is not True:
        return None
    return f"the router {one.enforcer.address}"


def inside(one: Observed, known: Knowledge) -> bool:
    """Whether the router that stopped it is known to stand on this side of the boundary."""
    return _side(one, known) is False


def _side(one: Observed, known: Knowledge) -> bool | None:
    """Whether a router that spoke stands outside. Its hop is the one where a walk saw it, not what a TTL suggests."""
    stopped = one.enforcer
    if known.boundary is None or stopped is None or stopped.kind is not EnforcerKind.ROUTER or stopped.address is None:
        return None
    if stopped.sign in BY_DISTANCE:
        return None  # nobody signed it
    near = known.around.get(family(stopped.address), Surroundings())
    seen_at = min((hop for hop, routers in near.routers.items() if stopped.address in routers), default=None)
    return is_outside(known.boundary, seen_at or (1 if stopped.hop == 1 else None), stopped.address, near)


def is_closed(attempts: Iterable[Attempt]) -> bool:
    """Whether one of them was made alone, after the crowd's."""
    made = list(attempts)
    crowd = min((attempt.t for attempt in made if not attempt.again), default=0.0)
    return any(attempt.again and attempt.t >= crowd for attempt in made)


def _alone(row: Seen, known: Knowledge) -> None:
    """Silent in the crowd, and tried again alone."""
    if row.record is None:
        return
    for attempt, one in row.each:
        tries = [a for a in row.record.attempts if a.step == attempt.step and a.address == attempt.address]
        if is_closed(tries) and any(a.result == "silent" and not a.again for a in tries):
            known.alone.setdefault((group_of(attempt), way_of(row)), []).append((row, one))


def _reserved(row: Seen, known: Knowledge) -> None:
    for attempt, one in row.each if row.check.reserved else ():
        known.reserved.add(group_of(attempt))
        if spoke_near(row, attempt, one):
            known.interceptor.add(group_of(attempt))


def is_near(row: Seen, attempt: Attempt, one: Observed, known: Knowledge) -> bool:
    """Application bytes of a live destination that end at the next hop, because everything here does.

    A user-mode network (slirp, pasta, gVisor) ends every connection there. An interceptor does too, but it answers for
    addresses where nobody lives as well; and where a control lies beyond, the next hop is not the end of everything.
    """
    group = group_of(attempt)
    everything = group in known.reserved and group not in known.interceptor and group not in known.controls
    return everything and not row.check.reserved and spoke_near(row, attempt, one)


def _groups_tried(row: Seen) -> set[Group]:
    return {group_of(attempt) for attempt, _ in row.each if attempt.address}


def _host(check: Check) -> str | None:
    return check.destination.host or check.destination.address


def _got_out(one: Observed) -> bool:
    return one.outcome is Outcome.REACHED or (one.outcome is Outcome.REFUSED and who(one.enforcer) == "peer")


def spoke_near(row: Seen, attempt: Attempt, one: Observed) -> bool:
    """Application bytes, from the next hop."""
    near = one.outcome is Outcome.INTERCEPTED and one.enforcer is not None and one.enforcer.hop == 1
    return near and row.record is not None and any(a.data and a.address == attempt.address for a in row.record.attempts)


def _isolated(rows: Iterable[Seen]) -> bool:
    """Nothing works, and the kernel says why: every attempt failed at once, with direct ones in both IP versions."""
    direct: set[int] = set()
    for row in rows:
        if row.check.purpose is Purpose.SELF_TEST or row.record is None:
            continue
        for attempt in row.record.attempts:
            if not _never_left(attempt):
                return False
        if any(one.outcome not in (*_AT_ONCE, Outcome.NAME_UNRESOLVED) for _, one in row.each):
            return False
        if row.check.query is None:  # a resolver without a route says little of the rest of the world
            direct |= {version for version, _ in row.groups(*_AT_ONCE)}
    return direct == {4, 6}


def _never_left(attempt: Attempt) -> bool:
    """The kernel refused the call at once; or the packet went to this host's own loopback, where nobody listened."""
    if attempt.result != "error" or attempt.error == "budget":
        return False
    if attempt.error == "ECONNREFUSED" and attempt.address is not None:
        return ip_address(attempt.address).is_loopback
    return attempt.stage != "receive" and attempt.icmp is None


def _self_test(row: Seen, known: Knowledge) -> None:
    check = row.check
    if not passes(row):
        version = 6 if ":" in (check.destination.address or "") else 4
        told = f"{check.id} was {row.observed.outcome.value}"
        known.failed_self_tests.setdefault((version, _transport(check)), told)


def _transport(check: Check) -> Transport:
    return Transport.UDP if check.channel is Channel.UDP else Transport.TCP


def passes(row: Seen) -> bool:
    """Whether a self-test row did what it must."""
    kind, seen = row.check.self_test, row.observed
    wanted = SELF_TEST_PASSES[kind.value] if kind is not None else frozenset()
    return bool({(seen.outcome, "*"), (seen.outcome, who(seen.enforcer))} & wanted)


def _control(row: Seen, known: Knowledge, vantage: Vantage | None) -> None:
    """A control counts if application bytes came from beyond the local network, at the start and at the end."""
    for attempt, one in row.each:
        if attempt.step == "resolve" or not attempt.address:
            for version in (4, 6):
                told = f"control {row.check.destination} was {one.outcome.value}"
                known.control_problems.setdefault((version, _transport(row.check)), told)
            continue
        group = group_of(attempt)
        problem = _not_a_control(row, attempt, one, vantage) or _inside_boundary(row, attempt, known)
        if problem is None:
            known.controls.setdefault(group, []).append(row.check.destination)
        else:
            known.control_problems.setdefault(group, f"control {row.check.destination} {problem}")


def _inside_boundary(row: Seen, attempt: Attempt, known: Knowledge) -> str | None:
    assert row.record is not None
    away = path_of(row.record, attempt.address).forward
    if known.boundary is None or not known.boundary.isdigit() or away is None or away >= int(known.boundary):
        return None
    return f"answers at hop {away}, on this side of the boundary"


def _not_a_control(row: Seen, attempt: Attempt, one: Observed, vantage: Vantage | None) -> str | None:
    assert row.record is not None
    assert attempt.address is not None
    if row.check.declared.action is not Action.ALLOW:
        return "is not declared as allowed"
    if one.outcome is not Outcome.REACHED and not _accepts_beyond(row, attempt, one):
        return f"was {one.outcome.value}"
    if ip_address(attempt.address).is_loopback or is_on_link(attempt.address, vantage) is not False:
        return "is not known to lie beyond the local network"
    tests = [a for a in row.record.attempts if a.address == attempt.address and a.hops == 1]
    if not any(a.result == "silent" or (a.result == "error" and a.stage == "receive") for a in tests):
        return "could not be tested for its distance"
    # A mute control answers with its handshake.
    wanted = "talk" if one.outcome is Outcome.REACHED else "connect"
    if any(a.step == "connect" and a.result == "silent" and a.address == attempt.address for a in row.record.attempts):
        return "did not answer every time"
    talks = [a for a in row.record.attempts if a.address == attempt.address and _answered(a, wanted)]
    first, last = [a.t for a in talks if not a.again], [a.t for a in talks if a.again]
    if not last:
        return "no longer answered at the end of the run"
    return None if first and max(first) < min(last) else "did not answer at the start of the run"


def _answered(attempt: Attempt, step: str) -> bool:
    if step == "connect":
        return attempt.step == "connect" and attempt.result == "connected"
    return attempt.data is not None and attempt.least is None


def _accepts_beyond(row: Seen, attempt: Attempt, one: Observed) -> bool:
    """Both distances of the handshake agree, and it lies beyond the next hop: no SYN proxy near us gave it."""
    assert row.record is not None
    path = path_of(row.record, attempt.address)
    return one.outcome is Outcome.ACCEPTED and path.back is not None and path.forward == path.back and path.back > 1

"""Every kind of enforcement: the facts that were measured for it, and what the table says of them."""

from typing import Any

import pytest

from probe.classify import observe
from probe.documents import Attempt, Counters, Icmp, Record, TcpInfo
from probe.kinds import BRIDGE, BY_TTL, NEAR, NO_NEIGHBOUR, TABLE, Facts, look_up
from probe.model import Transport
from probe.paths import Path, Surroundings
from probe.signs import facts_of, of_error, of_silence, who
from tests.make import VANTAGE, attempt, check

GW, OWN, FAR, TARGET, V6 = "10.99.0.1", "10.99.0.2", "198.18.5.5", "192.0.2.1", "2001:db8::1"
KNOWN = Surroundings(distance=2, honest=True, routers={1: frozenset((GW,))})
BLIND = Surroundings()
HERE = Path(forward=2, back=1)  # the answer lost no hop, and its question went one farther
THERE = Path(forward=2, back=2)

# The kernel's count after 1.3 s: a second SYN that left, one that did not, one that waits for a link address.
LEFT = TcpInfo(2, 1, 1, 1)
KEPT = TcpInfo(2, 1, 1, 0)
WAITING = TcpInfo(2, 1, 0, 0)


def error(name: str, stage: str, icmp: Icmp | None = None, address: str = TARGET, **more: Any) -> Attempt:
    return attempt(
        "error", address, stage=stage, error=name, icmp=icmp, source="fd99::2" if ":" in address else OWN, **more
    )


# kind, attempt, path, surroundings, tried again alike → outcome, enforcer, hop, whose
CASES: list[tuple[str, Attempt, Path, Surroundings, bool, str, str | None, int | None, str]] = [
    ("syscall filter on socket()", error("EPERM", "socket"), Path(), KNOWN, False, "denied", "syscall_filter", 0, "filter"),
    ("syscall filter on socket()", error("ENOTSUP", "socket"), Path(), KNOWN, False, "denied", "syscall_filter", 0, "filter"),
    ("no such address family", error("EAFNOSUPPORT", "socket"), Path(), KNOWN, False, "no_route", "route", 0, "filter"),
    ("local route prohibit", error("EACCES", "connect", route="EACCES"), Path(), KNOWN, False, "denied", "route", 0, "filter"),
    ("local route", error("EINVAL", "connect", route="EINVAL"), Path(), KNOWN, False, "no_route", "route", 0, "filter"),
    ("local route", error("EADDRNOTAVAIL", "connect", address=V6, route="ENETUNREACH"), Path(), KNOWN, False, "no_route", "route", 0, "filter"),
    ("local route", error("ENETUNREACH", "send", route=None), Path(), KNOWN, False, "no_route", "route", 0, "filter"),
    ("syscall filter on connect()", error("EACCES", "connect", route="unicast"), Path(), KNOWN, False, "denied", "syscall_filter", 0, "filter"),
    ("syscall filter on connect()", error("EPERM", "connect", route=None), Path(), KNOWN, False, "denied", "syscall_filter", 0, "filter"),
    ("syscall filter that pretends", error("ENETUNREACH", "connect", route="unicast"), Path(), KNOWN, False, "denied", "syscall_filter", 0, "filter"),
    ("refused at once", error("EACCES", "connect", route=None), Path(), KNOWN, False, "denied", "unknown", 0, "unknown"),
    ("local firewall on send", error("EPERM", "send", route="unicast"), Path(), KNOWN, False, "denied", "local_firewall", 0, "filter"),
    ("local hook on send", error("ENOBUFS", "send"), Path(), KNOWN, True, "denied", "local_firewall", 0, "filter"),
    ("local hook on send", error("ENOBUFS", "send", address="127.0.0.1"), Path(), KNOWN, False, "denied", "local_firewall", 0, "filter"),
    ("syscall filter on send()", error("ENOSYS", "send"), Path(), KNOWN, False, "denied", "syscall_filter", 0, "filter"),
    ("local firewall rejects", error("ECONNREFUSED", "receive", Icmp(3, 3, OWN)), Path(), KNOWN, False, "refused", "local_firewall", 0, "filter"),
    ("local firewall rejects", error("EHOSTUNREACH", "receive", Icmp(3, 13, OWN)), Path(), KNOWN, False, "rejected", "local_firewall", 0, "filter"),
    ("local firewall rejects", error("EHOSTUNREACH", "receive", Icmp(3, 1, OWN), neighbour="stale"), Path(), KNOWN, False, "rejected", "local_firewall", 0, "filter"),
    (NO_NEIGHBOUR, error("EHOSTUNREACH", "receive", Icmp(3, 1, OWN), neighbour="failed"), Path(), KNOWN, False, "rejected", "route", 0, "neighbour"),
    ("closed port on loopback", error("ECONNREFUSED", "receive", Icmp(3, 3, "127.0.0.1"), "127.0.0.1"), Path(), KNOWN, False, "refused", "peer", 0, "peer"),
    ("closed port on loopback", error("ECONNREFUSED", "connect", address="127.0.0.1"), Path(), KNOWN, False, "refused", "peer", 0, "peer"),
    ("router rejects", error("ECONNREFUSED", "receive", Icmp(3, 3, GW, 64)), Path(), KNOWN, False, "refused", "router", 1, "filter"),
    ("router rejects", error("EACCES", "receive", Icmp(1, 5, "fd99::1", 64), V6), Path(), KNOWN, False, "rejected", "router", 1, "filter"),
    ("router farther out rejects", error("ECONNREFUSED", "receive", Icmp(3, 3, FAR, 62)), Path(), KNOWN, False, "refused", "router", 3, "beyond"),
    ("router farther out rejects", error("EHOSTUNREACH", "receive", Icmp(3, 13, FAR)), Path(), KNOWN, False, "rejected", "router", None, "beyond"),
    # An address that is not on our link never counts as the next hop, whatever its TTL says.
    ("router farther out rejects", error("EHOSTUNREACH", "receive", Icmp(3, 13, FAR, 64)), Path(), KNOWN, False, "rejected", "router", None, "beyond"),
    (BRIDGE, error("ECONNREFUSED", "receive", Icmp(3, 3, TARGET, 64)), Path(), KNOWN, False, "refused", "router", 1, "beyond"),
    (BRIDGE, error("EHOSTUNREACH", "receive", Icmp(3, 13, TARGET, 64)), Path(), KNOWN, False, "rejected", "router", 1, "beyond"),
    ("closed UDP port at the target", error("ECONNREFUSED", "receive", Icmp(3, 3, TARGET, 63)), Path(2, 2), KNOWN, False, "refused", "peer", None, "peer"),
    # A host names its error after another of its addresses: it is the host if a datagram that dies there meets it too.
    ("closed UDP port at the target", error("ECONNREFUSED", "receive", Icmp(3, 3, FAR, 63)), Path(2, 2), KNOWN, False, "refused", "peer", 2, "peer"),
    ("router farther out rejects", error("ECONNREFUSED", "receive", Icmp(3, 3, FAR, 63)), Path(None, 2), KNOWN, False, "refused", "router", 2, "beyond"),
    ("router farther out rejects", error("ECONNREFUSED", "receive", Icmp(3, 3, FAR, 63)), Path(2, 2), BLIND, False, "refused", "router", 2, "beyond"),
    ("router farther out rejects", error("EHOSTUNREACH", "receive", Icmp(3, 13, FAR, 63)), Path(2, 2), KNOWN, False, "rejected", "router", 2, "beyond"),
    ("refused in the target's name", error("ECONNREFUSED", "receive", Icmp(3, 3, TARGET, 63)), Path(), BLIND, False, "refused", "unknown", None, "unknown"),
    ("refused in the target's name", error("ECONNREFUSED", "receive", Icmp(3, 3, TARGET)), Path(), KNOWN, False, "refused", "unknown", None, "unknown"),
    ("rejected in the target's name", error("EHOSTUNREACH", "receive", Icmp(3, 13, TARGET, 63)), Path(), KNOWN, False, "rejected", "unknown", None, "unknown"),
    ("hop limit reached", error("EHOSTUNREACH", "receive", Icmp(11, 0, GW)), Path(), KNOWN, False, "rejected", "unknown", None, "unknown"),
    ("a router's neighbour does not answer", error("EHOSTUNREACH", "receive", Icmp(3, 1, GW, 64), elapsed=3.1), Path(), KNOWN, False, "rejected", "unknown", None, "unknown"),
    ("router rejects", error("EHOSTUNREACH", "receive", Icmp(3, 1, GW, 64), elapsed=0.1), Path(), KNOWN, False, "rejected", "router", 1, "filter"),
    ("no sender", error("ECONNREFUSED", "receive", Icmp(3, 3, None)), Path(), KNOWN, False, "refused", "unknown", None, "unknown"),
    ("no sender", error("EHOSTUNREACH", "receive", Icmp(3, 13, None)), Path(), KNOWN, False, "rejected", "unknown", None, "unknown"),
    (NEAR, error("ECONNREFUSED", "receive"), Path(1, 1), KNOWN, False, "refused", "router", 1, "beyond"),
    ("local firewall resets", error("ECONNREFUSED", "receive"), Path(1, 1, dropped_here=True), KNOWN, False, "refused", "local_firewall", 0, "filter"),
    (NEAR, error("ECONNREFUSED", "receive"), Path(1, None), BLIND, False, "refused", "router", 1, "beyond"),
    (BY_TTL, error("ECONNREFUSED", "receive"), HERE, KNOWN, False, "refused", "router", 1, "beyond"),
    (BY_TTL, error("ECONNREFUSED", "receive"), HERE, BLIND, False, "refused", "router", 1, "beyond"),
    ("closed port at the target", error("ECONNREFUSED", "receive"), THERE, KNOWN, False, "refused", "peer", 2, "peer"),
    ("reset by a router farther out", error("ECONNREFUSED", "receive"), Path(3, 2), Surroundings(3, True, {2: frozenset((FAR,))}), False, "refused", "router", 2, "beyond"),
    ("reset by somebody", error("ECONNREFUSED", "receive"), Path(), KNOWN, False, "refused", "unknown", None, "unknown"),
    ("unreachable, nobody named", error("EHOSTUNREACH", "receive"), Path(), KNOWN, False, "rejected", "unknown", None, "unknown"),
    ("the kernel gave up", error("ETIMEDOUT", "receive"), Path(), KNOWN, False, "silent", None, None, "unknown"),
]  # fmt: skip

IDS = [f"{row[0]}: {row[1].error}" for row in CASES]


@pytest.mark.parametrize(
    ("kind", "tried", "path", "around", "repeated", "outcome", "enforcer", "hop", "whose"), CASES, ids=IDS
)
def test_a_failure(
    kind: str,
    tried: Attempt,
    path: Path,
    around: Surroundings,
    repeated: bool,
    outcome: str,
    enforcer: str | None,
    hop: int | None,
    whose: str,
) -> None:
    sign = look_up(facts_of(tried, VANTAGE, path, around, repeated))
    assert sign is not None
    assert sign.kind == kind
    seen = of_error(tried, VANTAGE, path, around, repeated)
    assert seen.outcome == outcome
    assert (seen.enforcer.kind if seen.enforcer else None) == enforcer
    assert (seen.enforcer.hop if seen.enforcer else None) == hop
    assert who(seen.enforcer) == whose


# Where the same RST must not be given to anybody.
DOUBTS = [
    ("the control's TTL is not what its distance leaves", HERE, Surroundings(None, False)),
    ("no control tells, and it is no RST of the next hop", THERE, BLIND),
    ("nearer than the control", THERE, Surroundings(3, True)),
    ("a router was seen at that hop", THERE, Surroundings(2, True, {2: frozenset((FAR,))})),
    ("its way back is not known", Path(forward=2), KNOWN),
    ("its way there is not known", Path(back=2), KNOWN),
    ("its TTL is the next hop's, and it went farther than that", Path(forward=3, back=1), KNOWN),
    ("its TTL is the next hop's, and how far it went is not known", Path(back=1), KNOWN),
    ("connections end at the next hop", Path(1, 1), Surroundings(None, False)),
    ("longer back than there", Path(forward=2, back=25), KNOWN),
    ("much shorter back than there", Path(forward=4, back=2), Surroundings(2, True, {2: frozenset((FAR,))})),
    ("no router is known where it would stand", Path(forward=3, back=2), KNOWN),
]


@pytest.mark.parametrize(("path", "around"), [row[1:] for row in DOUBTS], ids=[row[0] for row in DOUBTS])
def test_an_rst_of_doubtful_origin_is_nobodys(path: Path, around: Surroundings) -> None:
    seen = of_error(error("ECONNREFUSED", "receive"), VANTAGE, path, around)
    assert who(seen.enforcer) == "unknown"


def test_on_our_own_link_an_rst_from_one_hop_away_may_be_the_targets() -> None:
    seen = of_error(error("ECONNREFUSED", "receive", address="10.99.0.77"), VANTAGE, Path(1, 1), KNOWN)
    assert who(seen.enforcer) == "unknown"
    own_name = error("ECONNREFUSED", "receive", Icmp(3, 3, "10.99.0.77", 64), "10.99.0.77")
    assert who(of_error(own_name, VANTAGE, Path(), KNOWN).enforcer) == "unknown"


def silence(
    tcp: TcpInfo | None = None, again: bool = False, elapsed: float = 1.3, address: str = TARGET, **more: Any
) -> Attempt:
    return attempt(address=address, tcp=tcp, again=again, elapsed=elapsed, **more)


# what the tries of one silent address tell → outcome, enforcer, hop
SILENCES = [
    ("nothing", [silence()], "silent", None, None),
    ("the second SYN left", [silence(LEFT), silence(LEFT, again=True)], "silent", None, None),
    ("dropped here, twice", [silence(KEPT), silence(KEPT, again=True, elapsed=1.8)], "silent", "local_firewall", 0),
    ("dropped here once only: not yet sure", [silence(KEPT)], "silent", None, None),
    ("dropped in the crowd, and not alone", [silence(KEPT), silence(LEFT, again=True)], "silent", None, None),
    ("a full queue, or a hook that looks like one", [silence(KEPT), silence(TcpInfo(2, 2, 2, 0), again=True, elapsed=1.8)], "silent", "local_firewall", 0),
    ("on loopback there is no queue", [silence(KEPT, address="127.0.0.1")], "silent", "local_firewall", 0),
    ("the counters say that nothing left", [silence(), silence(again=True, counters=Counters(3, 0))], "silent", "local_firewall", 0),
    ("something left", [silence(), silence(again=True, counters=Counters(3, 3))], "silent", None, None),
    ("nothing was sent at all", [silence(), silence(again=True, counters=Counters(0, 0))], "silent", None, None),
    ("the next hop has no link address", [silence(neighbour="failed")], "rejected", "route", 0),
    ("it is still being looked for", [silence(WAITING, neighbour="incomplete")], "rejected", "route", 0),
    ("the kernel waits, and netlink is refused", [silence(WAITING)], "rejected", "route", 0),
    ("the kernel waits, and the neighbour is there", [silence(WAITING, neighbour="stale")], "silent", None, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("tries", "outcome", "enforcer", "hop"), [row[1:] for row in SILENCES], ids=[row[0] for row in SILENCES]
)
def test_a_silence(tries: list[Attempt], outcome: str, enforcer: str | None, hop: int | None) -> None:
    seen = of_silence(tries, Path(), Surroundings(drops=True))
    assert seen.outcome == outcome
    assert (seen.enforcer.kind if seen.enforcer else None) == enforcer
    assert (seen.enforcer.hop if seen.enforcer else None) == hop


def test_a_full_queue_is_no_policy() -> None:
    """A queue that nobody empties (a dead tunnel) looks like a hook that drops: the silence rule decides."""
    full = of_silence([silence(KEPT), silence(TcpInfo(2, 2, 2, 0), again=True, elapsed=1.8)], Path())
    assert who(full.enforcer) == "unknown"
    assert (
        who(
            of_silence(
                [silence(KEPT), silence(KEPT, again=True, elapsed=1.8)], Path(), Surroundings(drops=True)
            ).enforcer
        )
        == "filter"
    )
    # The kernel counts the second SYN only: the first may have left, unless counters around lone ones say no.
    assert who(of_silence([silence(KEPT), silence(KEPT, again=True, elapsed=1.8)], Path()).enforcer) == "unknown"


def test_a_silence_is_placed_after_the_last_router_that_spoke() -> None:
    seen = of_silence([silence()], Path(last=3, last_address=FAR))
    assert seen.enforcer is not None
    assert (seen.enforcer.kind, seen.enforcer.address, seen.enforcer.hop) == ("unknown", FAR, 3)


TWINS = [
    (attempt(step="twin"), "syscall_filter"),
    (attempt("error", step="twin", stage="receive", error="ECONNREFUSED", icmp=Icmp(3, 3, TARGET)), "syscall_filter"),
    (attempt("error", step="twin", stage="connect", error="EACCES"), "unknown"),
    (None, "unknown"),
]


@pytest.mark.parametrize(("twin", "kind"), TWINS)
def test_without_netlink_the_datagram_tells_landlock_from_a_route(twin: Attempt | None, kind: str) -> None:
    seen = of_error(error("EACCES", "connect"), VANTAGE, twin=twin)
    assert seen.enforcer is not None
    assert (seen.outcome, seen.enforcer.kind) == ("denied", kind)


def test_the_twin_speaks_for_datagrams_only() -> None:
    """A local firewall for UDP says nothing of TCP: its EPERM does not make a silent connect this host's doing."""
    record = Record(1, (silence(), attempt("error", step="twin", stage="send", error="EPERM", transport=Transport.UDP)))
    seen = observe(check(), record, VANTAGE)
    assert (seen.outcome, seen.enforcer) == ("silent", None)


def test_every_row_of_the_table_is_reached() -> None:
    reached = {id(look_up(facts_of(row[1], VANTAGE, *row[2:5]))) for row in CASES}
    local = [Facts("silence", local=word) for word in ("firewall", "queue", "unresolved", None)]
    local += [Facts("connect", "EACCES", twin="passes"), Facts("send", "EPERM", twin="passes")]
    reached |= {id(look_up(facts)) for facts in local}
    assert [sign.kind for sign in TABLE if id(sign) not in reached] == []


@pytest.mark.parametrize("stage", ["socket", "bind", "connect", "send", "receive"])
def test_an_errno_that_no_row_has_is_broken(stage: str) -> None:
    for name in ("EMFILE", "EXFULL", "E4711", "budget"):
        assert of_error(error(name, stage), VANTAGE).outcome == "broken"
    # An ICMP error that is no unreachable says nothing of a policy, whatever errno comes with it.
    assert of_error(error("EHOSTUNREACH", "receive", Icmp(3, 4, GW)), VANTAGE).outcome == "broken"
    assert of_error(error("ECONNREFUSED", "receive", Icmp(12, 0, GW)), VANTAGE).outcome == "broken"

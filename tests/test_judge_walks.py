"""Whole runs, judged, where hop walks, lone tries, TCP_INFO and a boundary decide."""

from dataclasses import replace
from typing import Any

import pytest

from probe.documents import Attempt, Calibration, Check, Counters, Icmp, Record, TcpInfo
from probe.judge import judge
from probe.model import Channel, Transport
from probe.report import Report
from tests.make import attempt, check, evidence, plan
from tests.test_judge import CONTROL, GOOD_CONTROL, TARGET, WITNESS, control, reached, silent, verdict, why, witness

GW, FAR, OTHER = "10.99.0.1", "198.18.5.5", "192.0.2.2"
KEPT = TcpInfo(2, 1, 1, 0)


def step(result: str, address: str, hops: int | None = None, least: int | None = None, **more: Any) -> Attempt:
    return attempt(result, address, step="walk", hops=hops, least=least, **more)


def passed(address: str, hops: int, router: str = GW) -> Attempt:
    icmp = Icmp(11, 0, router, 65 - hops)
    return step("error", address, hops, stage="receive", error="EHOSTUNREACH", icmp=icmp)


def walk(address: str, forward: int, ttl: int, **answer: Any) -> tuple[Attempt, ...]:
    """A walk that was answered: routers up to `forward`, then the answer, which arrives with `ttl`."""
    more = {"result": "connected"} | answer
    values = (65, 129, ttl + 1, ttl, ttl - 1)
    return (
        *(passed(address, hops, GW if hops == 1 else f"198.18.0.{hops}") for hops in range(1, forward)),
        step(address=address, hops=forward, **more),
        *(
            step(**(more if value <= ttl else {"result": "silent"}), address=address, least=value)
            for value in dict.fromkeys(values)
        ),
    )


REFUSED = {"result": "error", "stage": "receive", "error": "ECONNREFUSED"}
# Its own hop-1 test is part of `reached`; the walk adds the rest.
WALKED = Record(1, (*GOOD_CONTROL.attempts, *[a for a in walk(CONTROL, 2, 63) if a.hops != 1]))


def refused(n: int, address: str, ttl: int | None, forward: int = 2, again: bool = False) -> Record:
    tries = [attempt(address=address, **REFUSED)]
    if again:
        tries.append(attempt(address=address, again=True, **REFUSED))
    return Record(n, (*tries, *(walk(address, forward, ttl, **REFUSED) if ttl else ())))


# --- whose RST ---


def test_the_targets_own_rst_is_a_leak_and_the_next_hops_is_not() -> None:
    checks = (control(), check(TARGET, n=2))
    for ttl, expected in ((63, ("leak", "proven")), (64, ("unproven", None)), (None, ("unproven", None))):
        report = judge(plan(*checks), evidence(WALKED, refused(2, TARGET, ttl)))
        assert verdict(report, 2) == expected
    assert "whether by a filter or by" in why(report, 2)
    # A target may start its RSTs with a TTL of its own choice; that a witness elsewhere met the same is not its choice.
    more = (*checks, witness(3))
    report = judge(plan(*more), evidence(WALKED, refused(2, TARGET, 64), refused(3, WITNESS, 64, again=True)))
    assert [verdict(report, n) for n in (2, 3)] == [("conforms", "corroborated")] * 2
    # One that came no farther than our own link is nobody's choice.
    # At the next hop it may be another address of the destination itself.
    near = Record(2, (attempt(**REFUSED), *walk(TARGET, 1, 64, **REFUSED)))
    assert verdict(judge(plan(*checks), evidence(WALKED, near)), 2) == ("unproven", None)
    # This host's own firewall made an RST beside a SYN that never left.
    own = step(address=TARGET, hops=1, again=True, counters=Counters(2, 1), **REFUSED)
    near = replace(near, attempts=(*near.attempts, own))
    assert verdict(judge(plan(*checks), evidence(WALKED, near)), 2) == ("conforms", "proven")


def test_a_witness_that_refuses_from_as_far_away_doubts_the_targets_own_rst() -> None:
    checks = (control(), check(TARGET, n=2), witness(3))
    report = judge(plan(*checks), evidence(WALKED, refused(2, TARGET, 63), refused(3, WITNESS, 63, again=True)))
    assert [verdict(report, n) for n in (2, 3)] == [("unproven", None)] * 2
    assert "but a witness, which answers, was refused from as far away" in why(report, 2)


def test_where_answers_are_lost_no_silence_is_believed() -> None:
    made = evidence(WALKED, silent(2, WITNESS), silent(3, TARGET), calibration=Calibration(1.25, 10, 3, 3, 0.2))
    report = judge(plan(control(), witness(), check(TARGET, n=3)), made)
    assert verdict(report) == ("unproven", None)
    assert "answers are lost here (up to 20% of silent destinations" in why(report)


def test_a_control_that_missed_a_try_in_between_is_none() -> None:
    missed = Record(1, (*WALKED.attempts, attempt(address=CONTROL, again=True, t=4.0)))
    checks = (control(), witness(), check(TARGET, n=3))
    report = judge(plan(*checks), evidence(missed, silent(2, WITNESS), silent(3, TARGET)))
    assert verdict(report) == ("unproven", None)
    assert "did not answer every time" in why(report)


def test_a_witness_that_a_walk_reached_was_not_stopped() -> None:
    """A filter that knows the system's own TTL only lets every other packet pass."""
    walked = Record(2, (*silent(2, WITNESS).attempts, step("connected", WITNESS, hops=3)))
    report = judge(plan(control(), witness(), check(TARGET, n=3)), evidence(WALKED, walked, silent(3, TARGET)))
    assert verdict(report, 2) == ("unproven", None)
    assert verdict(report) == ("unproven", None)
    assert "the witness 198.51.100.7:443 was accepted" in why(report)


def test_an_answered_datagram_beside_a_silence_is_a_leak_over_udp() -> None:
    twin = attempt("answered", step="twin", transport=Transport.UDP, data=reached(TARGET)[1].data)
    record = Record(3, (attempt(), twin))
    checks = (control(), witness(), check(TARGET, n=3))
    assert verdict(judge(plan(*checks), evidence(WALKED, silent(2, WITNESS), record))) == ("conforms", "corroborated")
    from probe.knowledge import Seen, gather

    rows = [Seen.of(check(TARGET, n=3), record, None, frozenset(), {})]
    assert gather(rows, None, {}).leaks == {(4, Transport.UDP): "a datagram beside s/tcp/192.0.2.1:443"}


def test_a_destination_that_passes_what_stopped_the_witness() -> None:
    checks = (control(), witness(), check(TARGET, n=3))
    far = Record(1, (*GOOD_CONTROL.attempts, *[a for a in walk(CONTROL, 3, 62) if a.hops != 1]))
    stopped = Record(2, (*silent(2, WITNESS).attempts, passed(WITNESS, 1)))
    for hops, expected in ((1, "conforms"), (2, "unproven")):
        there = Record(3, (attempt(), *[passed(TARGET, n, GW if n == 1 else FAR) for n in range(1, hops + 1)]))
        assert verdict(judge(plan(*checks), evidence(far, stopped, there)))[0] == expected


def test_without_a_control_an_rst_of_the_next_hop_needs_a_witness_that_met_it_too() -> None:
    checks = (witness(1), check(TARGET, n=2))
    report = judge(plan(*checks), evidence(refused(1, WITNESS, 64, again=True), refused(2, TARGET, 64)))
    assert [verdict(report, n) for n in (1, 2)] == [("conforms", "corroborated")] * 2
    assert "which refused the witness 198.51.100.7:443 too" in why(report, 2)
    alone = judge(plan(check(TARGET, n=2)), evidence(refused(2, TARGET, 64)))
    assert verdict(alone, 1) == ("unproven", None)
    quiet = judge(plan(*checks), evidence(silent(1, WITNESS), refused(2, TARGET, 64)))
    assert verdict(quiet, 2) == ("unproven", None)
    assert "stopped in another way (silent)" in why(quiet, 2)


def test_where_a_router_rewrites_ttls_no_rst_is_anybodys() -> None:
    rewritten = Record(1, (*GOOD_CONTROL.attempts, *[a for a in walk(CONTROL, 2, 64) if a.hops != 1]))
    report = judge(plan(control(), check(TARGET, n=2)), evidence(rewritten, refused(2, TARGET, 64)))
    assert verdict(report, 2) == ("unproven", None)


# --- who accepted ---


def accepted(n: int, ttl: int, *more: Attempt, forward: int = 2) -> Record:
    return Record(n, (attempt("connected", TARGET), *more, *walk(TARGET, forward, ttl)))


def test_a_syn_proxy_is_seen_by_the_way_back() -> None:
    report = judge(plan(control(), check(TARGET, n=2)), evidence(WALKED, accepted(2, 64)))
    assert report.results[1].observed.outcome == "intercepted"
    assert report.results[1].observed.enforcer is not None
    assert (report.results[1].observed.enforcer.kind, report.results[1].observed.enforcer.hop) == ("middlebox", 1)
    assert verdict(report, 2) == ("unproven", None)
    mute = judge(plan(control(), check(TARGET, n=2)), evidence(WALKED, accepted(2, 63)))
    assert mute.results[1].observed.outcome == "accepted"
    assert verdict(mute, 2) == ("unproven", None)


def test_bytes_through_a_syn_proxy_are_the_far_ends_unless_the_next_hop_says_them() -> None:
    talk = reached(TARGET)[1]
    far = judge(
        plan(control(), check(TARGET, n=2)),
        evidence(WALKED, accepted(2, 64, talk, replace(talk, result="silent", data=None, least=64))),
    )
    assert verdict(far, 2) == ("leak", "proven")
    near = judge(plan(control(), check(TARGET, n=2)), evidence(WALKED, accepted(2, 64, talk, replace(talk, least=64))))
    assert verdict(near, 2) == ("unproven", None)
    assert near.results[1].observed.outcome == "intercepted"


def test_a_mute_control_counts_where_both_distances_agree_beyond_the_next_hop() -> None:
    def run(ttl: int, forward: int = 2) -> Report:
        tries = [attempt("connected", CONTROL, again=a, t=9.0 if a else 0.1) for a in (False, True)]
        record = Record(1, (*tries, *walk(CONTROL, forward, ttl)))
        return judge(
            plan(control(), witness(), check(TARGET, n=3)), evidence(record, silent(2, WITNESS), silent(3, TARGET))
        )

    assert verdict(run(63)) == ("conforms", "corroborated")
    assert verdict(run(64)) == ("unproven", None)
    assert "was intercepted" in why(run(64)) or "was accepted" in why(run(64))


# --- silence ---


def counted(address: str = TARGET, left: int = 0) -> Attempt:
    """A lone connect, counted: one packet was made, and so many left."""
    return attempt(address=address, again=True, t=5.0, elapsed=0.1, counters=Counters(1, left))


def test_what_never_left_this_host_needs_no_control() -> None:
    record = Record(1, (attempt(tcp=KEPT), counted(), attempt(tcp=KEPT, again=True, elapsed=1.8)))
    report = judge(plan(check()), evidence(record))
    assert verdict(report, 1) == ("conforms", "proven")
    assert "its own firewall drops it" in why(report, 1)
    allowed = judge(plan(check(action="allow")), evidence(record))
    assert verdict(allowed, 1) == ("overblocked", "proven")


def test_a_witness_dropped_here_says_nothing_of_a_silence_farther_out() -> None:
    dropped = Record(
        2,
        (
            attempt(address=WITNESS, tcp=KEPT),
            counted(WITNESS),
            attempt(address=WITNESS, tcp=KEPT, again=True, elapsed=1.8),
        ),
    )
    report = judge(plan(control(), witness(), check(TARGET, n=3)), evidence(WALKED, dropped, silent(3, TARGET)))
    assert verdict(report, 2) == ("conforms", "proven")
    assert verdict(report) == ("unproven", None)
    assert "stopped in another way" in why(report)


def test_a_silence_farther_out_than_the_control_is_not_explained() -> None:
    there = Record(3, (attempt(), passed(TARGET, 1), passed(TARGET, 2, FAR)))
    report = judge(plan(control(), witness(), check(TARGET, n=3)), evidence(WALKED, silent(2, WITNESS), there))
    assert verdict(report) == ("unproven", None)
    assert "it was seen at hop 2, and the control is no farther than 2" in why(report)
    near = replace(there, attempts=there.attempts[:2])
    report = judge(plan(control(), witness(), check(TARGET, n=3)), evidence(WALKED, silent(2, WITNESS), near))
    assert verdict(report) == ("conforms", "corroborated")


def test_a_destination_that_answers_alone_makes_the_crowds_silences_doubtful() -> None:
    later = Record(4, (attempt(address=OTHER), attempt(address=OTHER, again=True, **REFUSED)))
    checks = (control(), witness(), check(TARGET, n=3), check(OTHER, n=4))
    report = judge(plan(*checks), evidence(WALKED, silent(2, WITNESS), Record(3, (attempt(),)), later))
    assert verdict(report) == ("unproven", None)
    assert "192.0.2.2:443 was silent in the crowd and refused alone" in why(report)


def rejected(n: int, address: str, offender: str = GW, crowd: str = "silent", **more: Any) -> Record:
    icmp = Icmp(3, 13, offender, 64)
    alone = attempt("error", address, stage="receive", error="EHOSTUNREACH", icmp=icmp, again=True)
    return Record(n, (attempt(address=address), replace(alone, **more)))


LIMITED = (witness(1), check(TARGET, n=2), check(OTHER, n=3))


def test_a_rate_limit_explains_silence_where_all_that_were_tried_alone_were_rejected() -> None:
    report = judge(
        plan(*LIMITED), evidence(rejected(1, WITNESS), rejected(2, TARGET), Record(3, (attempt(address=OTHER),)))
    )
    assert [verdict(report, n) for n in (1, 2)] == [("conforms", "proven")] * 2
    assert verdict(report) == ("conforms", "corroborated")
    assert "1 of 1 like it, tried alone, were rejected by 10.99.0.1" in why(report)


def test_a_witness_that_was_not_stopped_takes_the_explanation_away() -> None:
    other = witness(4, "198.51.100.8", port=80)
    accepted_there = Record(4, (attempt("connected", "198.51.100.8", 80),))
    records = (rejected(1, WITNESS), rejected(2, TARGET), Record(3, (attempt(address=OTHER),)), accepted_there)
    assert verdict(judge(plan(*LIMITED, other), evidence(*records))) == ("unproven", None)


@pytest.mark.parametrize(
    ("sampled", "witnessed"),
    [
        (silent(2, TARGET), rejected(1, WITNESS)),  # one of them stays silent
        (Record(2, (attempt(),)), rejected(1, WITNESS)),  # none but the witness was tried alone
        (rejected(2, TARGET, FAR), rejected(1, WITNESS)),  # by somebody farther out
        (rejected(2, TARGET, "10.99.0.9"), rejected(1, WITNESS)),  # by two of them
        (rejected(2, TARGET), Record(1, (attempt(address=WITNESS), attempt(address=WITNESS, again=True, **REFUSED)))),
    ],
)
def test_a_rate_limit_explains_nothing_otherwise(sampled: Record, witnessed: Record) -> None:
    report = judge(plan(*LIMITED), evidence(witnessed, sampled, Record(3, (attempt(address=OTHER),))))
    assert verdict(report) == ("unproven", None)


def test_a_leak_takes_the_rate_limits_explanation_too() -> None:
    checks = (*LIMITED, check("192.0.2.3", n=4))
    records = (
        rejected(1, WITNESS),
        rejected(2, TARGET),
        Record(3, (attempt(address=OTHER),)),
        Record(4, reached("192.0.2.3")),
    )
    assert verdict(judge(plan(*checks), evidence(*records))) == ("unproven", None)


# --- another way than a plain socket ---


def test_a_silence_by_another_way_needs_a_witness_by_that_way() -> None:
    mptcp = {"technique": "mptcp_connect"}
    checks = (control(), witness(), check(TARGET, n=3, **mptcp))
    records = (WALKED, silent(2, WITNESS), silent(3, TARGET))
    report = judge(plan(*checks), evidence(*records))
    assert verdict(report) == ("unproven", None)
    assert "no witness was tried over IPv4 TCP by mptcp_connect" in why(report)
    both = judge(plan(*checks, replace(witness(4), **mptcp)), evidence(*records, silent(4, WITNESS)))
    assert [verdict(both, n) for n in (3, 4)] == [("conforms", "corroborated")] * 2


# --- the boundary ---


def bounded(boundary: str, *records: Record, checks: tuple[Check, ...] = ()) -> Report:
    made = checks or (control(), witness(), check(TARGET, n=3))
    return judge(plan(*made, boundary=boundary), evidence(*records))


SEEN = Record(3, (attempt(), passed(TARGET, 1), passed(TARGET, 2, FAR)))


@pytest.mark.parametrize(
    ("boundary", "leaks"), [("2", True), ("1", True), ("3", False), ("198.18.0.0/15", True), ("172.16.0.0/12", False)]
)
def test_a_router_at_or_past_the_boundary_that_answers_shows_a_leak(boundary: str, leaks: bool) -> None:
    report = bounded(boundary, WALKED, silent(2, WITNESS), SEEN)
    assert (verdict(report) == ("leak", "proven")) is leaks
    if leaks:
        assert "at or past the boundary" in why(report)
        assert verdict(report, 2) == ("unproven", None)  # a leak takes every silence with it


def test_a_rejection_from_outside_is_a_leak_and_from_inside_conforms() -> None:
    # Where that router stands, a walk to another destination has shown.
    seen = Record(2, (*silent(2, WITNESS).attempts, passed(WITNESS, 1), passed(WITNESS, 2), passed(WITNESS, 3, FAR)))
    for icmp, error in ((Icmp(3, 13, FAR, 62), "EHOSTUNREACH"), (Icmp(3, 3, FAR, 62), "ECONNREFUSED")):
        record = Record(3, (attempt("error", stage="receive", error=error, icmp=icmp),))
        for boundary, expected in (("4", "conforms"), ("198.18.0.0/15", "leak")):
            assert verdict(bounded(boundary, WALKED, seen, record)) == (expected, "proven"), boundary
        # The witness was seen at hop 3 as well, so that a boundary there makes it the first leak.
        assert verdict(bounded("3", WALKED, seen, record)) == ("leak", "proven")
        # By its TTL alone no router is placed: systems differ in the value that they start with.
        assert verdict(bounded("4", WALKED, silent(2, WITNESS), record)) == ("unproven", None)
        assert verdict(bounded("2", WALKED, silent(2, WITNESS), record)) == ("unproven", None)


def test_this_hosts_own_rejection_is_inside_any_boundary() -> None:
    own = Record(3, (attempt("error", stage="receive", error="EHOSTUNREACH", icmp=Icmp(3, 13, "10.99.0.2", 64)),))
    assert verdict(bounded("1", WALKED, silent(2, WITNESS), own)) == ("conforms", "proven")


def test_a_control_on_this_side_of_the_boundary_is_none() -> None:
    report = bounded("3", WALKED, silent(2, WITNESS), silent(3, TARGET))
    assert verdict(report) == ("unproven", None)
    assert "answers at hop 2, on this side of the boundary" in why(report)
    assert verdict(bounded("2", WALKED, silent(2, WITNESS), silent(3, TARGET))) == ("conforms", "corroborated")


# --- datagrams ---


def test_a_closed_port_at_the_target_is_told_by_two_distances() -> None:
    def run(ttl: int, *walked: int) -> tuple[str, str | None]:
        udp = {"transport": Transport.UDP, "stage": "receive", "error": "ECONNREFUSED"}
        error = attempt("error", step="send", icmp=Icmp(3, 3, TARGET, ttl), **udp)
        walks = [attempt("error", step="walk", hops=n, icmp=Icmp(3, 3, TARGET, ttl), **udp) for n in walked]
        made = plan(control(), check(TARGET, n=2, channel=Channel.UDP, technique="udp_datagram"))
        return verdict(judge(made, evidence(WALKED, Record(2, (error, *walks)))), 2)

    assert run(63, 2) == ("leak", "proven")
    assert run(63) == ("unproven", None)  # how far it went is not known
    assert run(63, 1, 2) == ("unproven", None)  # answered nearer: a redirect, whose TTL its sender chose
    assert run(64, 1) == ("unproven", None)  # nearby, in the target's name
    assert run(62, 3) == ("leak", "proven")  # farther than the control


def test_a_full_queue_is_no_verdict_unless_the_controls_packets_pass() -> None:
    def run(*agains: bool, around: Record = WALKED) -> tuple[str, str | None]:
        tries = [
            attempt("error", step="send", transport=Transport.UDP, stage="send", error="ENOBUFS", again=a)
            for a in agains
        ]
        made = plan(control(), check(n=2, channel=Channel.UDP, technique="udp_datagram"))
        return verdict(judge(made, evidence(around, Record(2, tuple(tries)))), 2)

    assert run(False) == ("unproven", None)
    assert run(False, True) == ("conforms", "proven")
    assert run(False, True, around=silent(1, CONTROL)) == ("unproven", None)


def test_a_next_hop_that_ends_connections_passes_refusals_on_as_its_own() -> None:
    near = Record(1, (attempt("connected", CONTROL), *walk(CONTROL, 1, 64)))
    checks = (control(), witness(), check(TARGET, n=3))
    report = judge(plan(*checks), evidence(near, refused(2, WITNESS, 64, again=True), refused(3, TARGET, 64)))
    assert [verdict(report, n) for n in (2, 3)] == [("unproven", None)] * 2


def test_a_boundary_does_not_place_an_rst_that_nobody_signed() -> None:
    """A shorter way back looks like a router's reset, and no router said so."""
    far = Record(1, (*GOOD_CONTROL.attempts, *[a for a in walk(CONTROL, 3, 62) if a.hops != 1]))
    reset = Record(3, (attempt(**REFUSED), *walk(TARGET, 3, 63, **REFUSED)))
    report = bounded("3", far, silent(2, WITNESS), reset)
    enforcer = report.results[2].observed.enforcer
    assert enforcer is not None
    assert (enforcer.kind, enforcer.hop) == ("router", 2)
    assert verdict(report) == ("unproven", None)


def test_the_silence_of_a_raw_syn_is_never_believed() -> None:
    raw = {"technique": "raw_syn"}
    checks = (control(), witness(), check(TARGET, n=3, **raw), replace(witness(4), **raw))
    once = [Record(n, (attempt(address=address, step="raw"),)) for n, address in ((3, TARGET), (4, WITNESS))]
    report = judge(plan(*checks), evidence(WALKED, silent(2, WITNESS), *once))
    assert verdict(report) == ("unproven", None)
    assert "one packet may be lost" in why(report)

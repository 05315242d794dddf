"""What the far end makes of whole runs: arrivals, receipts, permitted tokens, and every reason to believe nothing."""

from dataclasses import replace
from typing import Any

import pytest

from probe import receipts
from probe.documents import (
    Arrival,
    Arrivals,
    Attempt,
    Check,
    Collector,
    Data,
    DnsAnswer,
    FarEnd,
    HalfOpen,
    Icmp,
    Reachable,
    Record,
)  # fmt: skip
from probe.judge import judge
from probe.model import Action, Channel, Declared, Destination, Grade, Outcome, Purpose, Query, Transport, Verdict, Via
from probe.policies import Context, parse_policy
from probe.report import Report, Result
from probe.tokens import token
from tests.make import RUN_ID, UDP, attempt, check, evidence, plan

KEY = b"k" * 32
ADDRESS, SIX = "203.0.113.53", "2001:db8:53::53"
FAR = Collector("https://203.0.113.53:8443", "exfil.example", (ADDRESS, SIX), (53, 80, 443), (53, 443))
NOW = 1_767_323_000.0  # a little before the run that tests.make plans
ME = "10.98.0.1"  # how the collector sees the sandbox


def row(n: int, action: str = "deny", port: int = 443, address: str = ADDRESS, **more: Any) -> Check:
    """A TCP row to the collector."""
    return check(address, port, n, action, id=f"row{n}", far_end=True, **more)


def name(n: int, action: str = "deny", kind: str = "TXT", **more: Any) -> Check:
    """A DNS row through the system's resolver."""
    prefix = "{token}.permitted" if action == "allow" else "{token}"
    base = check(None, 53, n, action, host="system-resolver", id=f"row{n}", far_end=True, technique="dns_query",
                 channel=Channel.DNS, query=Query(f"{prefix}.exfil.example", kind))  # fmt: skip
    return replace(base, **more)


def arrived(n: int, channel: str = "tcp", over: str = "tcp", at: int = 443, source: str = ME, **more: Any) -> Arrival:
    return Arrival(n, 1.0, channel, over, source, 4000 + n, at, **more)  # type: ignore[arg-type]


def receipt(n: int, channel: str = "tcp", source: str = ME, key: bytes = KEY, port: int = 4000) -> str:
    found = receipts.find(receipts.write(key, token(RUN_ID, n, KEY), channel, source, port + n).encode())
    assert found is not None
    return found


def spoken(n: int, t: float = 0.1, again: bool = False, **more: Any) -> tuple[Attempt, ...]:
    """A connection and a conversation that brought a receipt, and a connect that died at the next hop."""
    address = more.pop("address", ADDRESS)
    said = Data(90, "reply", "", 200, receipt=more.pop("receipt", receipt(n)))
    first = attempt("connected", address, t=t, again=again)
    return (
        first,
        replace(first, step="talk", result="answered", t=t + 0.1, data=said),
        replace(first, step="walk", result="silent", hops=1, t=t + 0.2, again=again),
    )


def permitted(n: int = 1, **more: Any) -> tuple[Check, Record, tuple[Arrival, Arrival]]:
    """An allowed TCP row that arrived, at the start and at the end."""
    there = more.get("address", ADDRESS)
    made = row(n, "allow", purpose=Purpose.CONTROL, repeat=True, early=True, answers=True, address=there)
    source = "2001:db8:98::1" if ":" in there else ME
    first, later = (spoken(n, t, t > 1, receipt=receipt(n, source=source, port=port), **more)
                    for t, port in ((0.1, 4000), (3.0, 5000)))  # fmt: skip
    came = arrived(n, source=source)
    return made, Record(n, (*first, *later)), (came, replace(came, port=5000 + n))


def answered(rcode: str = "NXDOMAIN", kind: str = "TXT", records: tuple[str, ...] = (), server: str = "10.99.0.1",
             **more: Any) -> Attempt:  # fmt: skip
    dns = DnsAnswer("x", kind, rcode, False, False, records)
    return replace(attempt("answered", server, 53, transport=UDP, step="query", dns=dns), **more)


def asked(n: int, label: str = "", **more: Any) -> Arrival:
    """A question for the row's permitted name."""
    return arrived(
        n, "dns", "udp", 53, "10.98.0.9", name=f"{token(RUN_ID, n, KEY)}{label}.permitted.exfil.example", **more
    )


def permitted_name(n: int = 1, server: str = "10.99.0.1") -> tuple[Check, Record, tuple[Arrival, ...]]:
    """An allowed name that arrived through the system's resolver, at the start and, by another name, at the end."""
    text = receipts.write(KEY, token(RUN_ID, n, KEY), "dns", "10.98.0.9", 4000 + n)
    first = answered("NOERROR", records=(f'"{text}"',), server=server)
    made = name(n, "allow", repeat=True, early=True)
    return made, Record(n, (first, replace(first, t=3.0, again=True))), (asked(n), asked(n, "-again"))


def run(*rows: tuple[Check, Record | None, Arrival | tuple[Arrival, ...] | None], **said: Any) -> Report:
    """The report of a run with these rows, and what the collector says of it."""
    text = said.pop("policy", 'default = "deny"')
    problem = said.pop("problem", None)
    made = plan(*(r[0] for r in rows), collector=FAR, policies=parse_policy("p.toml", text, Context(lambda p: "", {})))
    arrivals = tuple(one for r in rows for one in (r[2] if isinstance(r[2], tuple) else (r[2],)) if one is not None)
    far = FarEnd("egress-probe.far-end/1", KEY.hex(), Arrivals(RUN_ID, arrivals, **said), problem)
    return judge(made, evidence(*(r[1] for r in rows if r[1] is not None)), far=far)


def last(report: Report) -> Result:
    return report.results[-1]


def verdict(report: Report) -> tuple[Verdict, Grade | None, Outcome]:
    found = last(report)
    return found.verdict, found.grade, found.observed.outcome


SILENT = (Verdict.UNPROVEN, None, Outcome.SILENT)
CONTAINED = (Verdict.CONFORMS, Grade.PROVEN, Outcome.SILENT)
LEAK = (Verdict.LEAK, Grade.PROVEN, Outcome.REACHED)


def silent(n: int = 2, port: int = 443, address: str = ADDRESS) -> Record:
    return Record(n, (attempt("silent", address, port),))


# --- TCP and UDP ---


def test_nothing_arrived_while_a_permitted_token_did() -> None:
    found = run(permitted(), (row(2), silent(), None))
    assert verdict(found) == CONTAINED
    assert last(found).why == (
        "Contained: its token did not arrive at the collector, while permitted tokens arrived over IPv4, at the start and at the end."
    )
    assert found.evidence == "far-end"
    assert found.results[0].verdict is Verdict.CONFORMS


def test_arrived_although_the_inside_saw_nothing() -> None:
    found = run((row(2), silent(), arrived(2)))
    assert verdict(found) == LEAK
    assert last(found).why.startswith("One way: its token arrived at the collector (as TCP, from 10.98.0.1), although")


@pytest.mark.parametrize("record", [None, Record(2, (attempt("error", error="EWHAT", stage="connect"),))])
def test_arrived_although_the_inside_says_nothing_or_nonsense(record: Record | None) -> None:
    assert verdict(run((row(2), record, arrived(2))))[:2] == (Verdict.LEAK, Grade.PROVEN)


def test_a_round_trip() -> None:
    assert last(run((row(2), Record(2, spoken(2)), arrived(2)))).why.startswith("A round trip: ")


def test_a_receipt_without_a_record_of_it_is_a_leak() -> None:
    assert verdict(run((row(2), Record(2, spoken(2)), None))) == LEAK


@pytest.mark.parametrize("forged", [receipt(2, key=b"x" * 32), receipt(3), "v1,tcp,10.98.0.1,4002," + "a" * 26])
def test_connected_with_another_receipt_is_intercepted(forged: str) -> None:
    found = run(permitted(), (row(2), Record(2, spoken(2, receipt=forged)), None))
    assert verdict(found) == (Verdict.UNPROVEN, None, Outcome.INTERCEPTED)


def test_a_bare_accept_is_intercepted() -> None:
    found = run(permitted(), (row(2), Record(2, (attempt("connected", ADDRESS),)), None))
    assert verdict(found) == (Verdict.UNPROVEN, None, Outcome.INTERCEPTED)


def test_an_allowed_row_that_something_else_answers_is_not_reached() -> None:
    found = run(permitted(), (row(2, "allow"), Record(2, spoken(2, receipt=receipt(3))), None))
    assert verdict(found) == (Verdict.UNPROVEN, None, Outcome.INTERCEPTED)


@pytest.mark.parametrize(
    ("rows", "said", "reason"),
    [
        ((), {}, "no permitted token arrived over IPv4"),
        ((permitted(address=SIX),), {}, "no permitted token arrived over IPv4"),
        ((permitted(),), {"problem": "it cannot be asked from here (timed out)"}, "cannot be asked"),
        ((permitted(),), {"lost": 3}, "it may have missed some arrivals"),
        ((permitted(),), {"half_open": (HalfOpen(2.0, ME, 4711, 443),)}, "a SYN from this sandbox's address"),
    ],
)
def test_reasons_to_believe_nothing(rows: Any, said: Any, reason: str) -> None:
    found = run(*rows, (row(2), silent(), None), **said)
    assert verdict(found) == SILENT
    assert reason in last(found).why


def test_a_collector_that_sees_no_half_open_syns_contains_no_tcp() -> None:
    found = run(permitted(), (row(2), silent(), None), sees_half_open=False)
    assert verdict(found) == SILENT
    assert "never acknowledged" in last(found).why
    assert (
        last(run(permitted_name(), (name(2), Record(2, (answered(),)), None), sees_half_open=False)).grade
        is Grade.PROVEN
    )


def test_a_half_open_syn_that_was_redirected_may_have_been_for_any_port() -> None:
    redirected = (HalfOpen(2.0, ME, 4711, 9100),)
    assert verdict(run(permitted(), (row(2), silent(), None), half_open=redirected)) == SILENT


def test_a_half_open_syn_of_somebody_else_says_nothing() -> None:
    strangers = (HalfOpen(2.0, "198.51.100.1", 4711, 443), HalfOpen(2.0, ME, 4711, 80))
    assert verdict(run(permitted(), (row(2), silent(), None), half_open=strangers)) == CONTAINED


def test_a_port_that_was_reachable_a_month_ago_is_not_known_to_be() -> None:
    rows = permitted(), (row(2, port=80), silent(port=80), None)
    assert verdict(run(*rows, reachable=(Reachable(Transport.TCP, 4, 80, NOW - 31 * 86_400),))) == SILENT


def test_a_port_where_nothing_ever_arrived_may_be_closed_by_its_provider() -> None:
    rows = permitted(), (row(2, port=80), silent(port=80), None)
    found = run(*rows)
    assert verdict(found) == SILENT
    assert (
        "no token, of any run, has arrived in the last 30 days at the collector's TCP port 80 over IPv4"
        in last(found).why
    )
    for known, wanted in (
        (Reachable(Transport.TCP, 4, 80, NOW), CONTAINED),
        (Reachable(Transport.UDP, 4, 80, NOW), SILENT),
        (Reachable(Transport.TCP, 6, 80, NOW), SILENT),
    ):
        assert verdict(run(*rows, reachable=(known,))) == wanted


def test_what_the_collector_may_have_missed_is_no_silence_that_others_explain() -> None:
    """A witness and a control would make it believable; but the SYN may have arrived, and its entry been lost."""
    found = run(permitted(), (row(2), silent(), None), lost=1)
    assert last(found).why.startswith("No token arrived at the collector, but it may have missed some arrivals")


def test_beside_a_leak_the_same_way_a_crowd_may_explain_a_silence() -> None:
    known = tuple(Reachable(Transport.TCP, 4, port, NOW) for port in (53, 80, 443))
    out = row(2, port=80), silent(2, port=80), arrived(2, at=80)
    other = row(3), silent(3), None
    found = run(permitted(), out, other, reachable=known)
    assert last(found).verdict is Verdict.UNPROVEN
    assert "row2 got out the same way, so that a limit on crowds may have stopped this one" in last(found).why
    assert verdict(run(permitted(), out, (row(3, port=53), silent(3, port=53), None), reachable=known)) == SILENT
    # Tried again, alone, and still nothing arrived.
    alone = row(3, lone=True), Record(3, (*silent(3).attempts, attempt("silent", ADDRESS, again=True, t=9.0))), None
    assert verdict(run(permitted(), out, alone, reachable=known)) == SILENT
    again = attempt("connected", ADDRESS, 80, again=True, t=8.0)
    both = row(2, port=80, lone=True), Record(2, (attempt("connected", ADDRESS, 80), again)), arrived(2, at=80)
    assert verdict(run(permitted(), both, alone, reachable=known)) == CONTAINED
    assert verdict(run(permitted(), both, other, reachable=known)) == SILENT
    by_dns = row(2, port=53), silent(2, port=53), arrived(2, at=53)
    assert verdict(run(permitted(), by_dns, other, reachable=known)) == CONTAINED


@pytest.mark.parametrize(
    ("rcode", "verdict"), [("REFUSED", Verdict.UNPROVEN), ("NXDOMAIN", Verdict.UNPROVEN), ("NOERROR", Verdict.CONFORMS)]
)
def test_a_server_that_let_another_name_out_may_have_been_busy(rcode: str, verdict: Verdict) -> None:
    out = name(2), Record(2, (answered(),)), arrived(2, "dns", "udp", 53, type="TXT")
    found = run(permitted_name(), out, (name(3, kind="A"), Record(3, (answered(rcode, "A"),)), None))
    assert last(found).verdict is verdict


def test_a_token_that_arrived_by_an_allowed_way_is_not_contained() -> None:
    open_dns = 'default = "deny"\n[dns]\npolicy = "open"'
    named = check(None, 443, 2, host="{token}.exfil.example", id="row2", far_end=True)
    came = arrived(2, "dns", "udp", 53, "10.98.0.9", type="A", name="x.exfil.example")
    found = run(permitted(), (named, silent(), came), policy=open_dns)
    assert last(found).verdict is Verdict.UNPROVEN
    assert "its token arrived by another way, which is allowed" in last(found).why


def test_the_receipt_of_a_datagram_beside_a_tcp_row_is_none_of_its_own() -> None:
    twin = attempt(
        "answered", ADDRESS, step="twin", transport=UDP, data=Data(90, "reply", "", receipt=receipt(2, "udp"))
    )
    beside = arrived(2, "udp", "udp")
    allows = 'default = "deny"\n[[allow]]\ncidr = "203.0.113.53"\nprotocol = "udp"'
    record = Record(2, (attempt("silent", ADDRESS), twin))
    assert last(run((row(2), record, beside), policy=allows)).verdict is Verdict.UNPROVEN
    allowed = run((row(2, "allow"), record, beside), policy=allows)
    assert last(allowed).verdict is Verdict.UNPROVEN


def test_a_copy_of_the_first_receipt_shows_nothing_at_the_end() -> None:
    made, _, came = permitted()
    copied = Record(1, (*spoken(1), *spoken(1, 3.0, True)))
    assert verdict(run((made, copied, came), (row(2), silent(), None))) == SILENT
    # … nor does a receipt that belongs to no arrival.
    assert verdict(run((made, permitted()[1], came[0]), (row(2), silent(), None))) == SILENT


def test_a_permitted_datagram_shows_no_way_for_connections() -> None:
    made = row(1, "allow", technique="udp_datagram", channel=Channel.UDP)
    talks = tuple(
        attempt("answered", ADDRESS, step="send", transport=UDP, t=t, again=t > 1,
                data=Data(90, "reply", "", receipt=receipt(1, "udp", port=port)))
        for t, port in ((0.1, 4000), (3.0, 5000))
    )  # fmt: skip
    came = arrived(1, "udp", "udp")
    datagram = made, Record(1, talks), (came, replace(came, port=5001))
    known = (Reachable(Transport.TCP, 4, 443, NOW), Reachable(Transport.UDP, 4, 53, NOW))
    assert verdict(run(datagram, (row(2), silent(), None), reachable=known)) == SILENT
    udp = row(2, port=53, technique="udp_datagram", channel=Channel.UDP)
    mute = Record(2, (attempt("silent", ADDRESS, 53, step="send", transport=UDP),))
    assert verdict(run(datagram, (udp, mute, None), reachable=known)) == CONTAINED


@pytest.mark.parametrize("which", [slice(0, 3), slice(3, 6)])
def test_a_permitted_token_must_arrive_at_the_start_and_at_the_end(which: slice) -> None:
    made, record, came = permitted()
    found = run((made, replace(record, attempts=record.attempts[which]), came), (row(2), silent(), None))
    assert verdict(found) == SILENT


@pytest.mark.parametrize(
    ("technique", "expected"), [("mptcp_connect", SILENT), ("tcp_fastopen", SILENT), ("source_port", SILENT)]
)
def test_an_unusual_way_may_be_dropped_far_from_the_sandbox(technique: str, expected: object) -> None:
    found = run(permitted(), (row(2, technique=technique), silent(), None))
    assert verdict(found) == expected
    assert "no permitted token took this unusual way" in last(found).why


def test_lossy_networks_contain_nothing() -> None:
    from probe.documents import Calibration

    made, record, came = permitted()
    p = plan(made, row(2), collector=FAR)
    far = FarEnd("egress-probe.far-end/1", KEY.hex(), Arrivals(RUN_ID, came))
    lossy = evidence(record, silent(), calibration=Calibration(1.0, 8, 4, 3, 0.2))
    assert "answers are lost here" in judge(p, lossy, far=far).results[-1].why


def test_an_attributed_refusal_needs_no_collector() -> None:
    no_route = attempt("error", ADDRESS, error="ENETUNREACH", stage="connect")
    found = run((row(2), Record(2, (no_route,)), None))
    assert verdict(found) == (Verdict.CONFORMS, Grade.PROVEN, Outcome.NO_ROUTE)


def test_arrived_over_one_ip_version_takes_the_silences_of_that_one_only() -> None:
    both = check(None, 443, 2, host="c.exfil.example", far_end=True, id="row2")
    record = Record(2, (attempt("silent", ADDRESS), attempt("silent", SIX)))
    found = run((both, record, arrived(2, source="2001:db8:98::1")))
    assert verdict(found) == LEAK


def test_udp_one_way_is_a_leak_and_nothing_arrived_is_contained() -> None:
    udp = row(2, technique="udp_datagram", channel=Channel.UDP)
    record = Record(2, (attempt("silent", ADDRESS, step="send", transport=UDP),))
    assert verdict(run(permitted(), (udp, record, arrived(2, "udp", "udp")))) == LEAK
    shown = (Reachable(Transport.UDP, 4, 443, NOW),)
    assert verdict(run(permitted(), (udp, record, None), reachable=shown)) == CONTAINED
    assert verdict(run(permitted(), (udp, record, None))) == SILENT


def test_a_name_that_is_only_looked_up_is_dns_and_may_be_allowed() -> None:
    by_name = check(None, 443, 2, host="{token}.exfil.example", id="row2")
    record = Record(2, (attempt("silent", ADDRESS),))
    came = arrived(2, "dns", "udp", 53, "10.98.0.9", type="A", name="x.exfil.example")
    assert verdict(run((by_name, record, came)))[0] is Verdict.LEAK
    open_dns = 'default = "deny"\n[dns]\npolicy = "open"'
    assert verdict(run((by_name, record, came), policy=open_dns)) == SILENT


def test_a_datagram_beside_a_tcp_row_is_another_path() -> None:
    beside = arrived(2, "udp", "udp")
    assert verdict(run((row(2), silent(), beside)))[0] is Verdict.LEAK
    allows = 'default = "deny"\n[[allow]]\ncidr = "203.0.113.53"\nprotocol = "udp"'
    assert verdict(run((row(2), silent(), beside), policy=allows)) == SILENT
    found = last(run((row(2, "allow"), silent(), beside)))
    assert found.verdict is Verdict.UNPROVEN
    assert "which proves nothing here" in found.why


def test_a_probe_that_failed_proves_nothing_of_the_collector() -> None:
    broken = Record(2, (attempt("error", ADDRESS, error="EWHAT", stage="connect"),))
    assert verdict(run(permitted(), (row(2), broken, None))) == (Verdict.UNPROVEN, None, Outcome.BROKEN)


def test_refused_in_the_collectors_own_name_or_by_a_router() -> None:
    reset = attempt("error", ADDRESS, error="ECONNREFUSED", stage="receive", events="in out err hup")
    found = run(permitted(), (row(2), Record(2, (reset,)), None))
    assert verdict(found) == (Verdict.UNPROVEN, None, Outcome.REFUSED)
    assert last(found).why == "Refused as if by the collector itself, where nothing arrived."
    router = attempt("error", ADDRESS, error="EHOSTUNREACH", stage="receive", icmp=Icmp(3, 13, "198.51.100.9", 250))
    found = run(permitted(), (row(2), Record(2, (router,)), None))
    assert verdict(found) == (Verdict.CONFORMS, Grade.PROVEN, Outcome.REJECTED)
    assert verdict(run((row(2), Record(2, (router,)), None)))[0] is Verdict.UNPROVEN


def test_a_token_that_arrived_from_a_row_that_was_not_meant_for_the_collector_is_a_leak_too() -> None:
    assert verdict(run((check("192.0.2.1", n=2, id="row2"), silent(address="192.0.2.1"), arrived(2)))) == LEAK


def test_the_collector_is_no_witness_where_nothing_shows_that_it_can_be_reached() -> None:
    control = check(
        "203.0.113.9", 443, 1, "allow", purpose=Purpose.CONTROL, repeat=True, early=True, answers=True, id="c"
    )
    talks = [
        replace(a, address="203.0.113.9", data=a.data and Data(5, "reply", "hello"))
        for a in (*spoken(1), *spoken(1, 3.0, True))
    ]
    witness = row(2, purpose=Purpose.WITNESS, repeat=True, answers=True)
    tries = (attempt("silent", ADDRESS), attempt("silent", ADDRESS, again=True, t=3.0))
    target = check("192.0.2.1", n=3, id="row3")
    rows = [
        (control, Record(1, tuple(talks)), None),
        (witness, Record(2, tries), None),
        (target, silent(3, address="192.0.2.1"), None),
    ]
    assert verdict(run(*rows)) == SILENT
    assert "no witness" in last(run(*rows)).why
    shown = (Reachable(Transport.TCP, 4, 443, NOW),)
    assert verdict(run(*rows, reachable=shown)) == (Verdict.CONFORMS, Grade.CORROBORATED, Outcome.SILENT)


# --- DNS ---


@pytest.mark.parametrize("rcode", ["NXDOMAIN", "REFUSED", "NOERROR"])
def test_an_answer_code_says_nothing_and_the_collector_everything(rcode: str) -> None:
    denied = name(2), Record(2, (answered(rcode),))
    assert last(run((*denied, None))).verdict is Verdict.UNPROVEN
    assert last(run(permitted_name(), (*denied, None))).verdict is Verdict.CONFORMS
    assert last(run(permitted_name(), (*denied, arrived(2, "dns", "udp", 53, type="TXT")))).verdict is Verdict.LEAK


def test_a_resolver_that_fails_has_decided_nothing() -> None:
    found = run(permitted_name(), (name(2), Record(2, (answered("SERVFAIL"),)), None))
    assert last(found).verdict is Verdict.UNPROVEN
    assert "10.99.0.1 failed (SERVFAIL), which is no decision" in last(found).why


def test_every_server_that_was_asked_must_be_shown() -> None:
    both = Record(2, (answered(), answered(server="10.99.0.8")))
    assert last(run(permitted_name(), (name(2), both, None))).verdict is Verdict.UNPROVEN


@pytest.mark.parametrize("rcode", ["NXDOMAIN", "REFUSED", "SERVFAIL", "NOERROR"])
def test_a_question_straight_to_the_collector_that_another_answers_is_intercepted(rcode: str) -> None:
    direct = name(2, destination=Destination(None, ADDRESS, 53))
    shown = (Reachable(Transport.UDP, 4, 53, NOW),)
    rows = permitted(), (direct, Record(2, (answered(rcode, server=ADDRESS),)), None)
    assert last(run(*rows, reachable=shown)).verdict is Verdict.UNPROVEN
    none = replace(answered(server=ADDRESS), result="silent", dns=None)
    assert last(run(rows[0], (direct, Record(2, (none,)), None), reachable=shown)).verdict is Verdict.CONFORMS


def test_a_cache_that_answers_at_the_end_shows_no_way() -> None:
    made, record, (first, _) = permitted_name()
    found = run((made, record, first), (name(2), Record(2, (answered(),)), None))
    assert last(found).verdict is Verdict.UNPROVEN
    assert "no permitted name arrived through 10.99.0.1, at the start and at the end" in last(found).why


@pytest.mark.parametrize("kind", ["TXT", "A"])
def test_a_resolver_that_wants_to_be_asked_over_tcp_has_decided_nothing(kind: str) -> None:
    short = DnsAnswer("x", kind, "NOERROR", False, True)
    found = run(permitted_name(), (name(2, kind=kind), Record(2, (answered(kind=kind, dns=short),)), None))
    assert last(found).verdict is Verdict.UNPROVEN
    assert "over TCP, which is no decision" in last(found).why


@pytest.mark.parametrize(
    ("error", "verdict"),
    [("ECONNRESET", Verdict.UNPROVEN), ("EPIPE", Verdict.UNPROVEN), ("ECONNREFUSED", Verdict.CONFORMS)],
)
def test_a_resolver_that_breaks_off_may_still_be_asking(error: str, verdict: Verdict) -> None:
    broken = replace(answered(), result="error", dns=None, error=error, stage="receive", transport=Transport.TCP)
    found = run(permitted_name(), (name(2), Record(2, (broken,)), None))
    assert last(found).verdict is verdict


@pytest.mark.parametrize("result", ["silent", "connected"])
def test_a_resolver_that_does_not_answer_may_still_be_asking(result: str) -> None:
    none = replace(answered(), result=result, dns=None)  # type: ignore[arg-type]
    found = run(permitted_name(), (name(2), Record(2, (none,)), None))
    assert last(found).verdict is Verdict.UNPROVEN
    assert "10.99.0.1 did not answer, and may still be asking" in last(found).why


def test_a_half_open_syn_beside_a_rejection_is_a_filter_that_lets_the_first_pass() -> None:
    router = attempt("error", ADDRESS, error="EHOSTUNREACH", stage="receive", icmp=Icmp(3, 13, "10.99.0.1", 64))
    rejected = row(2), Record(2, (router,)), None
    half = (HalfOpen(2.0, ME, 4711, 443),)
    assert verdict(run(permitted(), rejected))[0] is Verdict.CONFORMS
    assert verdict(run(permitted(), rejected, half_open=half))[0] is Verdict.UNPROVEN
    own = attempt("error", ADDRESS, error="ENETUNREACH", stage="connect")
    assert verdict(run(permitted(), (row(2), Record(2, (own,)), None), half_open=half))[0] is Verdict.CONFORMS


def test_a_permitted_name_through_one_resolver_says_nothing_of_another() -> None:
    other = answered(server="10.99.0.8")
    assert last(run(permitted_name(), (name(2), Record(2, (other,)), None))).verdict is Verdict.UNPROVEN


def test_a_synthetic_answer_is_intercepted_and_still_contained() -> None:
    made_up = answered("NOERROR", records=('"egress-probe-receipt=v1,dns,10.0.0.1,1,' + "a" * 26 + '"',))
    found = run(permitted_name(), (name(2), Record(2, (made_up,)), None))
    assert verdict(found) == (Verdict.CONFORMS, Grade.PROVEN, Outcome.INTERCEPTED)


@pytest.mark.parametrize("kind", receipts.TYPES)
def test_every_type_carries_a_receipt(kind: str) -> None:
    came = arrived(2, "dns", "udp", 53, "10.98.0.9", type=kind)
    given = receipts.records(kind, KEY, token(RUN_ID, 2, KEY), "10.98.0.9", 4002, "exfil.example")
    found = run((name(2, kind=kind), Record(2, (answered("NOERROR", kind, tuple(given)),)), came))
    assert last(found).why.startswith("A round trip: ")
    spoilt = tuple(record[:-3] + "123" for record in given)
    found = run((name(2, kind=kind), Record(2, (answered("NOERROR", kind, spoilt),)), came))
    assert last(found).why.startswith("One way: ")


def test_a_late_second_answer_may_be_the_real_one() -> None:
    text = receipts.write(KEY, token(RUN_ID, 2, KEY), "dns", "10.98.0.9", 4002)
    real = DnsAnswer("x", "TXT", "NOERROR", False, False, (f'"{text}"',))
    found = run((name(2), Record(2, (answered(late=(real,)),)), None))
    assert last(found).verdict is Verdict.LEAK


def test_nobody_listens_at_an_address_of_this_host() -> None:
    docker = name(2, destination=Destination(None, "127.0.0.11", 53))
    refused = replace(answered(server="127.0.0.11"), result="error", dns=None, error="ECONNREFUSED", stage="receive")
    found = run(permitted_name(), (docker, Record(2, (refused,)), None))
    assert last(found).verdict is Verdict.CONFORMS
    assert "nobody listens" in last(found).why


def test_an_allowed_name_that_does_not_arrive_is_no_overblock_while_nothing_is_shown() -> None:
    made, record, _ = permitted_name()
    failing = replace(record, attempts=(answered("SERVFAIL"),))
    assert last(run((made, failing, None))).verdict is Verdict.UNPROVEN


# --- proxy ---


def proxied(n: int, action: str = "deny") -> Check:
    host = "{token}.permitted.exfil.example" if action == "allow" else "{token}.exfil.example"
    return replace(check(None, 443, n, action, host=host, id=f"row{n}", far_end=True), technique="proxy_connect",
                   channel=Channel.PROXY, destination=Destination(host, None, 443, Via.PROXY))  # fmt: skip


def says(n: int, status: int, *, twice: bool = False) -> Record:
    first = attempt("connected", "10.99.0.1", 3128)
    talk = replace(first, step="talk", result="answered", data=Data(9, "reply", "", status))
    again = (replace(first, again=True, t=3.0), replace(talk, again=True, t=3.1)) if twice else ()
    return Record(n, (first, talk, *again))


LOOKED_UP = asked(1, type="A"), asked(1, "-again", type="A")
THROUGH = proxied(1, "allow"), says(1, 200, twice=True), LOOKED_UP


def test_a_proxy_that_resolves_and_then_denies() -> None:
    came = arrived(2, "dns", "udp", 53, "10.98.0.9", type="A", name="x.exfil.example")
    assert verdict(run((proxied(2), says(2, 403), came)))[:2] == (Verdict.LEAK, Grade.PROVEN)
    assert last(run((proxied(2), says(2, 403), None))).verdict is Verdict.UNPROVEN
    assert last(run(THROUGH, (proxied(2), says(2, 403), None))).verdict is Verdict.CONFORMS


@pytest.mark.parametrize(
    "record",
    [
        Record(2, (attempt("silent", "10.99.0.1", 3128),)),
        Record(2, (attempt("connected", "10.99.0.1", 3128),)),
        Record(2, (attempt("silent", "10.99.0.1", 53, step="resolve", transport=UDP),)),
    ],
)
def test_a_proxy_that_said_nothing_contains_nothing(record: Record) -> None:
    assert last(run(THROUGH, (proxied(2), record, None))).verdict is Verdict.UNPROVEN


def test_a_proxy_must_carry_permitted_names_at_the_start_and_at_the_end() -> None:
    once = proxied(1, "allow"), says(1, 200), LOOKED_UP
    assert last(run(once, (proxied(2), says(2, 403), None))).verdict is Verdict.UNPROVEN


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 522])
def test_a_proxy_that_fails_has_decided_nothing(status: int) -> None:
    found = run(THROUGH, (proxied(2), says(2, status), None))
    assert last(found).verdict is Verdict.UNPROVEN
    assert f"the proxy failed ({status}), which is no decision" in last(found).why


@pytest.mark.parametrize("came", [(), LOOKED_UP[0], LOOKED_UP[1], (LOOKED_UP[0], LOOKED_UP[0])])
def test_a_proxy_that_looked_the_permitted_name_up_only_once_shows_no_way(came: Any) -> None:
    found = run((THROUGH[0], THROUGH[1], came), (proxied(2), says(2, 403), None))
    assert last(found).verdict is Verdict.UNPROVEN


def test_without_the_collectors_word_a_proxys_refusal_proves_nothing() -> None:
    found = last(judge(plan(proxied(2), collector=FAR), evidence(says(2, 403))))
    assert found.verdict is Verdict.UNPROVEN
    assert "Only the collector knows" in found.why


@pytest.mark.parametrize("inside", [None, "HTTP/1.1 200 OK"])
def test_a_tunnel_that_a_proxy_opened_is_not_contained(inside: str | None) -> None:
    record = says(2, 200)
    if inside:
        far = replace(record.attempts[1], t=0.5, data=Data(15, "reply", inside, 200))
        record = replace(record, attempts=(*record.attempts, far))
    found = run(THROUGH, (proxied(2), record, None))
    assert verdict(found) == (Verdict.UNPROVEN, None, Outcome.INTERCEPTED)


# --- what is told ---


def test_a_run_without_permitted_tokens_says_so_once() -> None:
    found = run((row(2), silent(), None))
    assert any("no permitted token arrived" in note for note in found.notes)
    assert run((row(2), silent(), None), problem="it is gone").evidence == "self-reported"


def test_arrivals_of_unknown_checks_and_of_no_plan_are_nothing() -> None:
    assert verdict(run((row(2), silent(), arrived(99)))) == SILENT
    made = plan(check())
    far = FarEnd("egress-probe.far-end/1", KEY.hex(), Arrivals(RUN_ID, (arrived(1),)))
    assert judge(made, evidence(silent(1, address="192.0.2.1")), far=far).evidence == "self-reported"


def test_declared_stays_what_it_is() -> None:
    undeclared = replace(row(2), declared=Declared(Action.UNDECLARED, "none"))
    assert last(run((undeclared, silent(), arrived(2)))).verdict is Verdict.UNDECLARED

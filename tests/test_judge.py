"""Whole runs, judged: the silence rule, controls, witnesses, self-tests, damaged evidence, exit codes."""

from dataclasses import replace

import pytest

from probe.documents import Attempt, Check, Data, DnsAnswer, End, Icmp, Record, Start
from probe.judge import judge
from probe.model import Action, Channel, Declared, DnsResolver, Finding, Purpose, Query, SelfTest, Severity, Transport
from probe.policies import Context, parse_policy
from probe.report import Report
from tests.make import RUN_ID, VANTAGE, attempt, check, evidence, plan

CONTROL, WITNESS, TARGET, V6 = "203.0.113.10", "198.51.100.7", "192.0.2.1", "2001:db8::1"
BYTES = Data(5, "banner", "hello")


def reached(address: str, again: bool = False, **more: object) -> tuple[Attempt, ...]:
    common = {"again": again, "t": 9.0 if again else 0.1, **more}
    return (
        attempt("connected", address, **common),
        attempt("answered", address, step="talk", data=BYTES, **common),
        attempt("silent", address, step="walk", hops=1, **common),
    )


def control(n: int = 1, address: str = CONTROL, **more: object) -> Check:
    more = {"purpose": Purpose.CONTROL, "answers": True, "early": True, "repeat": True, "action": "allow", **more}
    return check(address, n=n, **more)


def witness(n: int = 2, address: str = WITNESS, **more: object) -> Check:
    return check(address, n=n, purpose=Purpose.WITNESS, answers=True, repeat=True, **more)


def silent(n: int, address: str) -> Record:
    return Record(n, (attempt(address=address), attempt(address=address, again=True)))


GOOD_CONTROL = Record(1, (*reached(CONTROL), *reached(CONTROL, again=True)))
CHECKS = (control(), witness(), check(TARGET, n=3))


def verdict(report: Report, n: int = 3) -> tuple[str, str | None]:
    result = report.results[n - 1]
    return result.verdict, result.grade


def why(report: Report, n: int = 3) -> str:
    return report.results[n - 1].why


def test_silence_conforms_with_a_control_and_a_stopped_witness() -> None:
    report = judge(plan(*CHECKS), evidence(GOOD_CONTROL, silent(2, WITNESS), silent(3, TARGET)))
    assert verdict(report) == ("conforms", "corroborated")
    assert verdict(report, 2) == ("conforms", "corroborated")
    assert report.summary.exit_code == 0
    assert "control 203.0.113.10:443 answered and the witness 198.51.100.7:443 was stopped too" in why(report)


# what is wrong → the records, and words of the reason
BAD = [
    ("no control", (silent(1, CONTROL), silent(2, WITNESS)), "no control answered over IPv4 TCP (control 203.0.113.10:443 was silent)"),
    ("dead at the end", (Record(1, reached(CONTROL)), silent(2, WITNESS)), "no longer answered at the end"),
    ("dead at the start", (Record(1, reached(CONTROL, again=True)), silent(2, WITNESS)), "did not answer at the start"),
    ("closed before it opened", (Record(1, (*reached(CONTROL, t=8.0), *reached(CONTROL, again=True, t=7.0))), silent(2, WITNESS)), "did not answer at the start"),
    ("the witness itself may have refused", (GOOD_CONTROL, Record(2, (attempt("error", WITNESS, stage="receive", error="ECONNREFUSED"),))), "the witness 198.51.100.7:443 was refused"),
    ("the witness was not tried again", (GOOD_CONTROL, Record(2, (attempt(address=WITNESS),))), "the witness 198.51.100.7:443 was not tried again, alone"),
    ("the control's distance is not known", (Record(1, tuple(a for a in GOOD_CONTROL.attempts if a.step != "walk")), silent(2, WITNESS)), "could not be tested for its distance"),
    ("the distance test was refused", (Record(1, tuple(replace(a, result="error", stage="socket", error="EPERM") if a.step == "walk" else a for a in GOOD_CONTROL.attempts)), silent(2, WITNESS)), "could not be tested for its distance"),
    ("a leak", (GOOD_CONTROL, Record(2, reached(WITNESS))), "another denied destination got out"),
    ("the witness accepted", (GOOD_CONTROL, Record(2, (attempt("connected", WITNESS),))), "the witness 198.51.100.7:443 was accepted"),
    (
        "the witness was stopped by something else",
        (GOOD_CONTROL, Record(2, tuple(attempt("error", WITNESS, stage="connect", error="EACCES", again=a) for a in (False, True)))),
        "stopped in another way (denied)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("records", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_silence_is_unproven_otherwise(records: tuple[Record, ...], words: str) -> None:
    report = judge(plan(*CHECKS), evidence(*records, silent(3, TARGET)))
    assert verdict(report) == ("unproven", None)
    assert words in why(report)


def test_silence_without_a_witness_is_unproven() -> None:
    report = judge(plan(control(), check(TARGET, n=2)), evidence(GOOD_CONTROL, silent(2, TARGET)))
    assert verdict(report, 2) == ("unproven", None)
    assert "no witness was tried over IPv4 TCP" in why(report, 2)


def test_a_control_over_ipv4_says_nothing_about_ipv6() -> None:
    checks = (control(), witness(), check(V6, n=3))
    report = judge(plan(*checks), evidence(GOOD_CONTROL, silent(2, WITNESS), silent(3, V6)))
    assert verdict(report) == ("unproven", None)
    assert "no control answered over IPv6 TCP" in why(report)


@pytest.mark.parametrize(
    ("address", "vantage"),
    [("127.0.0.1", VANTAGE), ("10.99.0.1", VANTAGE), (CONTROL, replace(VANTAGE, on_link=None))],
    ids=["loopback", "on the local network", "routes unknown"],
)
def test_a_control_counts_only_from_beyond_the_local_network(address: str, vantage: object) -> None:
    record = Record(1, (*reached(address), *reached(address, again=True)))
    checks = (control(address=address), witness(), check(TARGET, n=3))
    made = evidence(record, silent(2, WITNESS), silent(3, TARGET))
    made = replace(made, start=replace(made.start, vantage=vantage))
    report = judge(plan(*checks), made)
    assert verdict(report) == ("unproven", None)
    assert "not known to lie beyond the local network" in why(report)


def test_a_denied_control_is_a_leak_and_no_control() -> None:
    checks = (control(action="deny"), witness(), check(TARGET, n=3))
    report = judge(plan(*checks), evidence(GOOD_CONTROL, silent(2, WITNESS), silent(3, TARGET)))
    assert verdict(report, 1) == ("leak", "proven")
    assert verdict(report) == ("unproven", None)


def test_a_leak_in_one_group_leaves_the_other_alone() -> None:
    six = Record(4, reached(V6))
    report = judge(plan(*CHECKS, check(V6, n=4)), evidence(GOOD_CONTROL, silent(2, WITNESS), silent(3, TARGET), six))
    assert verdict(report) == ("conforms", "corroborated")
    assert verdict(report, 4) == ("leak", "proven")
    assert report.summary.exit_code == 1


def test_the_targets_own_rst_on_loopback_is_a_leak_for_the_silence_rule() -> None:
    refused = Record(4, (attempt("error", "127.0.0.1", stage="receive", error="ECONNREFUSED"),))
    report = judge(
        plan(*CHECKS, check("127.0.0.1", n=4)), evidence(GOOD_CONTROL, silent(2, WITNESS), silent(3, TARGET), refused)
    )
    assert verdict(report, 4) == ("leak", "proven")
    assert verdict(report) == ("unproven", None)


def test_one_witness_that_was_not_stopped_vetoes() -> None:
    other = witness(4, "198.51.100.8")
    refused = Record(4, (attempt("error", "198.51.100.8", stage="receive", error="ECONNREFUSED"),))
    report = judge(plan(*CHECKS, other), evidence(GOOD_CONTROL, silent(2, WITNESS), silent(3, TARGET), refused))
    assert verdict(report) == ("unproven", None)
    assert "the witness 198.51.100.8:443 was refused" in why(report)


def test_a_filter_for_one_port_is_seen_by_the_witness_on_the_other() -> None:
    shell, companion = check(TARGET, 4444, n=4), check(WITNESS, 4444, n=5)
    refused = Record(5, (attempt("error", WITNESS, 4444, stage="receive", error="ECONNREFUSED"),))
    silences = (GOOD_CONTROL, silent(2, WITNESS), silent(3, TARGET), Record(4, (attempt(port=4444),)))
    open_port = judge(plan(*CHECKS, shell, companion), evidence(*silences, refused))
    assert verdict(open_port, 3) == ("conforms", "corroborated")
    assert verdict(open_port, 4) == ("unproven", None)
    assert "the witness's host was refused on this port (198.51.100.7:4444)" in why(open_port, 4)
    dropped = judge(
        plan(*CHECKS, shell, companion), evidence(*silences, Record(5, (attempt(address=WITNESS, port=4444),)))
    )
    assert [verdict(dropped, n) for n in (3, 4, 5)] == [("conforms", "corroborated")] * 3


def test_no_witness_on_a_port_proves_nothing_about_it() -> None:
    shell = check(TARGET, 22, n=4)
    silences = (GOOD_CONTROL, silent(2, WITNESS), silent(3, TARGET), Record(4, (attempt(port=22),)))
    report = judge(plan(*CHECKS, shell), evidence(*silences))
    assert verdict(report, 4) == ("unproven", None)
    assert "no witness was tried on port 22" in why(report, 4)


def test_every_address_of_a_name_must_be_supported() -> None:
    named = check(None, n=3, host="evil.test")
    six = attempt("error", V6, stage="receive", error="EACCES", icmp=Icmp(1, 1, "2001:db8:9::9"))
    report = judge(
        plan(control(), witness(), named), evidence(GOOD_CONTROL, silent(2, WITNESS), Record(3, (attempt(), six)))
    )
    assert verdict(report) == ("unproven", None)
    assert "no control answered over IPv6 TCP" in why(report)
    near = replace(six, icmp=Icmp(1, 1, "fd99::1"), source="fd99::2")
    report = judge(
        plan(control(), witness(), named), evidence(GOOD_CONTROL, silent(2, WITNESS), Record(3, (attempt(), near)))
    )
    assert verdict(report) == ("conforms", "corroborated")
    mute = attempt("silent", "10.99.0.1", 53, step="resolve", transport=Transport.UDP)
    half = Record(3, (mute, mute, attempt()))
    report = judge(plan(control(), witness(), named), evidence(GOOD_CONTROL, silent(2, WITNESS), half))
    assert verdict(report) == ("unproven", None)


def test_a_datagram_needs_a_witness_of_the_controls_service() -> None:
    udp = {"transport": Transport.UDP, "step": "send"}
    answered = [attempt("answered", CONTROL, 7, data=BYTES, again=a, t=9.0 if a else 0.1, **udp) for a in (False, True)]
    far = attempt("silent", CONTROL, 7, transport=Transport.UDP, step="walk", hops=1)
    control_record = Record(1, (*answered, far))

    def run(port: int) -> tuple[str, str | None]:
        checks = (
            control(port=7, channel=Channel.UDP),
            witness(port=port, channel=Channel.UDP),
            check(TARGET, 7, 3, channel=Channel.UDP),
        )
        silence = [
            Record(n, tuple(attempt("silent", address, to, again=again, **udp) for again in (False, True)))
            for n, address, to in ((2, WITNESS, port), (3, TARGET, 7))
        ]
        return verdict(judge(plan(*checks), evidence(control_record, *silence)))

    assert run(7) == ("conforms", "corroborated")
    assert run(123) == ("unproven", None)


# --- the next hop ---


def at_next_hop(address: str) -> tuple[Attempt, ...]:
    return (*reached(address)[:2], attempt("connected", address, step="walk", hops=1))


NOBODY = check("192.0.2.9", n=4, reserved=True)


def test_bytes_from_the_next_hop_are_a_redirect_where_a_network_lies_beyond() -> None:
    records = (GOOD_CONTROL, silent(2, WITNESS), Record(3, at_next_hop(TARGET)), silent(4, "192.0.2.9"))
    report = judge(plan(*CHECKS, NOBODY), evidence(*records))
    assert verdict(report) == ("unproven", None)
    assert "Something on the way answered in place of" in why(report)


def test_a_user_mode_network_ends_everything_at_the_next_hop_and_carries_it_on() -> None:
    report = judge(plan(witness(1), NOBODY), evidence(Record(1, at_next_hop(WITNESS)), silent(4, "192.0.2.9")))
    assert verdict(report, 1) == ("leak", "presumed")
    assert verdict(report, 2) == ("unproven", None)  # and no silence is believed


def test_an_interceptor_answers_where_nobody_lives_too() -> None:
    both = (Record(1, at_next_hop(WITNESS)), Record(4, at_next_hop("192.0.2.9")))
    report = judge(plan(witness(1), NOBODY), evidence(*both))
    assert [verdict(report, n) for n in (1, 2)] == [("unproven", None)] * 2
    # Without an address where nobody lives it cannot be told from one.
    assert verdict(judge(plan(witness(1)), evidence(both[0])), 1) == ("unproven", None)


def test_a_403_over_a_verified_connection_is_the_allowed_far_ends_own_word() -> None:
    from probe.documents import Tls

    data = Data(9, "reply", "x", http_status=403)
    record = Record(
        1,
        (
            attempt("connected", CONTROL),
            attempt("answered", CONTROL, step="talk", data=data, tls=Tls(True, verified=True)),
        ),
    )
    assert verdict(judge(plan(control(1, None, host="api.example")), evidence(record)), 1) == ("conforms", "presumed")
    assert verdict(judge(plan(check(None, host="api.example")), evidence(record)), 1) == ("unproven", None)


# --- a name and the policy's word on its addresses ---

BY_NAME = """
default = "deny"
[[allow]]
domain = "api.test"
[[allow]]
cidr = "203.0.113.0/24"
[[deny]]
cidr = "198.51.100.0/24"
"""


def led_to(*addresses: str, host: str = "api.test", action: str = "allow") -> Report:
    policies = parse_policy("p.toml", BY_NAME, Context(lambda path: "", {}))
    record = Record(1, tuple(a for address in addresses for a in reached(address)))
    return judge(plan(check(None, host=host, action=action), policies=policies), evidence(record))


def test_a_name_is_judged_by_the_addresses_that_it_led_to() -> None:
    assert verdict(led_to("203.0.113.5"), 1) == ("conforms", "proven")
    denied = led_to("198.51.100.5")
    assert verdict(denied, 1) == ("leak", "proven")
    assert denied.results[0].declared.by == "p.toml: deny[0] 198.51.100.0/24"
    # Not allowed by name, but the address is.
    assert verdict(led_to("203.0.113.5", host="www.test", action="deny"), 1) == ("conforms", "proven")


def test_a_name_with_addresses_of_both_kinds() -> None:
    assert verdict(led_to("203.0.113.5", "198.51.100.5"), 1) == ("leak", "proven")
    policies = parse_policy("p.toml", BY_NAME, Context(lambda path: "", {}))
    record = Record(1, (*reached("203.0.113.5"), attempt(address="198.51.100.5")))
    made = judge(plan(check(None, host="api.test", action="allow"), policies=policies), evidence(record))
    assert verdict(made, 1) == ("undeclared", None)
    assert "for another of its addresses" in made.results[0].declared.by


def test_a_witness_whose_address_is_allowed_is_none() -> None:
    policies = parse_policy("p.toml", BY_NAME, Context(lambda path: "", {}))
    named = check(None, n=2, host="www.test", purpose=Purpose.WITNESS, repeat=True)
    checks = (control(), named, check(TARGET, n=3))
    report = judge(
        plan(*checks, policies=policies), evidence(GOOD_CONTROL, silent(2, "203.0.113.77"), silent(3, TARGET))
    )
    assert "no witness was tried over IPv4 TCP" in why(report)


def test_a_control_that_is_denied_proves_nothing() -> None:
    report = judge(plan(control(action="deny")), evidence(no_route(1, CONTROL)))
    assert verdict(report, 1) == ("unproven", None)
    assert why(report, 1) == "A control must be allowed, and p.toml: deny denies this one."


def test_a_v4_mapped_address_sends_ipv4_packets() -> None:
    mapped = check("::ffff:192.0.2.1", n=3)
    report = judge(
        plan(control(), witness(), mapped), evidence(GOOD_CONTROL, silent(2, WITNESS), silent(3, "::ffff:192.0.2.1"))
    )
    assert verdict(report) == ("conforms", "corroborated")


def test_a_control_whose_name_was_not_resolved_is_named() -> None:
    unresolved = attempt("silent", "10.99.0.1", 53, step="resolve", transport=Transport.UDP)
    checks = (control(address=None, host="api.example"), witness(), check(TARGET, n=3))
    report = judge(plan(*checks), evidence(Record(1, (unresolved,)), silent(2, WITNESS), silent(3, TARGET)))
    assert "no control answered over IPv4 TCP (control api.example:443 was name_unresolved)" in why(report)


def test_a_silence_without_an_address_is_nobodys() -> None:
    nowhere = Record(3, (attempt(address=None),))
    checks = (control(), witness(), check(None, n=3, host="x.example"))
    report = judge(plan(*checks), evidence(GOOD_CONTROL, silent(2, WITNESS), nowhere))
    assert verdict(report) == ("unproven", None)
    assert "no address was tried" in why(report)


# --- rejections farther out ---


def rejected(n: int, address: str, offender: str) -> Record:
    made = attempt("error", address, stage="receive", error="EHOSTUNREACH", icmp=Icmp(3, 13, offender))
    return Record(n, (made, replace(made, again=True)))


def test_a_router_farther_out_may_be_the_internets_own() -> None:
    alone = judge(plan(*CHECKS), evidence(GOOD_CONTROL, silent(2, WITNESS), rejected(3, TARGET, "198.18.9.9")))
    assert verdict(alone) == ("unproven", None)
    both = (rejected(2, WITNESS, "198.18.9.9"), rejected(3, TARGET, "198.18.9.9"))
    assert verdict(judge(plan(*CHECKS), evidence(GOOD_CONTROL, *both))) == ("conforms", "corroborated")
    other = (rejected(2, WITNESS, "198.18.8.8"), rejected(3, TARGET, "198.18.9.9"))
    report = judge(plan(*CHECKS), evidence(GOOD_CONTROL, *other))
    assert verdict(report) == ("unproven", None)
    assert "A router farther out (198.18.9.9)" in why(report)


def test_the_next_hop_is_named() -> None:
    report = judge(plan(*CHECKS), evidence(GOOD_CONTROL, silent(2, WITNESS), rejected(3, TARGET, "10.99.0.1")))
    assert verdict(report) == ("conforms", "proven")
    assert why(report).startswith("The next hop (10.99.0.1) rejected it")


def test_the_hosts_own_firewall_is_named() -> None:
    report = judge(plan(*CHECKS), evidence(GOOD_CONTROL, silent(2, WITNESS), rejected(3, TARGET, "10.99.0.2")))
    assert why(report).startswith("This host's own firewall rejected it")


# --- a sandbox in which nothing works ---


def no_route(n: int, address: str, **more: object) -> Record:
    return Record(n, (attempt("error", address, stage="connect", error="ENETUNREACH", **more),))


NAMED = check(None, n=3, host="x.example")
RESOLVER_GONE = {"step": "resolve", "transport": Transport.UDP}


def test_nothing_works_and_the_kernel_says_why() -> None:
    checks = (check(TARGET, n=1), check(V6, n=2), NAMED, replace(NAMED, n=4, declared=Declared(Action.ALLOW, "p")),
              check(CONTROL, n=5, action="allow"))  # fmt: skip
    records = (no_route(1, TARGET), no_route(2, V6), no_route(3, "10.99.0.1", **RESOLVER_GONE),
               no_route(4, "10.99.0.1", **RESOLVER_GONE), no_route(5, CONTROL))  # fmt: skip
    report = judge(plan(*checks), evidence(*records))
    assert [verdict(report, n) for n in (1, 2, 3)] == [("conforms", "proven")] * 3
    assert verdict(report, 4) == ("overblocked", "proven")
    assert verdict(report, 5) == ("overblocked", "proven")


@pytest.mark.parametrize(
    "spoiler",
    [
        Record(4, (attempt("connected", "198.51.100.9"),)),
        Record(4, (attempt(address="198.51.100.9"),)),
        Record(4, (attempt("error", "198.51.100.9", stage="receive", error="ECONNREFUSED"),)),
        Record(4, (attempt("error", "198.51.100.9", stage="socket", error="budget"),)),
        Record(4, (attempt("error", "198.51.100.9", stage="socket", error="EMFILE"),)),
    ],
    ids=["accepted", "silent", "refused", "budget", "out of files"],
)
def test_one_sign_of_life_makes_unresolved_names_unproven(spoiler: Record) -> None:
    checks = (check(TARGET, n=1), check(V6, n=2), NAMED, check("198.51.100.9", n=4))
    records = (no_route(1, TARGET), no_route(2, V6), no_route(3, "10.99.0.1", **RESOLVER_GONE), spoiler)
    assert verdict(judge(plan(*checks), evidence(*records))) == ("unproven", None)


def test_a_refusal_on_our_own_loopback_is_no_sign_of_life() -> None:
    checks = (check(TARGET, n=1), check(V6, n=2), NAMED)
    local = attempt("error", "127.0.0.53", port=53, stage="receive", error="ECONNREFUSED", **RESOLVER_GONE)
    records = (no_route(1, TARGET), no_route(2, V6), Record(3, (local,)))
    assert verdict(judge(plan(*checks), evidence(*records))) == ("conforms", "proven")


def test_one_ip_version_without_a_route_is_not_isolation() -> None:
    records = (no_route(1, TARGET), no_route(3, "10.99.0.1", **RESOLVER_GONE))
    report = judge(plan(check(TARGET, n=1), NAMED), evidence(*records))
    assert verdict(report, 2) == ("unproven", None)


def test_a_dead_sandbox_is_not_contained() -> None:
    report = judge(plan(*CHECKS), evidence(silent(1, CONTROL), silent(2, WITNESS), silent(3, TARGET)))
    assert [verdict(report, n) for n in (1, 2, 3)] == [
        ("overblocked", "presumed"),
        ("unproven", None),
        ("unproven", None),
    ]


# --- allow rows ---


def test_an_allow_row_through_an_interceptor_with_application_bytes_is_presumed() -> None:
    named = control(1, None, host="api.example")
    from probe.documents import Tls

    talks = (
        attempt("connected", CONTROL),
        attempt("silent", CONTROL, step="talk", tls=Tls(False, verified=False)),
        attempt("answered", CONTROL, step="talk", data=BYTES, tls=Tls(True)),
    )
    assert verdict(judge(plan(named), evidence(Record(1, talks))), 1) == ("conforms", "presumed")


def test_a_mute_accept_under_an_allow_is_unproven() -> None:
    report = judge(plan(control()), evidence(Record(1, (attempt("connected", CONTROL),))))
    assert verdict(report, 1) == ("unproven", None)


def test_an_allowed_dns_name_that_is_answered() -> None:
    query = Query("api.example", "A")
    row = check(None, 53, host="system-resolver", query=query, channel=Channel.DNS, action="allow")
    answer = DnsAnswer("api.example", "A", "NOERROR", False, False, ("203.0.113.10",))
    tried = attempt("answered", "10.99.0.1", 53, step="query", dns=answer, transport=Transport.UDP)
    assert verdict(judge(plan(row), evidence(Record(1, (tried,)))), 1) == ("conforms", "presumed")


def test_nobody_is_known_to_live_at_a_documentation_address() -> None:
    report = judge(plan(check(TARGET, action="allow")), evidence(silent(1, TARGET)))
    assert verdict(report, 1) == ("unproven", None)


# --- self-tests ---


def self_test(n: int, kind: SelfTest, **more: object) -> Check:
    action = "allow" if kind is SelfTest.OPEN else "deny"
    return check("127.0.0.1", None, n=n, self_test=kind, purpose=Purpose.SELF_TEST, action=action, **more)


def test_self_tests_that_pass() -> None:
    refused = Record(2, (attempt("error", "127.0.0.1", stage="receive", error="ECONNREFUSED"),))
    checks = (self_test(1, SelfTest.OPEN), self_test(2, SelfTest.CLOSED))
    report = judge(plan(*checks), evidence(Record(1, reached("127.0.0.1")), refused))
    assert [verdict(report, n) for n in (1, 2)] == [("conforms", "proven")] * 2
    assert report.summary.exit_code == 3  # nothing else was declared


def test_loopback_refused_by_the_kernel_passes() -> None:
    denied = Record(1, (attempt("error", "127.0.0.1", stage="connect", error="EACCES"),))
    report = judge(plan(self_test(1, SelfTest.OPEN)), evidence(denied))
    assert verdict(report, 1) == ("conforms", "proven")
    assert "closes its loopback as well" in why(report, 1)


@pytest.mark.parametrize("channel", [Channel.TCP, Channel.UDP])
def test_a_self_test_that_misses_takes_dependent_claims_with_it(channel: Channel) -> None:
    transport = Transport(channel.value)
    checks = (self_test(1, SelfTest.OPEN, channel=channel), check(TARGET, n=2), check(V6, n=3), check(WITNESS, n=4))
    denied = attempt("error", TARGET, stage="connect", error="EACCES", transport=transport)
    denied6 = replace(denied, address=V6)
    records = (silent(1, "127.0.0.1"), Record(2, (denied,)), Record(3, (denied6,)), Record(4, reached(WITNESS)))
    report = judge(plan(*checks), evidence(*records))
    assert verdict(report, 1) == ("unproven", None)
    assert verdict(report, 2) == ("unproven", None)
    assert "self-test over IPv4" in why(report, 2)
    assert verdict(report, 3) == ("conforms", "proven")  # another IP version
    assert verdict(report, 4) == ("leak", "proven")  # bytes came back, whatever else is wrong


# --- evidence that is not whole ---


def test_missing_evidence_is_unproven() -> None:
    report = judge(plan(*CHECKS), evidence(GOOD_CONTROL, silent(2, WITNESS)))
    assert verdict(report) == ("unproven", None)
    assert why(report) == "No evidence came back for this row."


def test_a_stopped_run_says_so_and_is_no_green() -> None:
    made = evidence(GOOD_CONTROL, silent(2, WITNESS), end=End(2, False, 1.0))
    report = judge(plan(*CHECKS), made, "leak")
    assert not report.complete
    assert "stopped before this row" in why(report)
    assert report.summary.exit_code == 3


def test_no_end_is_no_green() -> None:
    report = judge(plan(*CHECKS), evidence(GOOD_CONTROL, silent(2, WITNESS), silent(3, TARGET), end=None))
    assert (report.complete, report.run.finished, report.summary.exit_code) == (False, None, 3)


def test_nothing_at_all() -> None:
    report = judge(plan(*CHECKS), evidence(start=None, end=None))
    assert {result.verdict for result in report.results} == {"unproven"}
    assert report.run.vantage is None


def test_spoiled_rows_and_problems_take_every_green() -> None:
    made = evidence(GOOD_CONTROL, silent(2, WITNESS), rejected(3, TARGET, "10.99.0.1"))
    report = judge(plan(*CHECKS), replace(made, problems=("line 9: foreign",), spoiled=frozenset({2})))
    assert why(report, 2) == "The evidence for this row contradicts itself."
    assert verdict(report) == ("unproven", None)
    assert why(report) == "The evidence is damaged (line 9: foreign)."
    leak = judge(plan(check(TARGET)), replace(evidence(Record(1, reached(TARGET))), problems=("x",)))
    assert verdict(leak, 1) == ("leak", "proven")


def test_missing_evidence_for_an_undeclared_row() -> None:
    assert verdict(judge(plan(check(action="undeclared")), evidence()), 1) == ("undeclared", None)


# --- exit codes and thresholds ---


@pytest.mark.parametrize(
    ("records", "fail_on", "code"),
    [
        ((Record(1, reached(TARGET)),), "leak", 1),
        ((Record(1, reached(TARGET)),), "unproven", 1),
        ((silent(1, TARGET),), "unproven", 3),
        ((silent(1, TARGET),), "difference", 0),
        ((silent(1, TARGET),), "leak", 0),
    ],
)
def test_thresholds_of_a_deny(records: tuple[Record, ...], fail_on: str, code: int) -> None:
    assert judge(plan(check(TARGET)), evidence(*records), fail_on).summary.exit_code == code


@pytest.mark.parametrize(("fail_on", "code"), [("leak", 0), ("difference", 1), ("unproven", 1)])
def test_thresholds_of_an_over_block(fail_on: str, code: int) -> None:
    assert judge(plan(control()), evidence(silent(1, CONTROL)), fail_on).summary.exit_code == code


def test_nothing_declared_is_3() -> None:
    report = judge(plan(check(action="undeclared")), evidence(silent(1, TARGET)))
    assert (report.results[0].verdict, report.summary.exit_code) == ("undeclared", 3)


def test_a_row_that_was_not_run_counts_only_where_its_entry_has_no_other() -> None:
    skipped = check("10.0.0.0", None, n=2, action="deny", skip="a network names no host")
    proven = no_route(1, TARGET)
    report = judge(
        plan(check(TARGET), replace(skipped, declared=Declared(Action.DENY, "p.toml: deny[9]"))), evidence(proven)
    )
    assert (report.results[1].verdict, report.summary.exit_code) == ("not_run", 3)
    assert "a network names no host" in why(report, 2)
    assert judge(plan(check(TARGET), skipped), evidence(proven)).summary.exit_code == 0


def test_a_technique_that_cannot_run_says_why() -> None:
    report = judge(plan(check(TARGET)), evidence(Record(1, (), not_run="no raw socket")))
    assert (verdict(report, 1), why(report, 1)) == (("not_run", None), "Not attempted: no raw socket.")


def test_a_dead_next_hop_is_no_policy() -> None:
    no_neighbour = {"stage": "receive", "error": "EHOSTUNREACH", "icmp": Icmp(3, 1, "10.99.0.2")}
    dead = [Record(n, (attempt("error", a, **no_neighbour),)) for n, a in ((1, TARGET), (2, CONTROL))]
    report = judge(plan(check(), control(2)), evidence(*dead))
    assert [verdict(report, n) for n in (1, 2)] == [("unproven", None), ("overblocked", "presumed")]
    assert why(report, 1) == "Nobody answers at the next hop: the network is dead, which is not a policy."


def test_a_proxy_is_named() -> None:
    data = Data(9, "reply", "x", http_status=407)
    near = attempt("connected", step="walk", hops=1)
    record = Record(1, (attempt("connected"), attempt("answered", step="talk", data=data), near))
    assert "A proxy on the way" in why(judge(plan(check()), evidence(record)), 1)


# --- the baseline against what was seen ---


def finding(severity: str, name: str = "CHK-NET-009") -> Finding:
    return Finding(name, Severity(severity), "t", "d", "e", "r")


@pytest.mark.parametrize(
    ("severity", "record", "word"),
    [
        ("ok", Record(1, reached(TARGET)), "contradicted"),
        ("warn", Record(1, reached(TARGET)), "confirmed"),
        ("ok", no_route(1, TARGET), "confirmed"),
        ("warn", no_route(1, TARGET), "unverified"),  # a missing route is no rule
        ("warn", rejected(1, TARGET, "10.99.0.1"), "contradicted"),
        ("warn", silent(1, TARGET), "unverified"),
        ("info", Record(1, reached(TARGET)), "unverified"),
    ],
)
def test_findings_are_weighed(severity: str, record: Record, word: str) -> None:
    made = plan(
        check(TARGET), baseline=(finding(severity), finding(severity, "EGP-001"), finding(severity, "CHK-NET-010"))
    )
    weighed = judge(made, evidence(record)).baseline
    assert [item.observed for item in weighed] == [word, "unverified", "unverified"]
    assert weighed[0].observed_by == (() if word == "unverified" else (made.checks[0].id,))


def test_the_same_plan_and_evidence_give_the_same_report() -> None:
    made = plan(*CHECKS), evidence(GOOD_CONTROL, silent(2, WITNESS), silent(3, TARGET))
    assert judge(*made) == judge(*made)
    assert judge(*made).run.finished == "2026-01-02T03:04:08.500Z"


@pytest.mark.parametrize(("result", "code"), [("silent", 0), ("answered", 3)])
def test_who_looks_for_an_interception_and_meets_none_wants_no_proof(result: str, code: int) -> None:
    row = check("198.51.100.44", 53, technique="dns_query", channel=Channel.DNS, purpose=Purpose.BOUNDARY,
                reserved=True, query=Query("version.bind", "TXT", DnsResolver.EXPLICIT, klass="CH"))  # fmt: skip
    dns = DnsAnswer("version.bind", "TXT", "NOERROR", False, False, ('"x"',)) if result == "answered" else None
    tried = attempt(result, "198.51.100.44", 53, transport=Transport.UDP, step="query", dns=dns)
    report = judge(plan(row), evidence(Record(1, (tried,))))
    assert report.results[0].verdict.value == "unproven"
    assert report.summary.exit_code == code


@pytest.mark.parametrize(("event_loop", "code"), [(None, 0), ("EPERM", 3)])
def test_ways_that_were_not_tried_because_no_loop_could_start_are_no_green(event_loop: str | None, code: int) -> None:
    """What is not tried may be the way out: the same filter may leave it open."""
    rows = check("192.0.2.1", n=1), check("192.0.2.1", n=2, technique="tcp_fastopen", id="fast")
    refused = attempt("error", "192.0.2.1", error="EPERM", stage="socket")
    records = Record(1, (refused,)), Record(2, (), not_run="this sandbox refuses what an event loop needs")
    start = Start("egress-probe.evidence/1", RUN_ID, replace(VANTAGE, event_loop=event_loop))
    report = judge(plan(*rows), evidence(*records, start=start))
    assert [result.verdict.value for result in report.results] == ["conforms", "not_run"]
    assert report.summary.exit_code == code

"""Conditions and drift, as tables: what holds, and what changed."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from probe.conditions import conditions
from probe.conditions.nouns import BLOCKED, CLOSED, LEAK, OPEN, UNKNOWN, About
from probe.conditions.rows import word
from probe.documents import Vantage
from probe.drift import compare, tell
from probe.drift.moves import NEVER, NONE, Move
from probe.drift.rows import TOLD
from probe.judge import judge
from probe.model import (
    Action,
    Declared,
    DnsRules,
    EnforcerKind,
    Finding,
    Mode,
    Outcome,
    Purpose,
    Rule,
    Severity,
    Source,
    Transport,
    Verdict,
)
from probe.report import BaselineFinding, Enforcer, Observed, PolicySummary, Report, Result
from tests.make import VANTAGE, check, evidence, plan


def report(**more: Any) -> Report:
    made = judge(plan(), evidence())
    return replace(made, **more)


def result(verdict: Verdict, action: Action = Action.DENY, outcome: Outcome = Outcome.SILENT, enforcer: Enforcer | None = None, **more: Any) -> Result:  # fmt: skip
    row = check()
    base = Result(
        row.id, row.scenario, row.technique, row.channel, row.destination, row.purpose,
        Declared(action, "p.toml: deny", "p.toml", 3), Observed(outcome, None, enforcer), verdict, None, "why.",
    )  # fmt: skip
    return replace(base, **more)


ROUTER = Enforcer(EnforcerKind.ROUTER, "10.0.0.1", 1)
NOBODY = Enforcer(EnforcerKind.UNKNOWN, None, 2)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (result(Verdict.LEAK, outcome=Outcome.REACHED), LEAK),
        (result(Verdict.CONFORMS, Action.ALLOW, Outcome.REACHED), OPEN),
        (result(Verdict.CONFORMS, enforcer=ROUTER, outcome=Outcome.REJECTED), "closed by router 10.0.0.1"),
        # Who drops in silence is not known: the hop that was last seen may differ from run to run.
        (result(Verdict.CONFORMS, enforcer=NOBODY), CLOSED),
        (result(Verdict.CONFORMS), CLOSED),
        (result(Verdict.OVERBLOCKED, Action.ALLOW, Outcome.DENIED, Enforcer(EnforcerKind.SYSCALL_FILTER)), "blocked by syscall filter"),
        (result(Verdict.UNPROVEN), UNKNOWN),
        # Nothing is declared: what the network did is compared all the same.
        (result(Verdict.UNDECLARED, Action.UNDECLARED, Outcome.REACHED), OPEN),
        (result(Verdict.UNDECLARED, Action.UNDECLARED, Outcome.REJECTED, ROUTER), "closed by router 10.0.0.1"),
        (result(Verdict.UNDECLARED, Action.UNDECLARED, Outcome.REFUSED, Enforcer(EnforcerKind.PEER)), UNKNOWN),
        (result(Verdict.UNDECLARED, Action.UNDECLARED, Outcome.REFUSED, Enforcer(EnforcerKind.LOCAL_FIREWALL)), "closed by local firewall"),
        (result(Verdict.UNDECLARED, Action.UNDECLARED, Outcome.SILENT), UNKNOWN),
        (result(Verdict.UNDECLARED, Action.UNDECLARED, Outcome.BROKEN), UNKNOWN),
    ],
)  # fmt: skip
def test_the_word_of_a_row(row: Result, expected: str) -> None:
    assert word(row) == expected


# --- rows -------------------------------------------------------------------------------------------------------------

STATES = (NONE, NEVER, UNKNOWN, LEAK, OPEN, CLOSED, BLOCKED)
# Nothing is said where a row is new, or proven for the first time; of a leak and of what does not work it is.
SILENT = {(NONE, now) for now in (UNKNOWN, OPEN, CLOSED)} | {(NEVER, now) for now in (OPEN, CLOSED)}


def test_the_table_is_total() -> None:
    pairs = {
        (was, now)
        for was, now in itertools.product(STATES, STATES)
        if now != NEVER and (was != now or was in (CLOSED, BLOCKED)) and (was, now) != (NEVER, NONE)
    }
    assert set(TOLD) == pairs - SILENT
    assert {kind for (_, now), (kind, _) in TOLD.items() if now == LEAK} == {"leak"}
    assert {kind for (_, now), (kind, _) in TOLD.items() if now == UNKNOWN} == {"blind"}


ROWS = {
    f"row:{n}": About(
        f"tcp 192.0.2.{n}:443", "p.toml:3", "reached", "No control answered.", f"192.0.2.{n}", "192.0.2.0/24"
    )
    for n in range(1, 5)
}


@pytest.mark.parametrize(
    ("before", "now", "line"),
    [
        ("closed by router 10.0.0.1", LEAK, "LEAK: tcp 192.0.2.1:443 got out (was closed by router 10.0.0.1, now reached; p.toml:3 declares it denied)"),
        (None, LEAK, "LEAK: tcp 192.0.2.1:443 got out (first seen now; p.toml:3 declares it denied)"),
        (NEVER, LEAK, "LEAK: tcp 192.0.2.1:443 got out (first seen now; p.toml:3 declares it denied)"),
        (UNKNOWN, LEAK, "LEAK: tcp 192.0.2.1:443 got out (was unproven, now reached; p.toml:3 declares it denied)"),
        (LEAK, "closed by route", "closed: tcp 192.0.2.1:443 no longer got out (was leak, now closed by route)"),
        (OPEN, "blocked by proxy 10.0.0.2", "closed: tcp 192.0.2.1:443 no longer works (was open, now blocked by proxy 10.0.0.2)"),
        ("blocked", OPEN, "opened: tcp 192.0.2.1:443 works now (was blocked, now open)"),
        ("closed by router 10.0.0.1", "closed by local firewall", "enforcer: tcp 192.0.2.1:443 is stopped by another (was closed by router 10.0.0.1, now closed by local firewall)"),
        ("closed by route", UNKNOWN, "blind: tcp 192.0.2.1:443 is no longer proven (was closed by route; No control answered.)"),
        (NEVER, UNKNOWN, "blind: tcp 192.0.2.1:443 was never proven (No control answered.)"),
        (UNKNOWN, "closed by route", "proven: tcp 192.0.2.1:443 is proven to be closed (was unproven, now closed by route)"),
        (OPEN, None, "untried: tcp 192.0.2.1:443 is no longer tried (was open)"),
    ],
)  # fmt: skip
def test_the_line_of_a_row(before: str | None, now: str | None, line: str) -> None:
    (change,) = tell([Move("row:1", before, now)], ROWS)
    assert change.line == line
    assert change.paths == ("1",)
    assert change.cidrs == ("192.0.2.0/24",)


def test_rows_that_are_alike_share_a_line() -> None:
    same = [Move(key, "closed by router 10.0.0.1", LEAK) for key in ROWS]
    (change,) = tell(same, ROWS)
    assert change.line.startswith("LEAK: tcp 192.0.2.1:443 and 3 more, all IPv4 got out (was closed by router 10.0.0.1")
    assert change.paths == ("1", "2", "3", "4")
    # One router has an address in each family.
    both = [same[0], Move("row:2", "closed by router fd00::1", LEAK)]
    (change,) = tell(both, {**ROWS, "row:2": replace(ROWS["row:2"], address="2001:db8::1")})
    assert change.line.startswith("LEAK: tcp 192.0.2.1:443 and 1 more got out (was closed by router, now reached")
    apart = tell([same[0], Move("row:2", "closed by route", LEAK)], ROWS)
    assert len(apart) == 2


def test_what_is_not_alike_has_a_line_of_its_own() -> None:
    why = {**ROWS, "row:2": replace(ROWS["row:2"], why="It needs a raw socket.")}
    blind = tell([Move(name, CLOSED, UNKNOWN) for name in ("row:1", "row:2")], why)
    assert [change.line.partition("(")[2] for change in blind] == [
        "was closed; No control answered.)",
        "was closed; It needs a raw socket.)",
    ]
    routers = [
        Move("row:1", "closed by router 10.0.0.1", "closed by router 10.0.0.2"),
        Move("row:2", "closed by router fd00::1", "closed by router fd00::2"),
    ]
    assert [
        "(was closed by router 10.0.0.1, now closed by router 10.0.0.2)" in change.line
        for change in tell(routers, ROWS)
    ] == [True, False]


def test_leaks_come_first() -> None:
    found = tell([Move("row:1", OPEN, CLOSED), Move("vantage:seccomp", "a", "b"), Move("row:2", CLOSED, LEAK)], ROWS)
    assert [change.kind for change in found] == ["leak", "closed", "vantage"]


# --- the declared policy ----------------------------------------------------------------------------------------------


def policy(*rules: Rule, default: str = "deny", dns: tuple[DnsRules, ...] = (), mode: Mode = Mode.ENFORCE, path: str = "p.toml") -> Report:  # fmt: skip
    return report(
        policy=PolicySummary(
            (Source(path, "native", mode),), Action(default), rules, (Declared(Action(default), "", path, 1),), dns
        )
    )


def rule(domain: str, line: int, *ports: int, action: Action = Action.ALLOW, **more: Any) -> Rule:
    return Rule(action, f"p.toml: allow[{line}]", domain=domain, ports=ports, path="p.toml", line=line, **more)


A, B = rule("a.test", 3, 443), rule("b.test", 7, 443)


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        (policy(A), policy(replace(A, line=9, by="p.toml: allow[5]")), []),  # it moved: that changes nothing
        (policy(A), policy(A, B), ["policy: p.toml:7: new: allow b.test port 443"]),
        (policy(A, B), policy(A), ["policy: p.toml:7: no longer: allow b.test port 443"]),
        (policy(A), policy(B), ["policy: p.toml:7: allow b.test, port 443 (was allow a.test, port 443)"]),
        (policy(A), policy(rule("a.test", 3, 443, 8443)), ["policy: p.toml:3: the rule allow a.test is port 443, 8443 now (was port 443)"]),
        # Several with one subject: all of their lines.
        (policy(A, rule("a.test", 9, 80)), policy(A, rule("a.test", 9, 8443)), ["policy: p.toml:3, 9: the rule allow a.test is port 443, 8443 now (was port 80, 443)"]),
        # Two rules for a port each say what one for both says.
        (policy(A, rule("a.test", 9, 80)), policy(rule("a.test", 3, 80, 443)), []),
        (policy(A, rule("a.test", 9)), policy(A), ["policy: p.toml:3: the rule allow a.test is port 443 now (was any port)"]),
        (policy(A, A), policy(A), []),
        (policy(Rule(Action.ALLOW, "", cidr="2001:db8::/32", path="p.toml", line=3)), policy(Rule(Action.ALLOW, "", cidr="3fff::/20", path="p.toml", line=3)), ["policy: p.toml:3: allow 3fff::/20, any port (was allow 2001:db8::/32, any port)"]),
        (policy(A), policy(rule("a.test", 3)), ["policy: p.toml:3: the rule allow a.test is any port now (was port 443)"]),
        (policy(A), policy(rule("a.test", 3, 443, protocol=Transport.UDP)), ["policy: p.toml:3: the rule allow a.test is port 443/udp now (was port 443)"]),
        (policy(A), policy(rule("a.test", 3, 443, action=Action.DENY)), ["policy: p.toml:3: deny a.test, port 443 (was allow a.test, port 443)"]),
        (policy(), policy(default="allow"), ["policy: p.toml:1: the default is allow now (was deny)"]),
        (policy(), policy(mode=Mode.INERT), ["policy: p.toml: the policy is inert now (was enforce)"]),
        (policy(), policy(dns=(DnsRules("open", "", path="p.toml", line=5),)), ["policy: p.toml:5: DNS is open now (was not declared)"]),
        (policy(dns=(DnsRules("restricted", "", ("10.0.0.1",), ("a.test",), "p.toml", 5),)), policy(dns=(DnsRules("restricted", "", ("10.0.0.1",), None, "p.toml", 5),)), ["policy: p.toml:5: DNS is restricted, resolvers 10.0.0.1 now (was restricted, resolvers 10.0.0.1, names a.test)"]),
        # A layer that went says nothing of each of its rules.
        (policy(A, B), report(), ["policy: the policy p.toml (native) is gone"]),
        (report(), policy(A, B), ["policy: the policy p.toml (native) is new"]),
        (policy(), policy(*(rule(f"{n}.test", n) for n in range(1, 13))), ["policy: p.toml:1: new: allow 1.test any port, allow 2.test any port, allow 3.test any port, allow 4.test any port, allow 5.test any port, allow 6.test any port, allow 7.test any port, allow 8.test any port and 4 more"]),
    ],
)  # fmt: skip
def test_a_changed_policy(before: Report, after: Report, lines: list[str]) -> None:
    assert [change.line for change in compare(conditions(before), conditions(after))] == lines


def test_one_file_that_is_two_layers() -> None:
    def both(first: str) -> Report:
        sources = (Source("o.json", "openclaw"), Source("o.json", "clawpinch", Mode.INERT))
        defaults = tuple(Declared(Action(word), "", "o.json", 2) for word in (first, "deny"))
        return report(policy=PolicySummary(sources, Action.DENY, (), defaults))

    (change,) = compare(conditions(both("deny")), conditions(both("allow")))
    assert change.line == "policy: o.json:2: the default is allow now (was deny)"
    # One that comes says nothing of the other.
    one = report(
        policy=PolicySummary(
            (Source("o.json", "openclaw"),), Action.DENY, (), (Declared(Action.DENY, "", "o.json", 2),)
        )
    )
    more = replace(both("allow").policy, rules=(replace(A, path="o.json"),))
    assert [change.line for change in compare(conditions(one), conditions(report(policy=more)))] == [
        "policy: the policy o.json (clawpinch) is new",
        "policy: o.json:2: the default is allow now (was deny)",
        "policy: o.json:3: new: allow a.test port 443",
    ]


def test_a_long_list_differs_at_its_end_too() -> None:
    many = tuple(range(1, 200))
    before, after = rule("a.test", 3, *many), rule("a.test", 3, *many, 8443)
    (change,) = compare(conditions(policy(before)), conditions(policy(after)))
    assert "198, 199, 8443 now (was port 1, 2" in change.line


def test_rows_with_long_names_are_not_taken_for_each_other() -> None:
    long = "x" * 400
    rows = (result(Verdict.LEAK, id=f"{long}:443"), result(Verdict.CONFORMS, id=f"{long}:80"))
    assert len([key_ for key_ in conditions(report(results=rows)).values if key_.startswith("row:")]) == 2


# --- the place --------------------------------------------------------------------------------------------------------


def place(**more: Any) -> Report:
    base = report()
    return replace(base, run=replace(base.run, vantage=replace(VANTAGE, **more)))


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ({}, {"interfaces": ("eth1", "eth0")}, ["vantage: interfaces: eth0, eth1 (was none)"]),
        ({"interfaces": ("eth1",)}, {}, ["vantage: interfaces: none (was eth1)"]),
        ({}, {"capabilities": ("net_raw", "net_admin")}, ["vantage: new: capability net_raw, net_admin"]),
        ({}, {"capabilities": tuple("abcdefghij")}, ["vantage: new: capability a, b, c, d, e, f, g, h and 2 more"]),
        ({}, {"sockets": ("/run/docker.sock",)}, ["vantage: new: unix socket /run/docker.sock"]),
        ({}, {"refused_sockets": ("tcp over IPv4: EPERM",)}, ["vantage: new: refused socket tcp over IPv4: EPERM"]),
        ({"container": "docker", "container_id": "aaa"}, {"container": "docker", "container_id": "bbb"}, ["vantage: container id: bbb (was aaa)"]),
        # Launchers make a network namespace per run, and the kernel uses their numbers again.
        ({"netns": "net:[1]"}, {"netns": "net:[2]"}, []),
        ({"container_id": "a", "netns": "net:[1]"}, {"container_id": "a", "netns": "net:[2]"}, []),
        ({}, {"addresses": ("eth0 2001:db8::5/64",), "routes": ("default via fe80::1 dev eth0",)}, ["vantage: IPv6: address and default route (was no address)"]),
        ({}, {"addresses": ("eth0 fe80::5/64", "lo ::1/128")}, []),
        ({}, {"addresses": ("eth0 what", "", "eth0 10.0.0.2/24")}, ["vantage: IPv4: address (was no address)"]),
        ({"resolvers": ("10.0.0.1",)}, {"resolvers": ()}, ["vantage: resolvers: none (was 10.0.0.1)"]),
        ({"no_new_privs": True}, {"no_new_privs": None}, ["vantage: no_new_privs: unknown (was on)"]),
        ({"event_loop": "EPERM"}, {}, ["vantage: event loop: starts (was cannot start)"]),
        ({"uid": 0}, {}, ["vantage: user id: 1000 (was 0)"]),
        # The inside may say our own words.
        ({"seccomp": "filter"}, {"seccomp": "there"}, ["vantage: seccomp: there (was filter)"]),
        ({"seccomp": "filter"}, {"seccomp": "unverified"}, ["vantage: seccomp: unverified (was filter)"]),
    ],
)  # fmt: skip
def test_a_changed_place(before: dict[str, Any], after: dict[str, Any], lines: list[str]) -> None:
    changes = compare(conditions(place(**before)), conditions(place(**after)))
    assert [change.line for change in changes] == lines


def test_a_run_that_saw_nothing_of_its_place_says_nothing_of_it() -> None:
    blind = replace(report(), run=replace(report().run, vantage=None))
    assert compare(conditions(place(interfaces=("eth1",))), conditions(blind)) == ()


# --- config findings --------------------------------------------------------------------------------------------------


def found(severity: str = "ok", observed: Any = "confirmed") -> Report:
    return report(baseline=(BaselineFinding("CHK-NET-009", Severity(severity), "T", "", "", "", "", observed),))


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        (found(), found(observed="contradicted"), ["baseline: CHK-NET-009 (T) is contradicted now (was confirmed)"]),
        (found(), found(observed="unverified"), []),
        (found(observed="unverified"), found(), []),
        (found(), found("critical"), ["baseline: CHK-NET-009 (T) is critical now (was ok)"]),
        (report(), found("critical"), ["baseline: CHK-NET-009 (T) is critical now (was not there)"]),
        (found(), report(), ["baseline: CHK-NET-009 (T) is gone now (was ok)"]),
    ],
)
def test_a_config_finding(before: Report, after: Report, lines: list[str]) -> None:
    assert [change.line for change in compare(conditions(before), conditions(after))] == lines


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_what_is_no_condition() -> None:
    tests = (
        result(Verdict.CONFORMS, purpose=Purpose.SELF_TEST),
        result(Verdict.NOT_RUN, outcome=Outcome.NOT_RUN, id="not tried"),
        result(Verdict.UNPROVEN, purpose=Purpose.BOUNDARY, id="no interception met"),
        result(Verdict.CONFORMS, id="other"),
    )
    assert [key for key in conditions(report(results=tests)).values if key.startswith("row:")] == ["row:other"]


def test_findings_of_one_id_are_told_apart() -> None:
    finding = Finding("EGP-001", Severity.WARN, "T", "", "", "")
    two = tuple(
        BaselineFinding(finding.id, finding.severity, title, "", "", "", "", "unverified") for title in ("one", "two")
    )
    values = conditions(report(baseline=two)).values
    assert {"severity:EGP-001", "severity:EGP-001 (2)"} <= values.keys()


def test_a_hostile_vantage_breaks_nothing() -> None:
    odd = Vantage(
        "x", 0, addresses=("\x00", "eth0 ::1%1/129"), routes=("default", "default via"), interfaces=("", "\ud800\n"),
        capabilities=tuple(map(str, range(10_000))), resolvers=("漢" * 200_000,),
    )  # fmt: skip
    found = conditions(replace(report(), run=replace(report().run, vantage=odd)))
    texts = [*found.values, *found.values.values(), *(one.name for one in found.about.values())]
    assert all(text.replace("\t", "").isprintable() and len(text) < 3000 for text in texts)
    assert "".join(texts).encode()
    assert len(texts) < 400


def test_what_opens_most_comes_first() -> None:
    rules = [rule(f"{n}.test", n) for n in range(1, 12)] + [
        Rule(Action.ALLOW, "", cidr="0.0.0.0/0", path="p.toml", line=99)
    ]
    (change,) = compare(conditions(policy()), conditions(policy(*rules)))
    assert change.line.startswith("policy: p.toml:99: new: allow 0.0.0.0/0 any port, allow 1.test any port")
    assert change.line.endswith(" and 4 more")

"""Planning: which rows, with which expectation, at which cost; and that registries, files and docs agree."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from probe.cli.planning import Request, choose, plan_with
from probe.destinations import GENERATORS, Choices, Endpoint
from probe.documents import Check, Collector, Plan
from probe.errors import UserError
from probe.files import load_scenarios, parse_scenario_file, scenario_names
from probe.model import Action, Channel, Destination, Policy, Purpose, Transport
from probe.orders import make_orders
from probe.policies import Context, parse_policy
from probe.techniques import TECHNIQUES, all_traits, load
from probe.tokens import token

KEY = b"k" * 32


def policies(text: str) -> tuple[Policy, ...]:
    return parse_policy("p.toml", text, Context(lambda path: "", {}))


def planned(text: str = 'default = "deny"', **more: object) -> Plan:
    return plan_with(policies(text), replace(Request(), **more), default_witness=False)  # type: ignore[arg-type]


def rows(made: Plan, scenario: str) -> list[Check]:
    return [check for check in made.checks if check.scenario == scenario]


def shown(checks: list[Check]) -> list[str]:
    return [f"{check.channel.value} {check.destination} {check.declared.action.value}" for check in checks]


def test_documentation_ranges_cover_every_block_and_port() -> None:
    found = rows(planned(), "documentation-ranges")
    assert len(found) == 6 * 3
    assert {check.destination.port for check in found} == {80, 443, 4444}
    assert all(check.reserved and check.declared.action is Action.DENY for check in found)


def test_expectations_come_from_the_policy() -> None:
    made = planned('default = "allow"\n[[deny]]\ncidr = "192.0.2.0/24"\n')
    by_address = {c.destination.address: c.declared for c in rows(made, "documentation-ranges")}
    assert by_address["192.0.2.1"].by == "p.toml: deny[0] 192.0.2.0/24"
    assert by_address["203.0.113.1"].action is Action.ALLOW


ENTRIES = """
default = "deny"
[[allow]]
domain = "api.x.test"
ports = [443, 8443]
[[allow]]
cidr = "203.0.113.9"
[[allow]]
cidr = "203.0.113.53"
ports = [53]
protocol = "udp"
[[deny]]
cidr = "203.0.113.7"
ports = [22]
[[deny]]
domain = "*.evil.test"
[[deny]]
cidr = "10.0.0.0/8"
"""


def test_every_entry_has_a_row() -> None:
    found = rows(planned(ENTRIES), "declared-entries")
    assert shown(found) == [
        "tcp api.x.test:443 allow",
        "tcp api.x.test:8443 allow",
        "tcp 203.0.113.9:443 allow",
        "tcp 203.0.113.7:22 deny",
        "tcp *.evil.test deny",
        "tcp 10.0.0.0/8 deny",
        "udp 203.0.113.53:53 allow",
    ]
    by_port = {(check.destination.host or check.destination.address, check.destination.port): check for check in found}
    # Only where the policy names host and port is somebody known to answer.
    assert by_port["api.x.test", 443].answers
    assert by_port["api.x.test", 443].repeat
    assert not by_port["203.0.113.9", 443].answers
    assert by_port["*.evil.test", None].skip is not None
    assert by_port["10.0.0.0/8", None].packets == 0


def test_an_entry_that_the_operator_names_needs_no_guess() -> None:
    made = planned(ENTRIES, controls=("203.0.113.9:80",), witnesses=("a.evil.test:443",))
    assert "tcp 203.0.113.9:443 allow" not in shown(rows(made, "declared-entries"))
    assert "tcp *.evil.test deny" not in shown(rows(made, "declared-entries"))
    assert shown([c for c in made.checks if c.purpose is Purpose.CONTROL]) == ["tcp 203.0.113.9:80 allow"]


def test_an_entry_that_no_plain_socket_can_try_says_so() -> None:
    text = 'default = "allow"\n' + "".join(
        f'[[deny]]\ncidr = "{a}"\n' for a in ("224.0.0.251", "255.255.255.255", "fe80::1")
    )
    skips = [check.skip for check in rows(planned(text), "declared-entries")]
    assert skips == ["a multicast, broadcast or link-local address cannot be tried"] * 3


def test_controls_and_witnesses_are_there_whatever_is_chosen() -> None:
    made = planned(
        scenarios=("reserved-ranges",),
        controls=("203.0.113.9:80", "[2001:db8::9]:53/udp"),
        witnesses=("198.51.100.7:53/udp", "198.51.100.7:443"),
    )
    assert Counter(check.scenario for check in made.checks) == {
        "self-test": 8,
        "reserved-ranges": 6,
        "latency-baseline": 2,
        "undeclared-domains": 4,
    }
    control = next(check for check in made.checks if check.purpose is Purpose.CONTROL)
    assert (control.early, control.repeat) == (True, True)


def test_without_a_control_the_allow_entries_stand_in() -> None:
    made = planned('default = "deny"\n[[allow]]\ncidr = "203.0.113.9"\nports = [443]\n', scenarios=("reserved-ranges",))
    assert shown(rows(made, "declared-entries")) == ["tcp 203.0.113.9:443 allow"]


def test_a_witness_is_tried_on_other_ports_only_if_the_operator_named_it() -> None:
    own = planned(witnesses=("198.51.100.7:443", "198.51.100.7:80", "198.51.100.8:443"))
    found = [str(c.destination) for c in rows(own, "undeclared-domains") if c.destination.address]
    assert found == [
        "198.51.100.7:443",
        "198.51.100.7:80",
        "198.51.100.8:443",
        "198.51.100.7:4444",
        "198.51.100.8:80",
        "198.51.100.8:4444",
    ]
    iana = [c for c in plan_with(policies('default = "deny"'), Request()).checks if c.destination.host == "example.com"]
    assert {c.destination.port for c in iana} == {443}


def test_a_witness_is_tried_on_the_ports_of_deny_entries_and_never_where_the_policy_allows_it() -> None:
    text = (
        'default = "deny"\n[[deny]]\ncidr = "192.0.2.7"\nports = [22]\n[[allow]]\ncidr = "198.51.100.7"\nports = [80]\n'
    )
    found = [
        c.destination.port
        for c in rows(planned(text, witnesses=("198.51.100.7:443",)), "undeclared-domains")
        if c.destination.address
    ]
    assert found == [443, 4444, 22]


def test_a_default_witness_is_said_and_only_where_denied() -> None:
    made = plan_with(policies('default = "deny"'), Request())
    assert made.notes == ("no --witness was given: example.com:443 is used",)
    assert plan_with(policies('default = "allow"'), Request()).notes == ()


def test_a_witness_must_be_denied() -> None:
    with pytest.raises(
        UserError, match=r"--witness 203.0.113.9:1: p.toml: default = \"allow\" allows it \(a witness must be denied\)"
    ):
        planned('default = "allow"', witnesses=("203.0.113.9:1",))


def test_a_zone_stands_in_for_a_name_that_nobody_serves() -> None:
    queries = [check.query for check in rows(planned(zone="x.test"), "dns-txt-exfiltration")]
    assert {query.name for query in queries if query} == {"{token}.x.test"}
    assert {query.expect for query in queries if query} == {"egress-probe"}
    with pytest.raises(UserError, match=r"--zone \*.x.test: name the zone itself"):
        planned(zone="*.x.test")


def test_listed_resolvers_are_asked() -> None:
    text = 'default = "deny"\n[dns]\npolicy = "restricted"\nresolvers = ["203.0.113.53"]\n'
    assert "dns 203.0.113.53:53 deny" in shown(rows(planned(text), "dns-txt-exfiltration"))


def test_random_public_is_opt_in_bounded_and_seeded() -> None:
    assert rows(planned(), "random-public") == []
    found = rows(planned(random_public=5, seed="s"), "random-public")
    assert len(found) == 5
    assert shown(found) == shown(rows(planned(random_public=5, seed="s"), "random-public"))
    with pytest.raises(UserError, match="--scenario random-public: needs --random-public as well"):
        planned(scenarios=("random-public",))


def test_ids_are_unique_and_numbers_run() -> None:
    made = planned(ENTRIES, witnesses=("198.51.100.7:443", "198.51.100.7:443"), zone="x.test")
    assert len({check.id for check in made.checks}) == len(made.checks)
    assert [check.n for check in made.checks] == list(range(1, len(made.checks) + 1))
    assert "undeclared-domains/tcp/198.51.100.7:443#2" in {check.id for check in made.checks}


def test_the_budget_covers_every_row() -> None:
    made = planned()
    assert made.budget.packets >= sum(check.packets for check in made.checks)
    assert planned(rate=0).budget.seconds < made.budget.seconds


def test_orders_list_what_is_attempted_and_nothing_of_the_policy() -> None:
    made = planned(ENTRIES)
    orders = make_orders(made, KEY, "net:[1]")
    assert {order.n for order in orders.orders} == {check.n for check in made.checks if check.skip is None}
    first = next(order for order in orders.orders if order.query and order.query.klass == "IN")
    assert first.query is not None
    assert first.query.name.startswith(token(made.run_id, first.n, KEY))
    assert orders.forbid_netns == "net:[1]"


# --- registries ---


def test_techniques_registry_and_folder_agree(root: Path) -> None:
    helpers = {"__init__", "base", "names"}
    files = {path.stem for path in (root / "probe/techniques").glob("*.py")} - helpers
    assert files == set(TECHNIQUES) == set(all_traits())
    with pytest.raises(KeyError):
        load("nope")


def test_every_scenario_is_loaded_and_every_generator_used() -> None:
    every = load_scenarios(())
    assert [scenario.id for scenario in every] == scenario_names()
    assert {spec.destinations for scenario in every for spec in scenario.check} == set(GENERATORS)
    assert {spec.technique for scenario in every for spec in scenario.check} == set(TECHNIQUES)


def test_choosing_nothing_chooses_all_but_opt_in() -> None:
    chosen = choose((), Choices(controls=(Endpoint(Destination(None, "203.0.113.9", 1), Transport.TCP),)))
    assert {scenario.id for scenario in chosen} == {s.id for s in load_scenarios(()) if s.opt_in is None}


GOOD = """
id = "mine"
title = "t"
why = "w"
source = ["s"]
attack = ["T1048.003"]
[[check]]
technique = "tcp_connect"
destinations = "documentation"
ports = [80]
proves = "p"
"""

MISTAKES = [
    ("mine.toml", GOOD.replace('id = "mine"', 'id = "other"'), "mine.toml: id: 'other' is not the file's name (expected 'mine')"),
    ("My.toml", GOOD.replace('"mine"', '"My"'), "My.toml: id: 'My' (expected lower-case words joined by hyphens)"),
    ("mine.toml", GOOD.replace("T1048.003", "exfil"), "mine.toml: attack[0]: 'exfil' is not a MITRE ATT&CK technique (expected T1048.003)"),
    ("mine.toml", GOOD.split("[[check]]")[0] + "check = []", "mine.toml: check: empty (expected at least one [[check]])"),
    ("mine.toml", GOOD.replace("tcp_connect", "telepathy"), f"mine.toml: check[0].technique: unknown 'telepathy' (known: {', '.join(sorted(TECHNIQUES))})"),
    ("mine.toml", GOOD.replace('"documentation"', '"evil.com"'), f"mine.toml: check[0].destinations: unknown 'evil.com' (known: {', '.join(sorted(GENERATORS))})"),
    ("mine.toml", GOOD.replace("[80]", "[0]"), "mine.toml: check[0].ports[0]: 0 is not a port (expected 1 to 65535)"),
    ("mine.toml", GOOD + "extra = 1", "mine.toml: check[0]: unknown key 'extra'"),
    ("mine.toml", GOOD + "= 1", "mine.toml:12: not TOML: Invalid statement (at line 12, column 1)"),
    ("mine.toml", "x = " + "[" * 3000, "mine.toml: not TOML: nested too deeply"),
    ("mine.toml", "x = ", "mine.toml: not TOML: Invalid value (at end of document)"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "text", "line"), MISTAKES)
def test_mistakes_in_scenarios(path: str, text: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_scenario_file(path, text)
    assert str(caught.value) == line


def test_a_good_scenario() -> None:
    assert parse_scenario_file("x/mine.toml", GOOD).check[0].ports == (80,)


# --- the collector ---

FAR = Collector(
    "https://203.0.113.53:8443", "exfil.test", ("203.0.113.53", "2001:db8:53::53"), (53, 80, 443, 853), (53,)
)
WITH_FAR = """
default = "deny"
[[allow]]
cidr = "203.0.113.53"
ports = [443]
protocol = "tcp"
[dns]
policy = "restricted"
allow = ["*.permitted.exfil.test"]
"""


def test_the_collector_is_control_and_witness() -> None:
    made = planned(WITH_FAR, collector=FAR)
    rows_to_it = [
        c for c in made.checks if c.destination.address == "203.0.113.53" and c.scenario != "declared-entries"
    ]
    there = [c for c in rows_to_it if c.technique == "tcp_connect"]
    assert {(c.destination.port, c.purpose) for c in there} == {
        (443, Purpose.CONTROL), (80, Purpose.WITNESS), (53, Purpose.POLICY), (853, Purpose.POLICY)}  # fmt: skip
    six = {
        c.destination.port: c
        for c in made.checks
        if c.destination.address == FAR.addresses[1] and c.purpose is Purpose.WITNESS
    }
    assert set(six) == {443, 53}
    assert six[53].channel is Channel.UDP
    assert all(c.far_end and not c.reserved for c in (*there, *six.values()))
    assert made.collector == FAR
    assert made.notes == ()


def test_names_stand_in_the_collectors_zone_and_permitted_ones_only_where_they_are() -> None:
    names = {c.query.name for c in planned(WITH_FAR, collector=FAR).checks if c.query and c.far_end}
    assert names == {"{token}.exfil.test", "{token}.permitted.exfil.test", "{chunks}.{token}.exfil.test"}
    permitted = [c for c in planned(WITH_FAR, collector=FAR).checks if c.query and "permitted" in c.query.name]
    assert permitted
    assert all(c.declared.action is Action.ALLOW and c.early and c.repeat for c in permitted)
    none = planned('default = "deny"', collector=FAR)
    assert not any("permitted" in f"{c.query}{c.destination.host}" for c in none.checks)


def test_every_type_and_every_way_of_dns_is_there() -> None:
    made = planned(WITH_FAR, collector=FAR)
    asked = {c.query.type for c in made.checks if c.query and c.far_end and c.destination.host == "system-resolver"}
    assert asked == {"TXT", "A", "AAAA", "MX", "NULL", "CNAME", "HTTPS", "SVCB"}
    ids = {c.id for c in made.checks}
    for wanted in (
        "dns-other-resolvers/dns/203.0.113.53:53/TXT/tcp",
        "dns-other-resolvers/dns/127.0.0.11:53/TXT/udp",
        "dns-encrypted/dns/203.0.113.53:853/TXT/tcp",
        "dns-encrypted/dns/203.0.113.53:443/TXT/tcp/GET",
        "dns-interception/dns/203.0.113.53:53/TXT/udp/ttl1",
        "dns-interception/dns/198.51.100.44:53/TXT/udp/id.server",
        "dns-long-labels/dns/system-resolver:53/TXT/udp/long",
        "far-end/dns/system-resolver:53/TXT/udp/permitted",
        "far-end/tls/203.0.113.53:443",
        "dns-through-proxy/proxy/{token}.exfil.test:443",
    ):
        assert wanted in ids
    assert not any("#" in i for i in ids if not i.startswith("self-test")), sorted(i for i in ids if "#" in i)


def test_only_ports_that_the_collector_listens_on_are_tried() -> None:
    made = planned(WITH_FAR, collector=replace(FAR, tcp=(443,), udp=()))
    assert {c.destination.port for c in made.checks if c.destination.address == FAR.addresses[0]} == {443}
    short = planned(WITH_FAR, scenarios=("dns-long-labels",), collector=FAR)
    assert rows(short, "far-end")


def test_the_vpc_resolver_is_asked_for() -> None:
    there = "169.254.169.253"
    assert not any(c.destination.address == there for c in planned(WITH_FAR, collector=FAR).checks)
    assert any(c.destination.address == there for c in planned(WITH_FAR, collector=FAR, vpc_resolver=True).checks)


def test_a_resolver_that_the_operator_names_is_asked() -> None:
    made = planned(WITH_FAR, collector=FAR, resolvers=("198.51.100.53",))
    there = [c for c in made.checks if c.destination.address == "198.51.100.53"]
    assert {c.query.transport for c in there if c.query} == {Transport.UDP, Transport.TCP}
    assert all(c.far_end and c.declared.action is Action.DENY for c in there)


def test_what_carries_no_token_is_no_row_of_the_far_end() -> None:
    """A raw SYN is one packet without a byte in it, and a collector does not see pings: no arrival can be missed."""
    mute = {name for name, traits in all_traits().items() if not traits.carries}
    assert mute == {"raw_syn", "icmp_echo"}
    made = planned(WITH_FAR, collector=FAR)
    to_it = [c for c in made.checks if c.destination.address in FAR.addresses and c.query is None]
    assert {c.technique for c in to_it} >= mute
    assert all(c.far_end is (c.technique not in mute) for c in to_it)


@pytest.mark.parametrize("zone", ["permitted.corp.test", "a.permitted.corp.test"])
def test_a_zone_whose_own_name_says_permitted(zone: str) -> None:
    made = planned('default = "deny"', collector=replace(FAR, zone=zone))
    names = {c.query.name for c in made.checks if c.query and c.far_end}
    assert f"{{token}}.{zone}" in names
    assert not any(".permitted.permitted." in name for name in names)


def test_a_token_to_port_53_is_dns_to_a_filter_of_packets() -> None:
    open_dns = 'default = "deny"\n[dns]\npolicy = "open"'
    made = planned(open_dns, collector=FAR, scenarios=("far-end",))
    assert not any(c.destination.port == 53 and c.query is None and c.skip is None for c in made.checks)
    strict = planned(WITH_FAR, collector=FAR, scenarios=("far-end",))
    assert any(c.destination.port == 53 and c.query is None and c.skip is None for c in strict.checks)


def test_the_collectors_witnesses_are_tried_before_all_others_too() -> None:
    made = planned(WITH_FAR, collector=FAR)
    first = [c for c in made.checks if c.first]
    assert {(c.channel, ":" in (c.destination.address or "")) for c in first} == {
        (channel, six) for channel in (Channel.TCP, Channel.UDP) for six in (False, True)}  # fmt: skip
    assert all(c.purpose is Purpose.WITNESS and "once before, alone" in c.sends for c in first)
    assert {o.n for o in make_orders(made, KEY, None).orders if o.first} == {c.n for c in first}


def test_rows_that_only_look_at_who_answers() -> None:
    made = planned(WITH_FAR, collector=FAR)
    looks = {c.id for c in made.checks if c.purpose is Purpose.BOUNDARY}
    assert looks == {c.id for c in made.checks if c.query and (c.query.hops or c.query.klass == "CH")}


def test_dns_over_https_to_an_allowed_host_is_its_https() -> None:
    made = planned(WITH_FAR, collector=FAR)
    said = {c.id: c.declared.action for c in made.checks}
    assert said["dns-encrypted/dns/203.0.113.53:443/TXT/tcp/POST"] is Action.ALLOW
    assert said["dns-encrypted/dns/203.0.113.53:853/TXT/tcp"] is Action.DENY
    assert said["dns-other-resolvers/dns/203.0.113.53:53/TXT/udp"] is Action.DENY


def test_long_labels_are_digests_of_the_nonce_and_names_fit() -> None:
    made = planned(WITH_FAR, collector=FAR)
    orders = make_orders(made, KEY, None)
    for order in orders.orders:
        if order.query is not None:
            assert len(order.query.name) <= 253
            assert all(len(label) <= 63 for label in order.query.name.split("."))
            assert "{" not in order.query.name
    long = next(o for o in orders.orders if o.query and len(o.query.name) > 150)
    assert long.query is not None
    assert long.query.name.endswith(f".{long.token}.exfil.test")


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ('technique = "dns_over_tls"\nquery = { name = "{token}.example", type = "TXT" }', "query.transport: dns_over_tls goes over tcp"),
        ('technique = "dns_query"\nquery = { name = "{token}.example", type = "TXT", hops = 0 }', "query.hops: 0 (expected 1 to 255"),
        ('technique = "dns_query"\nquery = { name = "a b", type = "TXT" }', "query.name: 'a b'"),
        ('technique = "dns_query"\nquery = { name = "x.example", type = "ANY" }', "query.type: expected one of"),
        ('technique = "tcp_connect"\nquery = { name = "x.example", type = "TXT" }', "query: belongs to dns_over_https, dns_over_tls, dns_query"),
    ],
)  # fmt: skip
def test_mistakes_in_questions(line: str, wrong: str) -> None:
    text = GOOD.split("[[check]]")[0] + f'[[check]]\n{line}\ndestinations = "system-resolver"\nproves = "p"\n'
    with pytest.raises(UserError) as caught:
        parse_scenario_file("mine.toml", text)
    assert wrong in str(caught.value)


def test_what_dies_on_the_way_or_carries_no_token_is_no_row_of_the_far_end() -> None:
    made = planned(WITH_FAR, collector=FAR)
    odd = [c for c in made.checks if c.query and (c.query.hops or c.query.klass == "CH")]
    assert odd
    assert not any(c.far_end for c in odd)
    zoned = planned(zone="exfil.test")
    assert {c.query.name for c in zoned.checks if c.query and c.query.klass == "CH"} == {"version.bind", "id.server"}

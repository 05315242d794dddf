"""Facts → outcome, row by row of what was measured on a real kernel."""

from dataclasses import replace

import pytest

from probe.classify import made_up_addresses, observe
from probe.documents import Attempt, Data, DnsAnswer, Icmp, RawAnswer, Record, Tls, Vantage
from probe.kinds import BY_TTL, NO_NEIGHBOUR
from probe.model import Destination, DnsResolver, EnforcerKind, Outcome, Query, Transport, Via
from probe.paths import Surroundings, is_on_link
from probe.report import Enforcer
from probe.signs import who
from tests.make import VANTAGE, attempt, check

GW, GW6, OWN, OWN6 = "10.99.0.1", "fd99::1", "10.99.0.2", "fd99::2"
V6 = "2001:db8::1"


def see(*attempts: Attempt, vantage: Vantage | None = VANTAGE, **more: object):
    address = attempts[0].address
    return observe(check(address, **more), Record(1, attempts), vantage)


def error(name: str, stage: str = "receive", address: str = "192.0.2.1", icmp: Icmp | None = None, **more: object):
    source = OWN6 if ":" in address else OWN
    return attempt("error", address, stage=stage, error=name, icmp=icmp, source=source, **more)


# enforcement, attempt → outcome, failure, kind, hop
KERNEL = [
    ("closed port or RST filter", error("ECONNREFUSED"), "refused", "connection_refused", "unknown", None),
    ("gateway reject", error("ECONNREFUSED", icmp=Icmp(3, 3, GW)), "refused", "connection_refused", "router", 1),
    ("gateway reject v6", error("ECONNREFUSED", address=V6, icmp=Icmp(1, 4, GW6)), "refused", "connection_refused", "router", 1),
    ("gateway admin-prohibited", error("EHOSTUNREACH", icmp=Icmp(3, 13, GW)), "rejected", "host_unreachable", "router", 1),
    ("gateway admin-prohibited v6", error("EACCES", address=V6, icmp=Icmp(1, 1, GW6)), "rejected", "permission_denied", "router", 1),
    ("gateway no route", error("ENETUNREACH", icmp=Icmp(3, 0, GW)), "rejected", "network_unreachable", "router", 1),
    ("gateway prot-unreachable", error("ENOPROTOOPT", icmp=Icmp(3, 2, GW)), "rejected", "no_protocol_option", "router", 1),
    ("a router farther out", error("EHOSTUNREACH", icmp=Icmp(3, 13, "198.18.5.5")), "rejected", "host_unreachable", "router", None),
    ("local OUTPUT reject", error("ECONNREFUSED", icmp=Icmp(3, 3, OWN)), "refused", "connection_refused", "local_firewall", 0),
    ("dead next hop", error("EHOSTUNREACH", icmp=Icmp(3, 1, OWN)), "rejected", "host_unreachable", "route", 0),
    ("dead next hop v6", error("EHOSTUNREACH", address=V6, icmp=Icmp(1, 3, OWN6)), "rejected", "host_unreachable", "route", 0),
    ("in the target's own name", error("EHOSTUNREACH", icmp=Icmp(3, 13, "192.0.2.1")), "rejected", "host_unreachable", "unknown", None),
    ("offender unknown", error("EHOSTUNREACH", icmp=Icmp(3, 13, None)), "rejected", "host_unreachable", "unknown", None),
    ("routing loop", error("EHOSTUNREACH", icmp=Icmp(11, 0, GW)), "rejected", "host_unreachable", "unknown", None),
    ("too big", error("EMSGSIZE", icmp=Icmp(3, 4, GW)), "broken", "message_size", None, None),
    ("another ICMP type", error("EPROTO", icmp=Icmp(12, 0, GW)), "broken", "unknown_failure", None, None),
    ("no default route", error("ENETUNREACH", "connect"), "no_route", "network_unreachable", "route", 0),
    ("unreachable route, gVisor", error("EHOSTUNREACH", "connect"), "no_route", "host_unreachable", "route", 0),
    ("blackhole route", error("EINVAL", "connect"), "no_route", "invalid_argument", "route", 0),
    ("no IPv6 address", error("EADDRNOTAVAIL", "connect", V6, routed=False), "no_route", "address_not_available", "route", 0),
    ("out of ports", error("EADDRNOTAVAIL", "connect", routed=True), "broken", "address_not_available", None, None),
    ("Landlock, prohibit route", error("EACCES", "connect"), "denied", "permission_denied", "unknown", 0),
    ("cgroup BPF, seccomp", error("EPERM", "connect"), "denied", "operation_not_permitted", "syscall_filter", 0),
    ("local drop on a datagram", error("EPERM", "send"), "denied", "operation_not_permitted", "local_firewall", 0),
    ("refused at once", error("ECONNREFUSED", "connect"), "refused", "connection_refused", "unknown", None),
    ("seccomp on socket", error("EPERM", "socket"), "denied", "operation_not_permitted", "syscall_filter", 0),
    ("firejail --protocol", error("ENOTSUP", "socket"), "denied", "unknown_failure", "syscall_filter", 0),
    ("no IPv6 in the kernel", error("EAFNOSUPPORT", "socket", V6), "no_route", "address_family_not_supported", "route", 0),
    ("the kernel gave up", error("ETIMEDOUT"), "silent", "timed_out", None, None),
    ("out of files", error("EMFILE", "socket"), "broken", "unknown_failure", None, None),
    ("an errno that no table has", error("EXFULL"), "broken", "unknown_failure", None, None),
    ("an errno at once that no table has", error("EXFULL", "connect"), "broken", "unknown_failure", None, None),
    ("the budget was spent", error("budget", "socket"), "broken", "unknown_failure", None, None),
    ("silence", attempt(), "silent", "generic_timeout_error", None, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("tried", "outcome", "failure", "kind", "hop"), [row[1:] for row in KERNEL], ids=[r[0] for r in KERNEL]
)
def test_kernel_signs(tried: Attempt, outcome: str, failure: str, kind: str | None, hop: int | None) -> None:
    seen = see(tried)
    assert (seen.outcome, seen.failure) == (outcome, failure)
    assert (seen.enforcer.kind if seen.enforcer else None) == kind
    assert (seen.enforcer.hop if seen.enforcer else None) == hop


def test_own_loopback_refuses_as_a_peer() -> None:
    closed = "closed port on loopback"
    assert see(error("ECONNREFUSED", address="127.0.0.1")).enforcer == Enforcer(EnforcerKind.PEER, None, 0, closed)
    udp = error("ECONNREFUSED", address="::1", icmp=Icmp(1, 4, "::1"))
    assert see(udp).enforcer == Enforcer(EnforcerKind.PEER, "::1", 0, closed)


def test_who() -> None:
    table = [
        (None, "unknown"),
        (Enforcer(EnforcerKind.UNKNOWN), "unknown"),
        (Enforcer(EnforcerKind.MIDDLEBOX), "unknown"),
        (Enforcer(EnforcerKind.PEER), "peer"),
        (Enforcer(EnforcerKind.ROUTER, GW, 1), "filter"),
        (Enforcer(EnforcerKind.ROUTER, GW, None), "beyond"),
        (Enforcer(EnforcerKind.LOCAL_FIREWALL), "filter"),
        (Enforcer(EnforcerKind.ROUTER, None, 1, BY_TTL), "beyond"),
        (Enforcer(EnforcerKind.ROUTE, OWN, 0, NO_NEIGHBOUR), "neighbour"),
        (Enforcer(EnforcerKind.ROUTE, hop=0), "filter"),
        (Enforcer(EnforcerKind.PROXY), "filter"),
    ]
    assert [who(enforcer) for enforcer, _ in table] == [word for _, word in table]


def test_on_link() -> None:
    assert is_on_link(GW, VANTAGE) is True
    assert is_on_link("fe80::1", VANTAGE) is True
    assert is_on_link("10.98.0.1", VANTAGE) is False
    assert is_on_link("169.254.7.1", VANTAGE) is False  # Linux forwards IPv4 link-local addresses
    assert is_on_link(GW, None) is None
    assert is_on_link(GW, replace(VANTAGE, on_link=None)) is None


def test_without_routes_a_router_is_never_taken_for_the_next_hop() -> None:
    seen = see(error("EHOSTUNREACH", icmp=Icmp(3, 13, GW)), vantage=None)
    assert who(seen.enforcer) == "beyond"


# --- accepts ---


def talk(data: Data | None = None, tls: Tls | None = None, **more: object) -> Attempt:
    return attempt("answered" if data or tls else "silent", step="talk", data=data, tls=tls, **more)


def http(status: int, *headers: str) -> Data:
    return Data(100, "reply", "HTTP/1.1", http_status=status, http_headers=headers)


NEAR = attempt("connected", step="walk", hops=1)
FAR = attempt("error", step="walk", hops=1, stage="receive", error="EHOSTUNREACH", icmp=Icmp(11, 0, GW))
BYTES = Data(5, "banner", "hello")
ACCEPTS = [
    ("a banner", [talk(BYTES)], "reached", "peer"),
    ("HTTP 200", [talk(http(200))], "reached", "peer"),
    ("407 from beyond", [talk(http(407))], "proxy_denied", "unknown"),
    ("403 of squid from beyond", [talk(http(403, "x-squid-error"))], "proxy_denied", "unknown"),
    ("403 from the next hop", [talk(http(403)), NEAR], "proxy_denied", "proxy"),
    ("200 from the next hop", [talk(http(200)), NEAR], "intercepted", "middlebox"),
    ("mute, from the next hop", [talk(), NEAR], "intercepted", "middlebox"),
    ("nobody at the next hop", [talk(http(200)), FAR], "reached", "peer"),
    ("a bare 403", [talk(http(403))], "proxy_denied", "unknown"),
    ("451", [talk(http(451))], "proxy_denied", "unknown"),
    ("TLS without a name", [talk(tls=Tls(True))], "reached", "peer"),
    ("a verified certificate", [talk(http(200), Tls(True, verified=True))], "reached", "peer"),
    ("a verified certificate and a 403", [talk(http(403), Tls(True, verified=True))], "proxy_denied", "unknown"),
    ("a verified certificate without HTTP", [talk(tls=Tls(True, verified=True))], "reached", "peer"),
    ("a wrong certificate", [talk(tls=Tls(False, verified=False)), talk(http(200), Tls(True))], "intercepted", "middlebox"),
    ("a TLS alert only", [talk(tls=Tls(False, problem="ALERT"))], "accepted", None),
    ("mute", [talk()], "accepted", None),
    ("no conversation", [], "accepted", None),
]  # fmt: skip


@pytest.mark.parametrize(("talks", "outcome", "kind"), [row[1:] for row in ACCEPTS], ids=[row[0] for row in ACCEPTS])
def test_accepts(talks: list[Attempt], outcome: str, kind: str | None) -> None:
    seen = see(attempt("connected"), *talks)
    assert (seen.outcome, seen.enforcer.kind if seen.enforcer else None) == (outcome, kind)


def test_a_mute_accept_where_nobody_lives_is_intercepted() -> None:
    assert see(attempt("connected"), talk(), reserved=True).outcome == "intercepted"


@pytest.mark.parametrize("address", ["127.0.0.1", "10.99.0.7"])
def test_the_next_hop_says_nothing_about_the_local_network(address: str) -> None:
    made = [
        attempt("connected", address),
        talk(BYTES, address=address),
        attempt("connected", address, step="walk", hops=1),
    ]
    assert see(*made).outcome == "reached"
    assert see(*made, vantage=None).outcome == "reached"


def test_a_name_that_does_not_exist_is_never_reached() -> None:
    assert see(attempt("connected"), talk(BYTES), host="x.example", reserved=True).outcome == "intercepted"


def test_the_address_of_a_name_that_does_not_exist_is_a_block_page() -> None:
    unreal = check(None, host="{token}.example", reserved=True)
    lookup = looked_up(DnsAnswer("t.example", "A", "NOERROR", False, False, ("203.0.113.66",)))
    query = check(None, 53, host="system-resolver", query=Query("{token}.invalid", "A"))
    asked = replace(lookup, step="query", dns=DnsAnswer("t.invalid", "A", "NOERROR", False, False, ("203.0.113.67",)))
    made_up = made_up_addresses(
        [(unreal, Record(1, (lookup,))), (query, Record(2, (asked,))), (check(), None), (unreal, None)]
    )
    assert made_up == {"203.0.113.66", "203.0.113.67"}
    row = check(None, host="evil.test")
    tried = Record(1, (attempt("connected", "203.0.113.66"), talk(BYTES, address="203.0.113.66")))
    assert observe(row, tried, VANTAGE, made_up).outcome == "intercepted"


def test_half_a_name_that_was_never_looked_up_keeps_the_row_open() -> None:
    rejected = error("EHOSTUNREACH", icmp=Icmp(3, 13, GW))
    four = looked_up(DnsAnswer("x", "A", "NOERROR", False, False, ("192.0.2.1",)))
    mute, empty = looked_up(), looked_up(DnsAnswer("x", "AAAA", "NOERROR", False, False))
    assert observe(check(None, host="x"), Record(1, (four, mute, rejected)), VANTAGE).outcome == "name_unresolved"
    assert observe(check(None, host="x"), Record(1, (four, empty, rejected)), VANTAGE).outcome == "rejected"
    # A second server gave what the first did not.
    both = (looked_up(), looked_up(), four, empty, rejected)
    assert observe(check(None, host="x"), Record(1, both), VANTAGE).outcome == "rejected"


def test_a_sinkhole_for_one_type_is_a_denied_name() -> None:
    sunk, empty = looked_up(dns("NOERROR", "0.0.0.0", kind="A")), looked_up(dns("NOERROR", kind="AAAA"))
    assert see(sunk, empty, host="x.example").outcome == "name_denied"


@pytest.mark.parametrize("address", ["224.0.0.251", "255.255.255.255", "10.99.0.255", "fe80::1"])
def test_where_a_plain_socket_may_not_go_nothing_was_blocked(address: str) -> None:
    assert see(error("EACCES", "connect", address)).outcome == "broken"
    assert see(error("EINVAL", "connect", address)).outcome == "broken"
    assert see(replace(error("EINVAL", "connect"), address=None)).outcome == "no_route"


def test_a_datagram_that_is_answered_was_received() -> None:
    assert see(attempt("answered", step="send", data=BYTES, transport=Transport.UDP)).outcome == "reached"


# --- several addresses, several tries ---


def test_any_answer_beats_silence_for_the_same_address() -> None:
    assert see(attempt(), error("EHOSTUNREACH", icmp=Icmp(3, 13, GW), again=True)).outcome == "rejected"
    assert see(attempt(), attempt("connected"), talk(BYTES)).outcome == "reached"


@pytest.mark.parametrize(
    ("one", "other", "worst"),
    [
        (attempt("connected", V6), error("ENETUNREACH", "connect"), "accepted"),
        (attempt(address=V6), error("ENETUNREACH", "connect"), "silent"),
        (error("EXFULL", address=V6), error("ENETUNREACH", "connect"), "broken"),
        (error("EACCES", "connect", V6), error("ENETUNREACH", "connect"), "denied"),
    ],
)
def test_the_address_that_speaks_most_against_blocked_stands_for_the_row(
    one: Attempt, other: Attempt, worst: str
) -> None:
    assert see(one, other).outcome == worst


# --- names and DNS ---


def looked_up(dns: DnsAnswer | None = None, **more: object) -> Attempt:
    result = more.pop("result", "answered" if dns else "silent")
    return attempt(result, "10.99.0.1", 53, step="resolve", dns=dns, transport=Transport.UDP, **more)


def dns(rcode: str = "NOERROR", *records: str, kind: str = "TXT") -> DnsAnswer:
    return DnsAnswer("x.example", kind, rcode, False, False, records)


def test_a_name_without_an_address() -> None:
    rows = [
        (looked_up(), "name_unresolved", "generic_timeout_error"),
        (looked_up(result="error", stage="connect", error="ENETUNREACH"), "name_unresolved", "network_unreachable"),
        (looked_up(dns("NXDOMAIN", kind="A")), "name_unresolved", "dns_nxdomain_error"),
        (looked_up(dns("REFUSED", kind="A")), "name_denied", "dns_refused_error"),
        (looked_up(dns("NOERROR", "0.0.0.0", kind="A")), "name_denied", "dns_bogon_error"),
    ]
    for tried, outcome, failure in rows:
        seen = see(tried, host="x.example")
        assert (seen.outcome, seen.failure) == (outcome, failure)


def test_a_named_row_never_ends_on_our_own_loopback() -> None:
    assert (
        see(attempt("connected", "127.0.0.1"), talk(BYTES, address="127.0.0.1"), host="evil.example").outcome
        == "name_denied"
    )


def test_a_listener_that_was_refused() -> None:
    tried = attempt("error", "127.0.0.1", step="listen", error="EADDRNOTAVAIL", port=None)
    assert see(tried).outcome == "no_route"


QUERY = Query("{token}.example", "TXT")
ASKED = [
    ("no answer", {}, "name_unresolved", "generic_timeout_error"),
    ("NXDOMAIN", {"dns": dns("NXDOMAIN")}, "name_unresolved", "dns_nxdomain_error"),
    ("SERVFAIL", {"dns": dns("SERVFAIL")}, "name_unresolved", "dns_servfail_error"),
    ("an rcode of its own", {"dns": dns("NOTIMP")}, "name_unresolved", "dns_server_misbehaving"),
    ("REFUSED", {"dns": dns("REFUSED")}, "name_denied", "dns_refused_error"),
    ("empty", {"dns": dns()}, "name_unresolved", "dns_no_answer"),
    ("some record", {"dns": dns("NOERROR", '"x"')}, "accepted", None),
    ("not an address", {"dns": dns("NOERROR", "nonsense", kind="A")}, "accepted", None),
    ("no route to the resolver", {"result": "error", "stage": "connect", "error": "ENETUNREACH"}, "no_route", "network_unreachable"),
    ("nobody listens there", {"result": "error", "stage": "receive", "error": "ECONNREFUSED"}, "name_unresolved", "connection_refused"),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "outcome", "failure"), [row[1:] for row in ASKED], ids=[row[0] for row in ASKED])
def test_the_system_resolver(facts: dict[str, object], outcome: str, failure: str | None) -> None:
    facts = {"result": "answered" if "dns" in facts else "silent", **facts}
    tried = replace(attempt(address="10.99.0.1", port=53, step="query", transport=Transport.UDP), **facts)
    seen = observe(check(None, 53, host="system-resolver", query=QUERY), Record(1, (tried,)), VANTAGE)
    assert (seen.outcome, seen.failure) == (outcome, failure)


def ask(query: Query, reserved: bool = False, **facts: object) -> Outcome:
    tried = replace(attempt(port=53, step="query"), **facts)
    return observe(check(port=53, query=query, reserved=reserved), Record(1, (tried,)), VANTAGE).outcome


def test_an_explicit_resolver() -> None:
    explicit = replace(QUERY, resolver=DnsResolver.EXPLICIT)
    assert ask(explicit) == "silent"
    assert ask(explicit, transport=Transport.TCP, result="connected") == "accepted"
    # Nobody runs a resolver at a reserved address.
    assert ask(explicit, reserved=True, result="answered", dns=dns("NXDOMAIN")) == "intercepted"
    assert ask(explicit, reserved=True, transport=Transport.TCP, result="connected") == "intercepted"
    gateway = {"result": "error", "stage": "receive", "error": "ECONNREFUSED", "icmp": Icmp(3, 3, GW)}
    assert ask(explicit, **gateway) == "refused"


def test_the_zones_own_record_proves_that_the_query_left() -> None:
    expecting = replace(QUERY, expect="egress-probe")
    assert ask(expecting, result="answered", dns=dns("NOERROR", '"egress-probe"')) == "reached"
    assert ask(expecting, result="answered", dns=dns("NOERROR", '"something else"')) == "accepted"
    explicit = replace(expecting, resolver=DnsResolver.EXPLICIT)
    assert ask(explicit, reserved=True, result="answered", dns=dns("NOERROR", '"egress-probe"')) == "reached"


def test_a_name_that_cannot_exist_was_made_up() -> None:
    query = Query("{token}.invalid", "A")
    assert ask(query, result="answered", dns=dns("NOERROR", "203.0.113.9", kind="A")) == "intercepted"


# --- no evidence ---


def test_nothing_is_broken_never_blocked() -> None:
    assert observe(check(), None, VANTAGE).outcome == "broken"
    assert observe(check(), Record(1, ()), VANTAGE).outcome == "broken"
    assert observe(check(), Record(1, (), not_run="no raw socket"), VANTAGE).outcome == "not_run"


# --- a raw SYN ---


def raw(kind: str, *ttls: int, **more: object) -> Attempt:
    """What one SYN brought, with these TTLs."""
    answers = tuple(RawAnswer(kind, "192.0.2.1", ttl, 0.01) for ttl in ttls)  # type: ignore[arg-type] - a word of its own
    facts = {
        "answered": {"result": "answered"},
        "refused": {"result": "error", "stage": "receive", "error": "ECONNREFUSED"},
    }
    return attempt(**{**facts["answered" if kind == "syn-ack" else "refused"], "step": "raw", "raw": answers, **more})


def test_a_raw_syn() -> None:
    known = {4: Surroundings(2, True, {1: frozenset((GW,))})}

    def look(tried: Attempt) -> tuple[str, str | None]:
        seen = observe(check(), Record(1, (tried,)), VANTAGE, around=known)
        return seen.outcome, seen.enforcer.kind if seen.enforcer else None

    assert look(raw("syn-ack", 63)) == ("accepted", None)
    for ttl in (63, 64):  # one SYN does not show how far it went, and a TTL is its sender's choice
        assert look(raw("rst", ttl)) == ("refused", "unknown")
    injected = replace(raw("rst", 64), raw=(*raw("rst", 64).raw, *raw("syn-ack", 63).raw))
    assert look(injected) == ("intercepted", "middlebox")
    assert look(attempt(step="raw")) == ("silent", None)


def test_a_query_that_is_to_die_at_the_next_hop_says_nothing_when_it_does() -> None:
    query = replace(QUERY, resolver=DnsResolver.EXPLICIT, hops=1)
    assert ask(query, result="silent") is Outcome.NAME_UNRESOLVED
    died = {"result": "error", "error": "EHOSTUNREACH", "stage": "receive", "icmp": Icmp(11, 0, GW), "hops": 1}
    assert ask(query, **died) is Outcome.NAME_UNRESOLVED
    assert ask(query, result="error", error="ENETUNREACH", stage="connect") is Outcome.NO_ROUTE
    answer = DnsAnswer("x", "TXT", "NXDOMAIN", False, False)
    assert ask(query, reserved=True, result="answered", dns=answer) is Outcome.INTERCEPTED


def test_two_answers_to_one_datagram_have_two_senders() -> None:
    first, other = dns("NXDOMAIN"), dns("NOERROR", '"egress-probe"')
    answered = {"result": "answered", "dns": first, "late": (other,)}
    assert ask(QUERY, **answered) is Outcome.INTERCEPTED
    assert ask(QUERY, **answered, tries=2) is Outcome.NAME_UNRESOLVED  # the second may answer the second datagram
    assert ask(replace(QUERY, expect="egress-probe"), **answered) is Outcome.REACHED


# --- proxies ---

NEAR = attempt("connected", "127.0.0.1", 3128)


def said(status: int | None, excerpt: str = "", **more: object) -> Attempt:
    return replace(NEAR, step="talk", result="answered", data=Data(20, "reply", excerpt, status), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attempts", "outcome", "kind"),
    [
        ((NEAR, said(403)), "proxy_denied", "proxy"),
        ((NEAR, said(407)), "proxy_denied", "proxy"),
        ((NEAR, said(200)), "accepted", "proxy"),
        # What follows may be the far end's, or the proxy's own page.
        ((NEAR, said(200), said(None, "hello")), "accepted", "proxy"),
        ((NEAR, said(200), said(502)), "accepted", "proxy"),
        ((NEAR, said(200), said(403)), "accepted", "proxy"),
        ((NEAR, said(200), replace(NEAR, again=True), said(200, again=True)), "accepted", "proxy"),
        ((NEAR, said(403), replace(NEAR, again=True), said(200, again=True)), "accepted", "proxy"),
        ((NEAR, said(502)), "name_unresolved", "proxy"),
        ((NEAR, replace(NEAR, step="talk", result="silent")), "name_unresolved", "proxy"),
        ((NEAR,), "name_unresolved", "proxy"),
        ((error("ECONNREFUSED", address="10.99.0.1"),), "refused", "unknown"),
    ],
)
def test_what_a_proxy_made_of_it(attempts: tuple[Attempt, ...], outcome: str, kind: str) -> None:
    row = replace(
        check(None, 443), destination=Destination("denied.test", None, 443, Via.PROXY), technique="proxy_connect"
    )
    seen = observe(row, Record(1, attempts), VANTAGE)
    assert (seen.outcome.value, seen.enforcer and seen.enforcer.kind.value) == (outcome, kind)

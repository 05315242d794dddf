"""The native dialect: what it means, and the exact line for each way to get it wrong."""

import pytest

from probe.errors import UserError
from probe.model import Action, Channel, Declared, Destination, DnsResolver, Policy, Query, Rule, Transport
from probe.policies import Context, parse_policy
from probe.policies.decide import combined_default, decide, matches


def nothing(path: str) -> str:
    raise AssertionError(path)


CONTEXT = Context(nothing, {})


def policy(text: str) -> Policy:
    (made,) = parse_policy("p.toml", text, CONTEXT)
    return made


def to(where: str, port: int | None = 443) -> Destination:
    is_address = where[0].isdigit() or ":" in where
    return Destination(None if is_address else where, where if is_address else None, port)


def says(text: str, where: str, port: int | None = 443, channel: Channel = Channel.TCP) -> str:
    return decide([policy(text)], to(where, port), channel).action.value


DENY = 'default = "deny"\n'
EXACT = DENY + '[[allow]]\ndomain = "api.x.test"\n'
WILD = DENY + '[[allow]]\ndomain = "*.x.test"\n'
NET = DENY + '[[allow]]\ncidr = "198.51.100.0/24"\nports = [80, 443]\nprotocol = "tcp"\n'
BOTH = NET + '[[deny]]\ncidr = "198.51.100.7"\n'

MEANINGS = [
    ("exact", EXACT, "api.x.test", 443, "allow"),
    ("exact, case and trailing dot", EXACT, "API.x.test.", 443, "allow"),
    ("exact is not a suffix", EXACT, "evil-api.x.test", 443, "deny"),
    ("exact is not a prefix", EXACT, "api.x.test.evil.example", 443, "deny"),
    ("absent ports are any", EXACT, "api.x.test", 22, "allow"),
    ("wildcard, one label", WILD, "a.x.test", 443, "allow"),
    ("wildcard, any depth", WILD, "a.b.x.test", 443, "allow"),
    ("wildcard, no apex", WILD, "x.test", 443, "deny"),
    ("wildcard, no look-alike", WILD, "notx.test", 443, "deny"),
    ("network", NET, "198.51.100.9", 80, "allow"),
    ("network, another port", NET, "198.51.100.9", 22, "deny"),
    ("outside the network", NET, "198.51.101.9", 80, "deny"),
    ("a v4-mapped address lies where its v4 address does", NET, "::ffff:198.51.100.9", 80, "allow"),
    ("a name is not in a network", NET, "api.x.test", 80, "deny"),
    ("deny wins whatever the order", BOTH, "198.51.100.7", 80, "deny"),
    ("default allow", 'default = "allow"\n', "192.0.2.1", 80, "allow"),
    ("an empty list changes nothing", 'default = "deny"\nallow = []\n', "192.0.2.1", 80, "deny"),
]


@pytest.mark.parametrize(
    ("text", "where", "port", "action"), [row[1:] for row in MEANINGS], ids=[r[0] for r in MEANINGS]
)
def test_meanings(text: str, where: str, port: int, action: str) -> None:
    assert says(text, where, port) == action


def test_protocols() -> None:
    assert says(NET, "198.51.100.9", 80, Channel.HTTP) == "allow"
    assert says(NET, "198.51.100.9", 80, Channel.UDP) == "deny"
    assert says(NET, "198.51.100.9", 80, Channel.ICMP) == "deny"


def test_the_rule_that_decided_is_named() -> None:
    assert decide([policy(BOTH)], to("198.51.100.7"), Channel.TCP) == Declared(
        Action.DENY, "p.toml: deny[0] 198.51.100.7/32"
    )
    assert decide([policy(DENY)], to("192.0.2.1"), Channel.TCP) == Declared(Action.DENY, 'p.toml: default = "deny"')


def test_an_empty_rule_matches_everything() -> None:
    assert matches(Rule(Action.DENY, "r"), to("192.0.2.1"), Transport.TCP)


def test_layers() -> None:
    deny, allow = policy(DENY), policy('default = "allow"\n')
    assert decide([], to("192.0.2.1"), Channel.TCP).action == "undeclared"
    assert decide([allow, deny], to("192.0.2.1"), Channel.TCP).action == "deny"
    assert decide([allow], to("192.0.2.1"), Channel.TCP).action == "allow"
    assert [combined_default(layers) for layers in ([], [allow], [allow, deny])] == ["undeclared", "allow", "deny"]


# --- DNS ---


def asks(text: str, name: str, kind: str = "A", resolver: str | None = None, transport: str = "udp") -> str:
    query = Query(name, kind, DnsResolver.EXPLICIT if resolver else DnsResolver.SYSTEM, Transport(transport))
    destination = Destination(None if resolver else "system-resolver", resolver, 53)
    return decide([policy(text)], destination, Channel.DNS, query).action.value


RESTRICTED = '[dns]\npolicy = "restricted"\n'
LISTED = RESTRICTED + 'resolvers = ["203.0.113.53"]\nallow = ["*.x.test"]\n'
SSH_DENIED = EXACT + '[[deny]]\ndomain = "api.x.test"\nports = [22]\n'
ALL_DENIED = EXACT + '[[deny]]\ndomain = "api.x.test"\n'
RESOLVER_DENIED = '[[deny]]\ncidr = "203.0.113.53"\n'
RESOLVER_ALLOWED = '[[allow]]\ncidr = "203.0.113.53"\nports = [53]\n'

DNS = [
    ("absent: an allowed name", EXACT, ("api.x.test",), "allow"),
    ("absent: TXT follows the default", EXACT, ("api.x.test", "TXT"), "deny"),
    ("absent: another name", EXACT, ("y.test",), "deny"),
    ("absent: another resolver", EXACT, ("api.x.test", "A", "203.0.113.53"), "deny"),
    ("absent: a resolver that a rule allows", DENY + RESOLVER_ALLOWED, ("y.test", "TXT", "203.0.113.53"), "allow"),
    ("a name denied on one port is still resolved", SSH_DENIED, ("api.x.test",), "allow"),
    ("a name denied everywhere is not", ALL_DENIED, ("api.x.test",), "deny"),
    ("open", DENY + '[dns]\npolicy = "open"\n', ("y.test", "TXT"), "allow"),
    ("open, but the resolver is denied", DENY + RESOLVER_DENIED + '[dns]\npolicy = "open"\n', ("y.test", "TXT", "203.0.113.53"), "deny"),
    ("none", 'default = "allow"\n[dns]\npolicy = "none"\n', ("y.test",), "deny"),
    ("restricted: allowed domains, any type", EXACT + RESTRICTED, ("api.x.test", "TXT"), "allow"),
    ("restricted: another name", EXACT + RESTRICTED, ("y.test",), "deny"),
    ("restricted: another resolver", EXACT + RESTRICTED, ("api.x.test", "A", "203.0.113.53"), "deny"),
    ("restricted: a list of its own", DENY + LISTED, ("a.x.test", "TXT", "203.0.113.53"), "allow"),
    ("restricted: not on the list", EXACT + LISTED.replace("*.x", "*.z"), ("api.x.test", "A", "203.0.113.53"), "deny"),
    ("restricted: an unlisted resolver", DENY + LISTED, ("a.x.test", "TXT", "203.0.113.54"), "deny"),
    ("restricted: the system's resolver may be another", DENY + LISTED, ("a.x.test",), "undeclared"),
    ("restricted: an empty list", EXACT + RESTRICTED + "allow = []\n", ("api.x.test",), "deny"),
    ("restricted, and the resolver is allowed as a host", DENY + RESOLVER_ALLOWED + RESTRICTED, ("y.test", "A", "203.0.113.53"), "deny"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "question", "action"), [row[1:] for row in DNS], ids=[row[0] for row in DNS])
def test_dns(text: str, question: tuple[str, ...], action: str) -> None:
    assert asks(text, *question) == action


# --- mistakes ---

MISTAKES = [
    ("default = ", "p.toml: not TOML: Invalid value (at end of document)"),
    ('default = "deny"\n[[allow]\n', "p.toml:2: not TOML: Expected ']]' at the end of an array declaration (at line 2, column 8)"),
    ("allow = []", "p.toml: default: missing"),
    ('default = "maybe"', 'p.toml: default: expected one of deny, allow, got "maybe"'),
    ('default = "deny"\nallowed = []', "p.toml: unknown key 'allowed'"),
    ('default = "deny"\nallow = "x"', 'p.toml: allow: expected a list, got "x"'),
    ('default = "deny"\nallow = ["x"]', "p.toml: allow[0]: expected a table"),
    ('default = "deny"\nallow = [3]', "p.toml: allow[0]: expected a table"),
    ('default = "deny"\n[[allow]]\nports = [1]', "p.toml: allow[0]: expected either domain or cidr"),
    ('default = "deny"\n[[deny]]\ndomain = "x.test"\ncidr = "192.0.2.0/24"', "p.toml: deny[0]: expected either domain or cidr"),
    ('default = "deny"\n[[allow]]\ndomain = "x.test"\nport = 1', "p.toml: allow[0]: unknown key 'port'"),
    ('default = "deny"\n[[allow]]\ncidr = "192.0.2.0/33"', "p.toml: allow[0].cidr: '192.0.2.0/33' is not a network (expected one like 198.51.100.0/24 or 2001:db8::/32)"),
    ('default = "deny"\n[[allow]]\ncidr = "192.0.2.1/24"', "p.toml: allow[0].cidr: '192.0.2.1/24' has host bits set (expected one like 198.51.100.0/24 or 2001:db8::/32)"),
    ('default = "deny"\n[[allow]]\ndomain = "x.test"\nports = [0]', "p.toml: allow[0].ports[0]: 0 is not a port (expected 1 to 65535)"),
    ('default = "deny"\n[[allow]]\ndomain = "x.test"\nports = [70000]', "p.toml: allow[0].ports[0]: 70000 is not a port (expected 1 to 65535)"),
    ('default = "deny"\n[[allow]]\ndomain = "x.test"\nports = []', "p.toml: allow[0].ports: empty (leave ports out for any port)"),
    ('default = "deny"\n[[allow]]\ndomain = "x.test"\nports = [true]', "p.toml: allow[0].ports[0]: expected a whole number, got true"),
    ('default = "deny"\n[[allow]]\ndomain = "x.test"\nports = ["80"]', 'p.toml: allow[0].ports[0]: expected a whole number, got "80"'),
    ('default = "deny"\n[[allow]]\ndomain = "x.test"\nprotocol = "sctp"', 'p.toml: allow[0].protocol: expected one of tcp, udp, got "sctp"'),
    ('default = "deny"\n[[allow]]\ndomain = "a.*.test"', 'p.toml: allow[0].domain: wildcard in the wrong place in \'a.*.test\' (expected a name or "*." and a name)'),
    ('default = "deny"\n[[allow]]\ndomain = "*"', 'p.toml: allow[0].domain: wildcard in the wrong place in \'*\' (expected a name or "*." and a name)'),
    ('default = "deny"\n[[allow]]\ndomain = "192.0.2.1"', "p.toml: allow[0].domain: '192.0.2.1' is an address (expected a name; an address goes under cidr)"),
    ('default = "deny"\n[[allow]]\ndomain = "https://x.test/"', "p.toml: allow[0].domain: 'https://x.test/' is not a domain name (expected a name or \"*.\" and a name)"),
    ('default = "deny"\n[[allow]]\ndomain = ""', "p.toml: allow[0].domain: '' is not a domain name (expected a name or \"*.\" and a name)"),
    ('default = "deny"\n[[allow]]\ndomain = "\\u2028.test"', "p.toml: allow[0].domain: '\\u2028.test' is not a domain name"),
    ('default = "deny"\n[dns]\npolicy = "strict"', 'p.toml: dns.policy: expected one of restricted, open, none, got "strict"'),
    ('default = "deny"\n[dns]\npolicy = "open"\nallow = []', 'p.toml: dns: allow and resolvers mean something only with policy = "restricted"'),
    ('default = "deny"\n[dns]\npolicy = "restricted"\nresolvers = ["192.0.2.0/24"]', "p.toml: dns.resolvers[0]: '192.0.2.0/24' is a network (expected one resolver's address)"),
    ('default = "deny"\n[dns]\npolicy = "restricted"\nallow = ["*"]', 'p.toml: dns.allow[0]: wildcard in the wrong place in \'*\' (expected a name or "*." and a name)'),
    ("x = 1", "p.toml: no known policy dialect (known: native, openclaw, clawpinch, docker; --dialect forces one)"),
    ("default = 1\nx = " + "[" * 3000, "p.toml: not TOML: nested too deeply"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line"), MISTAKES)
def test_mistakes(text: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        policy(text)
    assert str(caught.value) == line


def test_an_international_name_is_matched_in_its_ascii_form() -> None:
    assert policy(DENY + '[[allow]]\ndomain = "bücher.test"\n').rules[0].domain == "xn--bcher-kva.test"


def test_an_unknown_dialect() -> None:
    with pytest.raises(UserError, match="--dialect nope: unknown dialect"):
        parse_policy("p.toml", DENY, CONTEXT, "nope")

"""What the far-end worlds' real servers do: what each token was answered, and whether it reached the collector.

The two disagree in both directions. Of ours only the collector has a say here: no agent, no plan, no judgement.
"""

from concurrent.futures import Future
from pathlib import Path

import pytest

from probe.lab.rules import COLLECTOR, PUBLIC_RESOLVER
from probe.lab.servers import missing
from probe.lab.world import load_world, world_names
from tests.lab.asking import Ask, Told, ask_all

Row = tuple[Ask, str, bool]  # what is asked, the answer's code, whether the token arrives

TYPES = ("TXT", "A", "AAAA", "MX", "NULL", "CNAME", "HTTPS", "SVCB")
NOBODY = "198.51.100.44"  # a documentation address where no server is


def resolver(code: str, arrives: bool, *unlike: Row) -> list[Row]:
    """The configured resolver: denied names by every type, but as in `unlike`; and permitted names, which all pass."""
    other = {ask: (said, came) for ask, said, came in unlike}
    denied = [*(Ask(kind) for kind in TYPES), Ask(over="tcp")]
    allowed = Ask(permitted=True), Ask("A", permitted=True), Ask(permitted=True, over="tcp")
    return [*((ask, *other.get(ask, (code, arrives))) for ask in denied), *((ask, "NOERROR", True) for ask in allowed)]


def others(code: str, arrives: bool, *more: str) -> list[Row]:
    """Resolvers of one's own choice: a public one, the zone's own server, and `more`."""
    over_udp = [Ask(server=server) for server in (PUBLIC_RESOLVER, *COLLECTOR, *more)]
    over_tcp = [Ask(server=server, over="tcp") for server in (PUBLIC_RESOLVER, *COLLECTOR)]
    return [(ask, code, arrives) for ask in (*over_udp, *over_tcp)]


def stream(port: int, code: str, arrives: bool) -> list[Row]:
    return [(Ask(server=server, over="raw-tcp", port=port), code, arrives) for server in COLLECTOR]


def datagram(port: int, code: str, arrives: bool) -> list[Row]:
    return [(Ask(server=server, over="raw-udp", port=port), code, arrives) for server in COLLECTOR]


CONTAINED = [*others("silence", False), *stream(80, "silence", False), *stream(443, "receipt", True),
             *datagram(443, "silence", False)]  # fmt: skip

WORLDS: dict[str, list[Row]] = {
    # The answer says no, and it is true.
    "dns-unbound-refuse": [*resolver("REFUSED", False), *CONTAINED],
    "dns-unbound-nxdomain": resolver("NXDOMAIN", False),
    "dns-unbound-deny": resolver("silence", False, (Ask(over="tcp"), "closed", False)),
    "dns-unbound-rpz": resolver("NXDOMAIN", False),
    "dns-bind-rpz-no-wait": resolver("NXDOMAIN", False),
    "dns-dnsmasq-allow-list": resolver("REFUSED", False),
    # The answer says no, and the name has left: BIND asks first, and then applies its policy (qname-wait-recurse yes).
    "dns-bind-rpz": resolver("NXDOMAIN", True),
    # One type is sunk; dnsmasq 2.90 forwards AAAA as well, where `address=` gives an IPv4 address alone.
    "dns-dnsmasq-sinkhole": resolver("NOERROR", True, (Ask("A"), "NOERROR", False)),
    # Whoever is asked, the gateway's resolver answers, and passes it on.
    "dns-redirect": [*resolver("NOERROR", True), *others("NOERROR", True, NOBODY)],
    # The configured resolver holds; other ways do not.
    "dns-second-resolver": [*resolver("REFUSED", False), *others("NOERROR", True)],
    "dns-two-servers": [
        *resolver("REFUSED", False),
        (Ask(server=PUBLIC_RESOLVER), "NOERROR", True),
        (Ask(server=PUBLIC_RESOLVER, over="tcp"), "NOERROR", True),
        *((Ask(server=server), "silence", False) for server in COLLECTOR),
    ],
    "dns-encrypted": [*resolver("REFUSED", False), *others("silence", False), *stream(853, "receipt", True)],
    "dns-through-proxy": [
        *resolver("REFUSED", False),
        *others("silence", False),
        (Ask(over="proxy"), "403", True),
        (Ask(over="proxy", permitted=True), "200", True),
    ],
    "dns-proxy-grants": [(Ask(over="proxy"), "200", False), (Ask(over="proxy", permitted=True), "200", True)],
    # Everything is open, as long as it comes slowly.
    "far-end-banned": [(Ask(server=COLLECTOR[0], over="raw-udp", port=4444), "receipt", True)],
    "far-end-contained": [*resolver("REFUSED", False), *CONTAINED],
    # Silence, and the token has left.
    "far-end-one-way": [*resolver("REFUSED", False), *stream(80, "silence", False), *stream(443, "receipt", True),
                        *datagram(443, "silence", True), *datagram(4444, "silence", False)],
    "far-end-round-trip": [*resolver("NOERROR", True), *others("NOERROR", True), *stream(4444, "receipt", True),
                           *datagram(443, "receipt", True)],
}  # fmt: skip


def parts(name: str) -> list[pytest.MarkDecorator]:
    world = load_world(name)
    used = ["namespaces", "nsd", "collector"]
    used += ["nftables"] if world.gateway.nft else []
    used += ["squid"] if world.gateway.proxy else []
    used += [world.gateway.dns.server] if world.gateway.dns else []
    return [pytest.mark.real(part) for part in used]


@pytest.fixture(scope="session")
def told(request: pytest.FixtureRequest) -> "dict[str, Future[list[Told]]]":
    """What came of every world that a chosen test asks for."""
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = {spec.params["asked_in"] for spec in specs if spec is not None and "asked_in" in spec.params}
    return ask_all({name: [ask for ask, *_ in rows] for name, rows in WORLDS.items() if name in chosen})


@pytest.mark.parametrize("asked_in", [pytest.param(name, marks=parts(name), id=name) for name in WORLDS])
def test_answer_and_arrival(asked_in: str, told: "dict[str, Future[list[Told]]]") -> None:
    rows, answers = WORLDS[asked_in], told[asked_in].result()
    assert [(ask, said.code, said.arrived) for (ask, *_), said in zip(rows, answers, strict=True)] == rows
    # What came from the zone's own server has records: a token's name has one of every type here.
    for (_, code, arrives), said in zip(rows, answers, strict=True):
        assert bool(said.records) is (code == "NOERROR" and arrives) or said.records == ("0.0.0.0",)


def test_every_world_with_a_collector_is_in_the_table() -> None:
    assert {name for name in world_names() if load_world(name).internet.collector} == set(WORLDS)


def test_a_world_says_which_server_is_not_installed(tmp_path: Path) -> None:
    world = load_world("dns-through-proxy")
    (tmp_path / "nsd").touch(mode=0o755)
    (tmp_path / "unbound").touch(mode=0o755)
    assert missing(world, str(tmp_path)) == "squid is not installed (Debian, Ubuntu: apt install squid)"
    assert missing(load_world("no-network"), str(tmp_path)) is None

"""Netlink against the real kernel in fresh namespaces, recorded answers, and any bytes at all."""

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import netlink, rtnetlink
from probe.hostfacts import path_with_sbin
from probe.lab.namespaces import in_isolation
from probe.rtnetlink import Address, Hop, Link, Message, Neighbour, Route

WORLD = """
link set lo up
link add eth0 type veth peer name far
link set eth0 address 02:00:00:00:00:01
link set eth0 up
link set far up
addr add 10.9.0.2/24 dev eth0
-6 addr add fd09::2/64 dev eth0 nodad
route add prohibit 192.0.2.0/24
route add blackhole 198.51.100.0/24
route add unreachable 203.0.113.0/24
-6 route add prohibit 2001:db8:1::/48
-6 route add blackhole 2001:db8:2::/48
-6 route add unreachable 2001:db8:3::/48
-6 rule add to 2001:db8:4::/48 prohibit
route add 10.77.0.0/16 via inet6 fd09::77 dev eth0
route add 10.78.0.0/16 nexthop via 10.9.0.3 nexthop via 10.9.0.3 dev eth0 onlink
route add 10.79.0.0/16 via 10.9.0.7
-6 route add fd10::/16 via fd09::7
neigh add 10.9.0.7 lladdr 02:00:00:00:00:07 dev eth0 nud permanent
neigh add fd09::77 lladdr 02:00:00:00:00:08 dev eth0 nud stale
neigh add 10.9.0.9 dev eth0 nud failed
neigh add 10.9.0.8 lladdr 02:00:00:00:00:09 dev eth0 nud noarp
"""


def ip(lines: str) -> None:
    for line in lines.strip().splitlines():
        subprocess.run(["ip", *line.split()], check=True, env={**os.environ, "PATH": path_with_sbin()})


def in_world(work: Callable[[], Any], batch: str = WORLD) -> Any:
    def inside() -> Any:
        ip(batch)
        return work()

    return in_isolation(inside)


def only_root_is_mapped() -> bool:
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return int(file.read().split()[2]) <= 65534


# Recorded answers (Linux 6.18, x86-64).
VIA = "800000001800000001000000b616000002200000fe0000010002000008000f00fe000000080001000a4d00010800040003000000080007000a090002160012000a00fd0900000000000000000000000000770000080019000000000024000c000200000000000000000000000000000000000000000000000000000000000000"
PROHIBIT = (
    "380000000200000001000000b6160000f3ffffff240000001a000100010000000000000002200000000000000000000008000100c0000201"
)
SIX = "9c0000001800000001000000b61600000a808000fe0200010000000008000f00fe00000014000100fd090000000000000000000000000007140002000000000000000000000000000000000014000700fd0900000000000000000000000000020800060000010000080004000300000024000c0002000000000000000000000000000000000000000000000000000000000000000500140000000000"
NEIGHBOUR = "4c0000001c00000001000000b6160000020000000300000080000001080001000a0900070a000200020000000007000008000400000000001400030005000000050000000500000001000000"
MULTIPATH = "02100000fe0300010000000008000f00fe000000080001000a4e0000240009001000000003000000080005000a0900031000000003000000080005000a090004"
OWN = "0218800003000000080001000a090002080002000a0900020700030076300000080008008000000014000600ffffffffffffffff06db020006db0200"

recorded = pytest.mark.skipif(sys.byteorder != "little", reason="recorded on a little-endian machine")


def parsed(text: str) -> tuple[Message, ...]:
    return tuple(rtnetlink.messages(bytes.fromhex(text)))


# --- the real kernel ---

# address: the decision, the next hop, its neighbour entry
TRUTH = {
    "10.9.0.7": ("unicast", "10.9.0.7", "permanent"),
    "10.9.0.8": ("unicast", "10.9.0.8", "noarp"),
    "10.9.0.9": ("unicast", "10.9.0.9", "failed"),
    "10.9.0.99": ("unicast", "10.9.0.99", "none"),
    "10.79.1.1": ("unicast", "10.9.0.7", "permanent"),
    "10.77.1.1": ("unicast", "fd09::77", "stale"),  # IPv4 over an IPv6 next hop
    "10.78.1.1": ("unicast", "10.9.0.3", "none"),
    "::ffff:10.9.0.7": ("unicast", "10.9.0.7", "permanent"),
    "fd10::1": ("unicast", "fd09::7", "none"),
    "fd09::77": ("unicast", "fd09::77", "stale"),
    "fe80::1%eth0": ("unicast", "fe80::1", "none"),
    "10.9.0.2": ("local", None, None),
    "127.0.0.1": ("local", None, None),
    "::1": ("local", None, None),
    "10.9.0.255": ("broadcast", None, None),
    "ff02::1%eth0": ("multicast", None, None),
    "192.0.2.1": ("EACCES", None, None),
    "::ffff:192.0.2.1": ("EACCES", None, None),
    "198.51.100.1": ("EINVAL", None, None),
    "203.0.113.1": ("EHOSTUNREACH", None, None),
    "8.8.4.4": ("ENETUNREACH", None, None),
    "2001:db8:1::1": ("EACCES", None, None),
    "2001:db8:2::1": ("EINVAL", None, None),
    "2001:db8:3::1": ("EHOSTUNREACH", None, None),
    "2001:db8:4::1": ("EACCES", None, None),  # a rule, not a route
    "2001:db8:5::1": ("ENETUNREACH", None, None),
    "fe80::1%nowhere": (None, None, None),
    "example.com": (None, None, None),
}


def decided() -> dict[str, Any]:
    index = socket.if_nametoindex("eth0")
    seen = {}
    for address in TRUTH:
        hop = netlink.next_hop(address)
        assert hop is None or hop[1] == index
        seen[address] = (netlink.route(address), hop and hop[0], netlink.neighbour(address))
    return seen


@pytest.mark.real("namespaces")
def test_the_kernels_decisions() -> None:
    assert {address: tuple(seen) for address, seen in in_world(decided).items()} == TRUTH


@pytest.mark.real("namespaces")
@pytest.mark.skipif(only_root_is_mapped(), reason="no second uid in this user namespace")
def test_the_callers_uid_counts_and_needs_no_privilege() -> None:
    def work() -> list[str | None]:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        return [netlink.route("10.79.1.1"), netlink.route("10.9.0.7"), netlink.neighbour("10.9.0.7")]

    rule = "rule add uidrange 65534-65534 to 10.79.0.0/16 prohibit\n"
    assert in_world(work, WORLD + rule) == ["EACCES", "unicast", "permanent"]


@pytest.mark.real("namespaces")
def test_a_dead_next_hop_shows_at_once() -> None:
    def work() -> tuple[str | None, str | None]:
        before = netlink.neighbour("10.9.0.50")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", ("10.9.0.50", 9))
        return before, netlink.neighbour("10.9.0.50")

    assert in_world(work) == ["none", "incomplete"]


@pytest.mark.real("namespaces")
def test_the_tables() -> None:
    def work() -> Any:
        links = {link.index: link.name for link in netlink.links() or ()}
        index = socket.if_nametoindex("eth0")
        addresses = [f"{links[one.interface]} {one.address}/{one.bits}" for one in netlink.addresses() or ()]
        routes = {one.destination: (one.type, one.hops, one.table) for one in netlink.routes() or ()}
        assert routes["10.77.0.0/16"] == ("unicast", (Hop(index, "fd09::77"),), rtnetlink.MAIN)
        assert routes["10.78.0.0/16"] == ("unicast", (Hop(index, "10.9.0.3"),) * 2, rtnetlink.MAIN)
        assert routes["10.9.0.0/24"] == ("unicast", (Hop(index),), rtnetlink.MAIN)
        assert routes["192.0.2.0/24"] == ("prohibit", (), rtnetlink.MAIN)
        assert routes["10.9.0.2/32"][::2] == ("local", rtnetlink.LOCAL)
        return sorted(links.values()), addresses

    names, addresses = in_world(work)
    assert names == ["eth0", "far", "lo"]
    assert {"lo 127.0.0.1/8", "eth0 10.9.0.2/24", "eth0 fd09::2/64"} <= set(addresses)


@pytest.mark.real("namespaces")
def test_our_own_address_on_a_point_to_point_link_is_not_the_peers() -> None:
    def work() -> Any:
        return [one.address for one in netlink.addresses() or ()]

    assert in_world(work, "link set lo up\naddr add 10.1.0.1 peer 10.1.0.2/32 dev lo\n") == [
        "127.0.0.1",
        "10.1.0.1",
        "::1",
    ]


# --- a kernel that does not answer ---


def refused() -> socket.socket:
    raise PermissionError(1, "Operation not permitted")


def test_netlink_refused() -> None:
    ask = partial(netlink.ask, open_socket=refused)
    assert (netlink.route("127.0.0.1", ask), netlink.next_hop("127.0.0.1", ask)) == (None, None)
    assert (netlink.neighbour("127.0.0.1", ask), netlink.links(ask)) == (None, None)
    assert (netlink.addresses(ask), netlink.routes(ask)) == (None, None)


def test_a_kernel_that_never_answers_is_asked_once() -> None:
    opened = []

    def mute() -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        opened.append(theirs)
        return ours

    ask = partial(netlink.ask, open_socket=mute)
    try:
        assert [netlink.route("127.0.0.1", ask), netlink.route("127.0.0.1", ask)] == [None, None]
        assert len(opened) == 1
    finally:
        for sock in opened:
            sock.close()


def message(kind: int, body: bytes, flags: int = 0, sequence: int = 1) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body


def test_answers_to_other_questions_are_not_heard() -> None:
    wrong = message(rtnetlink.ERROR, struct.pack("=i", -13), sequence=7)
    right = message(rtnetlink.ERROR, struct.pack("=i", -101))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with theirs:
        theirs.send(wrong)
        theirs.send(right)
        assert netlink.route("192.0.2.1", partial(netlink.ask, open_socket=lambda: ours)) == "ENETUNREACH"


def fixed(*answers: tuple[Message, ...] | None) -> netlink.Ask:
    left = list(answers)
    return lambda request: left.pop(0)


def error(number: int) -> tuple[Message, ...]:
    return (Message(rtnetlink.ERROR, 0, 1, struct.pack("=i", -number)),)


def done(*before: Message, flags: int = 0) -> tuple[Message, ...]:
    return (*before, Message(rtnetlink.DONE, rtnetlink.MULTI | flags, 1, bytes(4)))


def test_a_kernel_without_the_question_says_nothing_of_the_route() -> None:
    assert netlink.route("192.0.2.1", fixed(error(95))) is None
    assert netlink.route("192.0.2.1", fixed(error(13))) == "EACCES"
    assert netlink.route("192.0.2.1", fixed(error(4242))) == "E4242"
    assert netlink.route("192.0.2.1", fixed(())) is None


# A decision for 10.9.0.7: on the link of interface 3.
ON_LINK = struct.pack("=BBBBBBBBI", socket.AF_INET, 32, 0, 0, 254, 0, 0, 1, 0) + struct.pack(
    "=HH4sHHI", 8, 1, bytes([10, 9, 0, 7]), 8, 4, 3
)


@recorded
def test_an_old_kernel_lists_its_neighbours() -> None:
    hop = (Message(rtnetlink.NEWROUTE, 0, 1, ON_LINK),)
    listed = done(*parsed(NEIGHBOUR))
    assert netlink.neighbour("10.9.0.7", fixed(hop, error(95), listed)) == "permanent"
    assert netlink.neighbour("10.9.0.7", fixed(hop, error(95), done())) == "none"
    assert netlink.neighbour("10.9.0.7", fixed(hop, error(95), None)) is None
    assert netlink.neighbour("10.9.0.7", fixed(hop, error(13))) is None


def test_a_table_that_changes_while_it_is_listed_is_listed_again() -> None:
    assert netlink.links(fixed(done(flags=rtnetlink.INTERRUPTED), done())) == ()
    assert netlink.links(fixed(*[done(flags=rtnetlink.INTERRUPTED)] * 2)) is None
    assert netlink.links(fixed(error(1))) is None
    assert netlink.links(fixed(())) is None
    assert netlink.links(fixed((Message(rtnetlink.DONE, 2, 1, struct.pack("=i", -5)),))) is None


# --- recorded answers ---


@recorded
def test_recorded_answers() -> None:
    assert rtnetlink.routes(parsed(VIA)) == (Route("unicast", "10.77.0.1/32", 254, (Hop(3, "fd09::77"),)),)
    assert rtnetlink.routes(parsed(SIX)) == (Route("unicast", "fd09::7/128", 254, (Hop(3),)),)
    assert rtnetlink.neighbours(parsed(NEIGHBOUR)) == (Neighbour("10.9.0.7", 3, "permanent"),)
    assert [rtnetlink.error_of(one) for one in parsed(PROHIBIT)] == [13]
    (route,) = rtnetlink.routes([Message(rtnetlink.NEWROUTE, 2, 1, bytes.fromhex(MULTIPATH))])
    assert route == Route("unicast", "10.78.0.0/16", 254, (Hop(3, "10.9.0.3"), Hop(3, "10.9.0.4")))
    (own,) = rtnetlink.addresses([Message(rtnetlink.NEWADDR, 2, 1, bytes.fromhex(OWN))])
    assert own == Address(3, "10.9.0.2", 24, 128)


def test_a_route_that_names_only_a_next_hop_object_is_on_no_link() -> None:
    header = struct.pack("=BBBBBBBBI", socket.AF_INET, 24, 0, 0, 254, 0, 0, 1, 0)
    body = header + struct.pack("=HH4sHHI", 8, 1, bytes([10, 1, 2, 0]), 8, 30, 5)  # RTA_NH_ID
    (route,) = rtnetlink.routes([Message(rtnetlink.NEWROUTE, 0, 1, body)])
    assert route == Route("unicast", "10.1.2.0/24", 254, ())


# --- any bytes ---

KINDS = st.sampled_from([2, 3, 16, 20, 24, 28, 99])


@given(st.binary(max_size=400))
def test_any_datagram_is_parsed(data: bytes) -> None:
    for one in rtnetlink.messages(data):
        assert len(one.body) <= len(data)
    assert all(len(value) <= len(data) for value in rtnetlink.attributes(data).values())


@given(st.lists(st.builds(Message, KINDS, st.integers(0, 65535), st.just(1), st.binary(max_size=120)), max_size=4))
def test_any_answer_is_a_value(found: list[Message]) -> None:
    answer = tuple(found)
    both = partial(lambda request, _answer: _answer, _answer=answer)
    assert isinstance(netlink.route("10.0.0.1", both), str | None)
    assert isinstance(netlink.neighbour("10.0.0.1", both), str | None)
    for table in (netlink.links, netlink.addresses, netlink.routes):
        assert isinstance(table(both), tuple | None)


# Well-formed outside, anything inside: this reaches the attributes.
ATTRIBUTES = st.lists(
    st.tuples(
        st.integers(0, 31), st.one_of(st.binary(max_size=40), st.sampled_from([bytes(4), bytes(16), b"\xff" * 4]))
    ),
    max_size=6,
).map(lambda pairs: b"".join(struct.pack("=HH", 4 + len(v), k) + v + bytes(-len(v) % 4) for k, v in pairs))


@given(st.sampled_from([2, 10, 0, 7]), st.binary(min_size=15, max_size=15), ATTRIBUTES)
def test_any_attributes_are_parsed(family: int, rest: bytes, more: bytes) -> None:
    for kind, size in ((16, 16), (20, 8), (24, 12), (28, 12)):
        found = (Message(kind, 0, 1, (bytes([family]) + rest)[:size] + more),)
        assert len(rtnetlink.routes(found)) == 0 or kind == 24
        for one in (*rtnetlink.links(found), *rtnetlink.addresses(found), *rtnetlink.neighbours(found)):
            assert isinstance(one, Link | Address | Neighbour)
        both = partial(lambda request, _answer: _answer, _answer=found)
        json.dumps([netlink.route("fd00::1", both), netlink.next_hop("fd00::1", both), netlink.neighbour("::1", both)])


@given(st.text(max_size=60))
def test_any_text_for_an_address(text: str) -> None:
    assert netlink.route(text, lambda request: None) is None

"""Tokens, timing, addresses, the latch: small tables."""

import ipaddress
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import addresses, latch, timing, tokens
from probe.errors import LatchError, one_line

KEY = b"k" * 32

# --- tokens ---


def test_a_token_is_one_dns_label_and_cannot_be_forged() -> None:
    made = tokens.token(tokens.new_run_id(1_700_000_000_000), 0xABCDEF, KEY)
    assert len(made) == tokens.TOKEN_LENGTH <= 63
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert tokens.verify(made, KEY)
    assert not tokens.verify(made, b"x" * 32)
    assert not tokens.verify(made[:-1] + ("a" if made[-1] != "a" else "b"), KEY)


@given(st.text())
def test_no_text_is_taken_for_a_token(text: str) -> None:
    assert not tokens.verify(text, KEY)


def test_run_ids_sort_by_time() -> None:
    first, second = (tokens.new_run_id(ms, b"\0" * 10) for ms in (1, 2))
    assert first == "0000000001" + "0" * 16
    assert first < second
    assert tokens.new_run_id(1) != tokens.new_run_id(1)


# --- timing ---


@pytest.mark.parametrize(
    ("samples", "answer"),
    [([], 1.0), ([0.001], 0.25), ([0.1], 0.3), ([0.2] * 50, 0.25), ([5.0], 1.0), ([0.1, 0.4], 0.1375 + 4 * 0.1125)],
)
def test_the_deadline_of_one_try(samples: list[float], answer: float) -> None:
    assert timing.estimate(samples) == pytest.approx(answer)


def test_tries_overlap_and_silence_is_held_for_the_kernels_own() -> None:
    made = timing.deadlines(1.0, 2)
    assert (made.spacing, made.total) == (0.5, 1.5)
    assert timing.deadlines(0.25, 3).total == timing.HOLD
    # An operator's deadline is a bound.
    assert timing.deadlines(0.25, 3, hold=0.0).total == 0.5


@pytest.mark.parametrize(
    ("samples", "missed", "bound"),
    [(0, 0, 1.0), (1, 0, 1.0), (30, 0, 0.1), (300, 0, 0.01), (300, 1, 0.0156), (300, 10, 0.0560), (4, 4, 1.0)],
)
def test_the_share_of_first_tries_that_get_no_answer(samples: int, missed: int, bound: float) -> None:
    assert timing.missed_share(samples, missed) == pytest.approx(bound, abs=5e-5)


@pytest.mark.parametrize(
    ("targets", "samples", "missed", "most", "tries"),
    [
        (200, 0, 0, 3, 2),  # no control answers: nothing can be said of a silence anyway
        (200, 0, 0, 1, 1),
        (200, 300, 0, 6, 3),  # ln(0.01 / 200) / ln(0.01) = 2.15
        (200, 30, 0, 6, 5),
        (200, 30, 0, 3, 3),  # the operator's bound
        (1, 3000, 0, 6, 2),
        (10**6, 2, 0, 10, 10),
    ],
)
def test_how_often_an_address_is_tried(targets: int, samples: int, missed: int, most: int, tries: int) -> None:
    assert timing.tries_for(targets, samples, missed, most) == tries


def test_the_probability_of_a_lost_answer() -> None:
    held = timing.deadlines(0.25, 3)
    assert timing.lost_answer(held, 0, 0) is None
    assert timing.lost_answer(held, 30, 0) == pytest.approx(0.1**4)  # three tries, and the kernel's own
    assert timing.lost_answer(timing.deadlines(0.25, 3, hold=0.0), 30, 0) == pytest.approx(0.1**3)


# --- addresses ---


def test_no_built_in_destination_is_somebodys() -> None:
    for block, address in (*addresses.DOCUMENTATION, *addresses.RESERVED):
        net, one = ipaddress.ip_network(block), ipaddress.ip_address(address)
        assert one in net
        assert not one.is_loopback
        assert not one.is_multicast
        assert not one.is_link_local
        private = [
            ipaddress.ip_network(n)
            for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "0.0.0.0/8")
        ]
        assert not any(one in n for n in private)
        assert addresses.is_reserved(address)
        assert addresses.block_of(address) == block


def test_blocks_and_families() -> None:
    assert addresses.block_of("9.9.9.9") == "9.9.9.0/24"
    assert addresses.block_of("2620:fe::fe") == "2620:fe::/48"
    assert [addresses.family(a) for a in ("9.9.9.9", "::1")] == [4, 6]
    assert [addresses.is_sinkhole(a) for a in ("0.0.0.0", "127.0.0.1", "::", "9.9.9.9")] == [True, True, True, False]


def test_random_public_addresses_are_global_unicast_and_repeatable() -> None:
    drawn = addresses.random_public(256, "seed")
    assert len(set(drawn)) == 256
    assert drawn == addresses.random_public(256, "seed") != addresses.random_public(256, "other")
    assert all(ipaddress.ip_address(a).is_global and not ipaddress.ip_address(a).is_multicast for a in drawn)
    assert addresses.random_public(0, "seed") == ()


# --- the latch ---


def test_the_latch_closes_on_its_namespace_only() -> None:
    latch.check(None, "")
    latch.check("net:[1]", own="net:[2]")
    for value in ("net:[2]", "2"):
        with pytest.raises(LatchError, match=r"forbids this network namespace \(net:\[2\]\): nothing was sent"):
            latch.check(None, value, own="net:[2]")


def test_the_latch_refuses_what_it_cannot_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latch, "own_namespace", lambda: None)
    with pytest.raises(LatchError, match="/proc does not tell"):
        latch.check("net:[2]")
    latch.check(None)


def test_the_latch_knows_its_own_namespace() -> None:
    with pytest.raises(LatchError):
        latch.check(os.readlink("/proc/self/ns/net"))


@pytest.mark.parametrize("value", ["mnt:[1]", "net:[x]", "net:[1]\nnet:[2]", "-1", "yes"])
def test_a_latch_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(LatchError, match="is not a network namespace"):
        latch.from_environment({latch.VARIABLE: value})


def test_no_latch() -> None:
    assert latch.from_environment({}) is None
    assert latch.from_environment({latch.VARIABLE: ""}) is None
    assert latch.from_environment({latch.VARIABLE: "net:[5]"}) == "net:[5]"


def test_one_line() -> None:
    assert one_line("a\nb\x1b[31m\u202e") == "a\\nb\\x1b[31m\\u202e"

"""Strict decoding: what is not exactly right is refused, with its path."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.codec import DecodeError, decode, encode, parse_json, to_line
from probe.documents import Icmp, Order, Orders, Plan, Record, Settings
from probe.errors import UserError
from probe.model import Destination, Via
from tests.make import attempt, check, plan

GOOD: dict[str, Any] = {"t": 0, "elapsed": 0.5, "step": "connect", "result": "silent"}

BAD: list[tuple[Any, str]] = [
    ({}, "check: missing"),
    ([], "expected a table"),
    (3, "expected a table"),
    (None, "expected a table"),
    ({"check": "1", "attempts": []}, 'check: expected a whole number, got "1"'),
    ({"check": True, "attempts": []}, "check: expected a whole number, got true"),
    ({"check": 1.0, "attempts": []}, "check: expected a whole number, got 1.0"),
    ({"check": 1, "attempts": "abc"}, 'attempts: expected a list, got "abc"'),
    ({"check": 1, "attempts": {}}, "attempts: expected a list, got {}"),
    ({"check": 1, "attempts": [3]}, "attempts[0]: expected a table"),
    ({"check": 1, "attempts": [], "verdict": "conforms"}, "unknown key 'verdict'"),
    ({"check": 1, "attempts": [GOOD | {"t": "0"}]}, 'attempts[0].t: expected a number, got "0"'),
    ({"check": 1, "attempts": [GOOD | {"step": "x"}]}, 'attempts[0].step: expected one of listen, resolve, connect, walk, talk, send, query, twin, raw, got "x"'),
    ({"check": 1, "attempts": [GOOD | {"transport": "sctp"}]}, 'attempts[0].transport: expected one of tcp, udp, icmp, got "sctp"'),
    ({"check": 1, "attempts": [GOOD | {"error": 5}]}, "attempts[0].error: expected a string, got 5"),
    ({"check": 1, "attempts": [GOOD | {"routed": 1}]}, "attempts[0].routed: expected true or false, got 1"),
    ({"check": 1, "attempts": [GOOD | {"icmp": {"type": 3}}]}, "attempts[0].icmp.code: missing"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "line"), BAD)
def test_refusals(value: Any, line: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(Record, value)
    assert str(caught.value) == line


def test_lists_of_numbers_are_strict_too() -> None:
    from probe.policies.native import Entry

    for bad in (True, "80", 1.5, None):
        with pytest.raises(DecodeError):
            decode(Entry, {"ports": [bad]})


def test_nesting_without_end() -> None:
    deep: Any = {}
    for _ in range(5000):
        deep = {"attempts": [deep], "check": 1}
    with pytest.raises(DecodeError):
        decode(Record, deep)
    with pytest.raises(UserError, match="nested too deeply"):
        parse_json("[" * 100_000, "x")


@pytest.mark.parametrize(
    ("text", "line"), [("{", "x:1: not JSON: "), ('{"a": NaN}', "x: not JSON: NaN is not a JSON number")]
)
def test_text_that_is_no_json(text: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_json(text, "x")
    assert str(caught.value).startswith(line)


def test_documents_survive_the_journey() -> None:
    record = Record(7, (attempt("error", stage="receive", error="EHOSTUNREACH", icmp=Icmp(3, 13, "10.99.0.1")),))
    orders = Orders(
        "egress-probe.orders/1",
        "R",
        Settings(),
        5,
        (Order(1, "tcp_connect", Destination("x", None, 1), "t"),),
        "net:[1]",
    )
    made = plan(check(), check("2001:db8::1", n=2))
    for kind, value in ((Record, record), (Orders, orders), (Plan, made)):
        assert decode(kind, json.loads(to_line(value))) == value
        assert "\n" not in to_line(value)


def test_orders_carry_no_expectation() -> None:
    text = to_line(Orders("egress-probe.orders/1", "R", Settings(), 5, ()))
    assert not {"declared", "policy", "verdict", "allow", "deny"} & set(text.replace('"', " ").split())


def test_enums_are_words() -> None:
    assert encode(Destination(None, "192.0.2.1", 1)) == {
        "host": None,
        "address": "192.0.2.1",
        "port": 1,
        "via": Via.DIRECT,
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["check", "attempts", "t", "step", "x", "icmp", "kind"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(json_values)
def test_any_json_is_a_record_or_a_refusal(value: Any) -> None:
    with suppress(DecodeError):
        decode(Record, value)

"""Receipts: what is written is found and valid, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import receipts

KEY, TOKEN = b"k" * 32, "01j00000000000000000000000-000001-" + "a" * 16


@pytest.mark.parametrize("source", ["203.0.113.7", "2001:db8::1"])
def test_what_is_written_is_found_in_any_bytes(source: str) -> None:
    text = receipts.write(KEY, TOKEN, "tcp", source, 40312)
    assert text.startswith("egress-probe-receipt=v1,tcp,")
    found = receipts.find(b"HTTP/1.1 200 OK\r\n\r\n" + text.encode() + b"\n")
    assert found is not None
    assert receipts.is_valid(found, KEY, TOKEN)
    assert not receipts.is_valid(found, b"x" * 32, TOKEN)
    assert not receipts.is_valid(found, KEY, TOKEN[:-1] + "b")
    assert not receipts.is_valid(found.replace("40312", "40313"), KEY, TOKEN)


@given(st.binary(max_size=200))
def test_other_bytes_hold_none(data: bytes) -> None:
    found = receipts.find(data)
    assert found is None or not receipts.is_valid(found, KEY, TOKEN)


@given(st.text(max_size=120))
def test_what_claims_to_be_one_is_looked_at_before_it_is_taken_apart(text: str) -> None:
    assert not receipts.is_valid(text, KEY, TOKEN)


def test_records_of_other_types_carry_none() -> None:
    assert receipts.records("SOA", KEY, TOKEN, "203.0.113.7", 1, "x.test") == []
    assert not receipts.are_valid("SOA", ["x"], KEY, TOKEN, [("203.0.113.7", 1)], "x.test")
    assert not receipts.are_valid("A", [], KEY, TOKEN, [("203.0.113.7", 1)], "x.test")


def test_an_answer_to_another_source_is_no_receipt() -> None:
    given = receipts.records("AAAA", KEY, TOKEN, "203.0.113.7", 1, "x.test")
    assert receipts.are_valid("AAAA", given, KEY, TOKEN, [("203.0.113.8", 1), ("203.0.113.7", 1)], "x.test")
    assert not receipts.are_valid("AAAA", given, KEY, TOKEN, [("203.0.113.7", 2)], "x.test")

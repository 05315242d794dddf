"""The far end's truth table: total, without dead rows, and never a green where nothing is shown."""

import itertools
import string

import pytest

from probe.farend import TABLE, End, Reply, Trust, look_up
from probe.model import Action, Grade, Verdict

EVERY = list(itertools.product(Action, (True, False), Reply, Trust, (True, False)))  # the last: relayed


def test_every_combination_has_a_row() -> None:
    for combination in EVERY:
        look_up(*combination)


def test_every_row_is_used() -> None:
    used = {id(look_up(*combination)) for combination in EVERY}
    assert [row for row in TABLE if id(row) not in used] == []


def test_a_grade_stands_exactly_where_something_is_claimed() -> None:
    for row in TABLE:
        assert (row.grade is not None) == (row.verdict in (Verdict.CONFORMS, Verdict.LEAK)), row
        places = {name for _, name, _, _ in string.Formatter().parse(row.why) if name}
        assert places <= {"by", "how", "reason"}, row
        assert bool(row.why) == (row.verdict is not None), row


@pytest.mark.parametrize(("reply", "trust", "relayed"), list(itertools.product(Reply, Trust, (True, False))))
def test_a_token_that_arrived_is_a_leak_whatever_the_inside_says(reply: Reply, trust: Trust, relayed: bool) -> None:
    row = look_up(Action.DENY, True, reply, trust, relayed)
    assert (row.verdict, row.grade) == (Verdict.LEAK, Grade.PROVEN)
    assert row.end is (End.ROUND_TRIP if reply is Reply.RECEIPT else End.ONE_WAY)


@pytest.mark.parametrize(("trust", "relayed"), list(itertools.product(Trust, (True, False))))
def test_a_receipt_is_as_good_as_an_arrival(trust: Trust, relayed: bool) -> None:
    row = look_up(Action.DENY, False, Reply.RECEIPT, trust, relayed)
    assert (row.verdict, row.end) == (Verdict.LEAK, End.ROUND_TRIP)


def test_a_deny_conforms_only_where_nothing_arrived_and_that_is_shown_to_mean_something() -> None:
    green = {(a, arrived, r, t) for a, arrived, r, t, c in EVERY
             if a is Action.DENY and look_up(a, arrived, r, t, c).verdict is Verdict.CONFORMS}  # fmt: skip
    assert {(arrived, t) for _, arrived, _, t in green} == {(False, Trust.SHOWN)}
    assert {r for _, _, r, _ in green} == {Reply.NONE, Reply.STOPPED, Reply.OTHER}


def test_connected_without_a_receipt_is_intercepted_and_never_green() -> None:
    for action, trust in itertools.product((Action.DENY, Action.ALLOW), (Trust.SHOWN, Trust.NOT_SHOWN)):
        row = look_up(action, False, Reply.OTHER, trust, relayed=False)
        assert (row.verdict, row.end) == (Verdict.UNPROVEN, End.INTERCEPTED)


def test_what_is_not_declared_is_never_judged() -> None:
    assert {look_up(a, *rest).verdict for a, *rest in EVERY if a is Action.UNDECLARED} == {None}

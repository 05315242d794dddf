"""The verdict table: total, without dead rows, and never a green from silence alone."""

import itertools
import string

import pytest

from probe.model import Action, Grade, Outcome, Verdict
from probe.verdicts import SELF_TEST_PASSES, TABLE, Support, look_up

WHOSE = ("peer", "filter", "beyond", "neighbour", "unknown")
EVERY = list(itertools.product(Action, Outcome, WHOSE, Support))


def test_every_combination_has_a_row() -> None:
    for combination in EVERY:
        look_up(*combination)


def test_every_row_is_used() -> None:
    used = {id(look_up(*combination)) for combination in EVERY}
    assert [row for row in TABLE if id(row) not in used] == []


def test_a_grade_stands_exactly_where_something_is_claimed() -> None:
    for row in TABLE:
        assert (row.grade is not None) == (row.verdict in (Verdict.CONFORMS, Verdict.LEAK, Verdict.OVERBLOCKED)), row


def test_every_sentence_has_only_known_places() -> None:
    for row in TABLE:
        places = {name for _, name, _, _ in string.Formatter().parse(row.why) if name}
        assert places <= {"where", "by", "enforcer", "failure", "reason"}, row


@pytest.mark.parametrize("whose", [w for w in WHOSE if w != "filter"])
@pytest.mark.parametrize("support", [s for s in Support if s not in (Support.CORROBORATED, Support.OUTSIDE)])
def test_silence_under_a_deny_conforms_only_when_corroborated(whose: str, support: Support) -> None:
    assert look_up(Action.DENY, Outcome.SILENT, whose, support).verdict is Verdict.UNPROVEN
    corroborated = look_up(Action.DENY, Outcome.SILENT, whose, Support.CORROBORATED)
    assert (corroborated.verdict, corroborated.grade) == (Verdict.CONFORMS, Grade.CORROBORATED)


@pytest.mark.parametrize("outcome", [Outcome.SILENT, Outcome.REJECTED, Outcome.REFUSED])
def test_an_answer_from_outside_is_a_leak_whatever_it_says(outcome: Outcome) -> None:
    for whose in WHOSE:
        row = look_up(Action.DENY, outcome, whose, Support.OUTSIDE)
        assert (row.verdict, row.grade) == (Verdict.LEAK, Grade.PROVEN)


@pytest.mark.parametrize("outcome", [Outcome.BROKEN, Outcome.ACCEPTED, Outcome.INTERCEPTED, Outcome.NAME_DENIED])
def test_a_deny_never_conforms_from_what_proves_nothing(outcome: Outcome) -> None:
    for whose, support in itertools.product(WHOSE, Support):
        assert look_up(Action.DENY, outcome, whose, support).verdict is not Verdict.CONFORMS


def test_an_inert_or_undeclared_row_is_never_judged() -> None:
    verdicts = {look_up(Action.UNDECLARED, *rest).verdict for rest in itertools.product(Outcome, WHOSE, Support)}
    assert verdicts == {Verdict.UNDECLARED, Verdict.NOT_RUN}


def test_self_tests_pass_on_attributed_answers_and_never_on_silence() -> None:
    for passing in SELF_TEST_PASSES.values():
        outcomes = {outcome for outcome, whose in passing if whose == "*"}
        assert {Outcome.DENIED, Outcome.NO_ROUTE} <= outcomes
        assert not outcomes & {Outcome.SILENT, Outcome.BROKEN, Outcome.ACCEPTED}
        # Silence passes only where the kernel says that this host's own firewall made it.
        assert {whose for outcome, whose in passing if outcome is Outcome.SILENT} == {"filter"}

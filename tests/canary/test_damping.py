"""What is told of a row of runs, and when: damping, as tables."""

import pytest

from probe.conditions.nouns import CLOSED, LEAK, OPEN, THERE, UNKNOWN, About, Conditions, key
from probe.damping import Damping, Known, step, unstable
from probe.drift import compare, tell
from probe.drift.moves import NEVER, Move

DAMPING = Damping()


def fold(
    words: list[str | None], key: str = "row:1", damping: Damping = DAMPING
) -> list[tuple[int, str | None, str | None]]:
    """Run number, before, now: of everything that is told of one key in a row of runs."""
    known: dict[str, Known] = {}
    told = []
    for number, one in enumerate(words):
        other = {"row:other": OPEN, "vantage:other": "x"}
        values = other if one is None else {**other, key: one}
        known, due = step(known, Conditions(values), damping, number)
        told += [(number, move.before, move.now) for move in due]
    return told


U, C, L, O = UNKNOWN, CLOSED, LEAK, OPEN  # noqa: E741 - rows of words


@pytest.mark.parametrize(
    ("words", "told"),
    [
        # A leak is told in the run that shows it, whatever was before.
        ([L], [(0, None, L)]),
        ([C, L], [(1, C, L)]),
        ([U, L], [(1, NEVER, L)]),
        ([None, None, L], [(2, None, L)]),
        # … once, until it was told that it is over.
        ([C, L, L, L, L], [(1, C, L)]),
        ([C, L, C, L, C, L], [(1, C, L)]),
        ([C, L, C, C, C, C, L], [(1, C, L), (4, L, C), (6, C, L)]),
        # Three of the last four.
        ([C, O, O, O, O], [(3, C, O)]),
        ([C, O, C, O, O], [(4, C, O)]),
        ([C, O, C, C, O, C, C], []),
        ([C, O, C, O, C, O, C, O, C], []),  # what alternates is never told
        # Another enforcer; which of several it is may alternate.
        (["closed by a", "closed by b", "closed by b", "closed by b"], [(3, "closed by a", "closed by b")]),
        (["closed by a", "closed by b", "closed by c", "closed by b", "closed by c"], []),
        # Blocked, by one or another: that it is blocked is told.
        ([O, "blocked by a", "blocked by b", "blocked by a"], [(3, O, "blocked by a")]),
        # … and that it was never otherwise, when it lasts.
        ([O, "blocked by a", U, "blocked by a", U, "blocked by a"], [(5, O, "blocked by a")]),
        (["blocked", "blocked", "blocked"], [(2, NEVER, "blocked")]),
        (["blocked", U, "blocked", U, "blocked"], [(4, NEVER, "blocked")]),
        ([U, "blocked", "blocked", "blocked"], [(3, NEVER, "blocked")]),
        ([None, None, None, None, "blocked", O, O], []),
        (
            [
                "closed by local firewall",
                "closed by router 10.0.0.1",
                "closed by router 10.0.0.2",
                "closed by router 10.0.0.3",
            ],
            [(3, "closed by local firewall", "closed by router 10.0.0.3")],
        ),
        # Blindness: three in a row, or all but one of four.
        ([C, U, U, U, U], [(3, C, U)]),
        ([C, U, C, U, C, U, C], []),
        ([C, U, U, C, U, U, C, U, U], [(4, C, U)]),  # nor is it proven in every third run
        ([U, U, U, U], [(2, NEVER, U)]),
        ([U, U, C], []),  # proven for the first time
        ([C, U, U, U, C, C, C], [(3, C, U), (6, U, C)]),
        ([C, U, U, U, L], [(3, C, U), (4, U, L)]),
        # No longer tried.
        ([C, None, None, None], [(3, C, None)]),
        ([C, None, None, C, None], [(4, C, None)]),
        ([C, None, None, None, None, C, C], [(3, C, None)]),
    ],
)
def test_what_is_told_of_a_row(words: list[str | None], told: list[tuple[int, str | None, str | None]]) -> None:
    assert fold(words) == told


@pytest.mark.parametrize(
    ("key", "words", "told"),
    [
        # A file does not flicker.
        ("default:p", ["deny", "allow", "deny"], [(1, "deny", "allow"), (2, "allow", "deny")]),
        ("rule:p:x", [None, "port 443", None], [(1, None, "port 443"), (2, "port 443", None)]),
        # The place: at once where it had been the same in all of the last runs.
        ("vantage:resolvers", ["a", "a", "a", "a", "b"], [(4, "a", "b")]),
        ("vantage:resolvers", ["a", "b", "b", "b"], [(3, "a", "b")]),
        ("vantage:unix socket x", [None, None, None, None, None, THERE], [(5, None, THERE)]),
        ("vantage:unix socket x", [None, THERE, THERE, THERE], [(3, None, THERE)]),
        ("vantage:unix socket x", [THERE, THERE, THERE, THERE, None, None], [(4, THERE, None)]),
        # One that comes and goes is told once, and then when it stays.
        ("vantage:unix socket x", [THERE] * 5 + [None, THERE] * 4 + [THERE] * 3, [(5, THERE, None), (13, None, THERE)]),
        # New in every run: that is what it is like.
        ("vantage:container", list("abcdefghi"), []),
        ("vantage:seccomp", ["unknown", "unknown"], []),
        ("vantage:seccomp", ["filter"] * 5 + ["unverified"], [(5, "filter", "unverified")]),
        # `unverified` is no word on the matter.
        ("baseline:x", ["confirmed", "unverified", "contradicted", "contradicted", "unverified", "contradicted"], [(5, "confirmed", "contradicted")]),
    ],
)  # fmt: skip
def test_what_is_told_of_the_rest(
    key: str, words: list[str | None], told: list[tuple[int, str | None, str | None]]
) -> None:
    assert fold(words, key) == told


def test_rows_that_go_with_a_changed_policy_are_no_news() -> None:
    own, other, rule_ = "row:declared-entries/tcp/x", "row:documentation-ranges/tcp/y", key("rule", "p", "allow x")
    about = {own: About("one"), other: About("two"), rule_: About("allow x", "p:2")}
    before = Conditions({own: C, other: C, rule_: "port 1"}, about)
    now = Conditions({other: C, rule_: "port 2"}, about)
    assert [change.kind for change in compare(before, now)] == ["policy"]
    known = {name: Known(value, (value,) * 4) for name, value in before.values.items()}
    after, due = step(known, now, Damping(), 4)
    assert [move.key for move in due] == [rule_]
    assert own not in after
    # A row that was not its entry's own is: something is no longer looked at.
    both = Conditions({rule_: "port 2"}, about)
    assert [change.kind for change in compare(before, both)] == ["untried", "policy"]
    # Without a changed policy it always is.
    gone = Conditions({other: C, rule_: "port 1"})
    assert [change.kind for change in compare(before, gone)] == ["untried"]


def test_without_damping_everything_is_told_at_once() -> None:
    assert fold([C, O, C, U], damping=Damping(1, 1, 1)) == [(1, C, O), (2, O, C), (3, C, U)]


def test_a_place_that_is_seen_for_the_first_time_is_no_change() -> None:
    """A sandbox that came up after its canary."""
    known, _ = step({}, Conditions({"row:1": UNKNOWN}, silent_on=("vantage:",)), Damping(), 0)
    for number in range(1, 6):
        known, _ = step(known, Conditions({"row:1": UNKNOWN}, silent_on=("vantage:",)), Damping(), number)
    after, due = step(known, Conditions({"row:1": UNKNOWN, "vantage:user id": "0"}), Damping(), 6)
    assert due == []
    assert after["vantage:user id"].told == "0"


def test_a_key_that_is_long_gone_is_forgotten() -> None:
    known: dict[str, Known] = {}
    for number, values in enumerate([{"row:1": C}, *([{}] * 9)]):
        known, _ = step(known, Conditions(values), Damping(), number)
    assert known == {}


def test_unverified_alone_is_not_remembered() -> None:
    assert step({}, Conditions({"baseline:x": "unverified"}), Damping(), 0) == ({}, [])


def test_a_run_without_a_vantage_forgets_nothing() -> None:
    known = {"vantage:uid": Known("0", ("0",))}
    after, due = step(known, Conditions({}, silent_on=("vantage:",)), Damping(), 5)
    assert (after, due) == (known, [])


def test_what_changes_in_every_run_is_left_out_of_a_comparison() -> None:
    known = {
        "vantage:container": Known("a", ("a", "b", "c")),
        "vantage:resolvers": Known("a", ("a", "b")),  # two runs alone show nothing
        "vantage:uid": Known("0", ("0", "0", "0")),
        "vantage:IPv6": Known("x", ("x",)),  # one run alone shows nothing
        "row:1": Known(C, (C, O)),
    }
    assert unstable(known) == {"vantage:container"}


def test_a_change_is_bounded() -> None:
    rows = {f"row:{n}": About(f"tcp {n}", "p:1", "x" * 5000, None, None, f"{n}") for n in range(3000)}
    (change,) = tell([Move(name, CLOSED, LEAK) for name in rows], rows)
    assert len(change.line) == 2000
    assert (len(change.paths), len(change.cidrs)) == (1000, 1000)


def test_leaks_declared_in_several_places_name_none() -> None:
    rows = {"row:1": About("one", "p:1", "reached"), "row:2": About("two", "p:9", "reached")}
    (change,) = tell([Move(name, CLOSED, LEAK) for name in rows], rows)
    assert change.line == "LEAK: one and 1 more got out (was closed, now reached; declared denied)"

"""The worlds of one enforcement each: what they state, how they are played, and the page that is made of them.

That what is said of them is true is tested with all other worlds in test_worlds.py.
"""

import re
from pathlib import Path

import pytest

from probe.lab.world import KIND, load_world, world_names
from tests.lab.playing import Game, Played

KINDS = [name for name in world_names() if name.startswith(KIND)]
# One that is silent, one that resets, one that rejects.
MIXED = ("kind-gateway-drop", "kind-tcp-reset", "kind-reject-port-unreachable")


def test_a_kind_states_what_is_observed() -> None:
    for name in KINDS:
        world = load_world(name)
        assert world.policy == load_world(KINDS[0]).policy, name
        assert all(truth.outcome or truth.enforcer for truth in world.truth), name


@pytest.mark.real("namespaces")
@pytest.mark.real("nftables")
@pytest.mark.parametrize("games", [pytest.param((Game(n, 1), Game(n, 500)), id=n) for n in MIXED])
def test_how_many_at_a_time_changes_no_verdict(games: tuple[Game, Game], played: dict[Game, Played]) -> None:
    one, many = (played[game].verdicts() for game in games)
    assert one == many
    assert "conforms" in {verdict for verdict, *_ in many.values()}


def test_the_accuracy_page_has_every_kind(root: Path) -> None:
    text = (root / "docs/accuracy.md").read_text()
    for name in KINDS:
        assert re.search(rf"^\| `{name.removeprefix(KIND)}` \| [TU]", text, re.MULTILINE), name
        assert load_world(name).shows in text

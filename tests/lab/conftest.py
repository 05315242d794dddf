"""Worlds are played once per session, many together: every test says by its parameter `games` which ones it reads."""

import pytest

from tests.lab.playing import Game, Played, play_all


@pytest.fixture(scope="session")
def played(request: pytest.FixtureRequest) -> dict[Game, Played]:
    """What came of every game that a chosen test asks for."""
    asked = [getattr(item, "callspec", None) for item in request.session.items]
    games = {game: None for spec in asked if spec is not None for game in spec.params.get("games", ())}
    return play_all(list(games))

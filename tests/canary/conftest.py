"""A canary for each test."""

from pathlib import Path

import pytest

from tests.canary.box import Box


@pytest.fixture
def box(tmp_path: Path) -> Box:
    made = Box(tmp_path)
    made.edit(1)
    return made

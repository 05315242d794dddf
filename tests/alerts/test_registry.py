"""Registry, folder and tests agree, and the channels are made in one way."""

import importlib
import inspect
from pathlib import Path

import pytest

from probe.alerts import CHANNELS, Channel

HELPERS = {"__init__", "base", "words", "place", "posting", "conversing", "proxying", "refusing", "deliver"}

GOOD = {
    "webhook": "https://hooks.example.com/x",
    "slack": "https://hooks.slack.com/services/x",
    "syslog": "udp://log.example:514",
    "journald": "local",
    "command": "true",
}


def test_registry_and_folder_agree(root: Path) -> None:
    files = {path.stem for path in (root / "probe/alerts").glob("*.py")}
    assert files - HELPERS == set(CHANNELS) == set(GOOD)
    tests = {path.stem for path in (root / "tests/alerts").glob("test_*.py")}
    assert {f"test_{name}" for name in CHANNELS} <= tests


@pytest.mark.parametrize("name", sorted(CHANNELS))
def test_every_channel(name: str) -> None:
    module = importlib.import_module(f"probe.alerts.{name}")
    assert CHANNELS[name] is module.make
    assert (module.__doc__ or "").startswith(f"Channel `{name}`: ")
    made = CHANNELS[name](GOOD[name])
    assert isinstance(made, Channel)
    assert made.name.split(" ")[0] == name
    assert inspect.iscoroutinefunction(made.send)
    assert "object at" in repr(made) or "<function" in repr(made)  # no argument is shown

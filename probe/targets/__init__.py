"""Targets of `run --via`: one file each, a launcher's command line and its quirks. This file is the registry.

A target's module has `launch(place, options)`: `place` is what stands behind the colon (empty: nothing does), `options`
are the user's own words for the launcher. It returns the words before the agent's own and raises UserError.
"""

import importlib
from collections.abc import Sequence
from typing import Protocol, cast

from probe.errors import UserError
from probe.targets.base import Launch

__all__ = ["TARGETS", "Launch", "form", "launch", "load"]

TARGETS = (
    "docker",
    "docker-image",
    "podman",
    "podman-image",
    "bwrap",
    "firejail",
    "unshare",
    "netns",
    "srt",
    "codex",
    "gvisor",
    "kubectl",
    "ssh",
    "openclaw",
)


class Target(Protocol):
    """The shape of a target's module."""

    PLACE: str  # what stands behind the colon, in words; in brackets where it may be left out; empty where nothing may

    def launch(self, place: str, options: Sequence[str]) -> Launch: ...


def load(name: str) -> Target:
    """The target's module. KeyError for a name that is not registered."""
    if name not in TARGETS:
        raise KeyError(name)
    return cast("Target", importlib.import_module(f"probe.targets.{name.replace('-', '_')}"))


def launch(text: str, options: Sequence[str]) -> Launch:
    """The launcher for `NAME` or `NAME:PLACE`. Raises UserError."""
    name, _, place = text.partition(":")
    if name not in TARGETS:
        raise UserError(f"--via {text}: unknown target (known: {', '.join(map(form, TARGETS))})")
    wanted = load(name).PLACE
    if (wanted and not wanted.startswith("[") and not place) or (place and not wanted):
        raise UserError(f"--via {text}: expected {form(name)}")
    if place.startswith("-") or not place.isprintable():
        raise UserError(f"--via {text}: expected {form(name)}; {place!r} cannot be a name")
    return load(name).launch(place, options)


def form(name: str) -> str:
    """`docker:CONTAINER`: how a target is written."""
    place = load(name).PLACE
    return f"{name}[:{place[1:-1]}]" if place.startswith("[") else f"{name}:{place}" if place else name

"""`srt[:SETTINGS]`: Anthropic's sandbox runtime. Without `--` it would take our words for its own.

Its proxies are in the agent's environment; direct connections have no route.
"""

from collections.abc import Sequence

from probe.targets.base import Launch

PLACE = "[SETTINGS]"


def launch(place: str, options: Sequence[str]) -> Launch:
    """`place`: a settings file; none: srt's own (`~/.srt-settings.json`)."""
    return Launch(("srt", *(("--settings", place) if place else ()), *options, "--"))

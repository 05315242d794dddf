"""`netns:NAME`: a network namespace that has a name (ip-netns(8)). Needs root."""

from collections.abc import Sequence

from probe.targets.base import Launch

PLACE = "NAME"


def launch(place: str, options: Sequence[str]) -> Launch:
    """`options` go to ip(8)."""
    return Launch(("ip", *options, "netns", "exec", place))

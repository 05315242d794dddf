"""`ssh:HOST`: on another host. ssh joins the words and a shell there reads them, so they are quoted."""

from collections.abc import Sequence

from probe.targets.base import Launch

PLACE = "HOST"


def launch(place: str, options: Sequence[str]) -> Launch:
    """`options` go to ssh, as `-p 2222`. Nothing is asked for: a password would be taken from the orders."""
    return Launch(("ssh", "-T", "-o", "BatchMode=yes", *options, "--", place), through_shell=True)

"""`gvisor`: gVisor's `runsc do`. Without options of the user's: no network, and no control groups of its own."""

from collections.abc import Sequence

from probe.targets.base import Launch

PLACE = ""
_USUAL = ("--ignore-cgroups", "--network=none")


def launch(place: str, options: Sequence[str]) -> Launch:  # noqa: ARG001 - every target has this form
    """`options` go to runsc, before `do`, in place of the usual ones."""
    return Launch(("runsc", *(options or _USUAL), "do"))

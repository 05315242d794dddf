"""`unshare`: a network namespace of its own, in a user namespace so that no root is needed."""

from collections.abc import Sequence

from probe.targets.base import Launch

PLACE = ""
_USUAL = ("--user", "--map-root-user", "--net")


def launch(place: str, options: Sequence[str]) -> Launch:  # noqa: ARG001 - every target has this form
    """`options` in place of the usual ones."""
    return Launch(("unshare", *(options or _USUAL), "--"))

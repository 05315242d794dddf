"""`bwrap`: bubblewrap. Without options of the user's: everything unshared, the file system read-only."""

from collections.abc import Sequence

from probe.targets.base import Launch

PLACE = ""
_USUAL = "--ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --unshare-all --new-session --die-with-parent".split()


def launch(place: str, options: Sequence[str]) -> Launch:  # noqa: ARG001 - every target has this form
    """`options` are all of bubblewrap's, in place of the usual ones."""
    return Launch(("bwrap", *(options or _USUAL)))

"""`firejail`: without options of the user's, no network. It may start the agent *without any sandbox*, and say nothing.

It does so inside another sandbox or container (a PID namespace): what the report then shows is the truth.
"""

from collections.abc import Sequence

from probe.targets.base import Launch

PLACE = ""
_USUAL = ("--noprofile", "--net=none")


def launch(place: str, options: Sequence[str]) -> Launch:  # noqa: ARG001 - every target has this form
    """`options` in place of the usual ones. `--quiet`: else it writes into stdout, between the evidence."""
    return Launch(("firejail", "--quiet", *(options or _USUAL), "--"))

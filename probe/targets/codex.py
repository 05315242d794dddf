"""`codex`: OpenAI Codex's sandbox for commands. Shut, it refuses socket() and setsockopt(): each order gets the errno.

CODEX_HOME must not lie below the temporary directory: then Codex cannot start its sandbox.
"""

from collections.abc import Sequence

from probe.targets.base import Launch

PLACE = ""


def launch(place: str, options: Sequence[str]) -> Launch:  # noqa: ARG001 - every target has this form
    """`options` go to `codex sandbox`, as `-c sandbox_workspace_write.network_access=true`."""
    return Launch(("codex", "sandbox", *options, "--"))

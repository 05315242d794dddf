"""The roof: argv, files, printing, the clock, exit codes. This file is the door; each command is a file of its own.

Importing click alone costs four times a bare Python start, so `--version` is answered before that.
"""

import sys
from collections.abc import Sequence

from probe import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `egress-probe`. Exit codes: docs/report.md."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given == ["--version"]:
        print(f"egress-probe {__version__}")
        return 0
    from probe.cli.root import run

    return run(given)

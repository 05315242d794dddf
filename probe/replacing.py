"""Replacing a file as a whole: a reader never sees half of it, and a full disk costs nothing that was there."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def replace_whole(path: Path, data: bytes, mode: int) -> None:
    """`data` at `path`, with `mode` whatever the umask is. Raises OSError, ValueError (a NUL in the name)."""
    # A name that begins with a dot is read by none of those who read every file of a folder: cron, systemd, exporters.
    handle, partial = tempfile.mkstemp(prefix=".egress-probe-", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial)
        raise

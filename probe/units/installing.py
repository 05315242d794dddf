"""Writes a schedule's files. What somebody else wrote is never replaced."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from probe.errors import UserError
from probe.replacing import replace_whole
from probe.units.job import MARKER

How = Literal["new", "changed", "unchanged"]


def write(files: Mapping[str, str], folder: str) -> dict[str, How]:
    """Writes `files` ({name: text}) into `folder`, each as a whole; nothing if one of them may not be. Path → how.

    Raises UserError: no folder, no right to write, or a file there that does not start with our marker.
    """
    place = Path(folder)
    if not place.is_dir():
        raise UserError(f"{folder}: no such folder")
    ways = {name: _look(place / name, text) for name, text in files.items()}
    for name, how in ways.items():
        if how != "unchanged":
            _replace(place / name, files[name])
    return {str(place / name): how for name, how in ways.items()}


def _look(path: Path, text: str) -> How:
    # systemd knows a unit that leads to /dev/null as switched off: that is somebody's wish.
    if path.is_symlink():
        raise UserError(f"{path}: is a symbolic link, and was not written by egress-probe: remove it first")
    try:
        there = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return "new"
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder") from None
    except UnicodeDecodeError:
        there = ""
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if there.partition("\n")[0] != MARKER:
        raise UserError(f"{path}: was not written by egress-probe: remove it, or choose another --name")
    return "unchanged" if there == text else "changed"


def _replace(path: Path, text: str) -> None:
    try:
        # cron.d refuses what others may write; systemd wants it readable
        replace_whole(path, text.encode("utf-8"), 0o644)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None

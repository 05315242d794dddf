"""The collector's state folder: private files with its secrets, made at the first start. Nothing else writes secrets.

What others may read or write is refused, not mended: a secret that lay open is no longer one.
"""

import os
import secrets
import stat
from pathlib import Path

from probe.errors import UserError

BEARER = "bearer-token"  # whoever holds it may register runs
READ_SECRET = "read-secret"  # noqa: S105 - a file's name; what the tokens that read a run's arrivals are made under
DATABASE = "arrivals.sqlite"
_MOST = 64 * 1024


def open_folder(folder: Path) -> None:
    """Make the folder, or check that it is ours alone. Raises UserError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _ours_alone(folder, folder.stat(), "700")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(f"--state {folder}: cannot be written")
    except FileExistsError:
        raise UserError(f"--state {folder}: is not a folder") from None
    except OSError as error:
        raise UserError(f"--state {folder}: {error.strerror}") from None


def secret(path: Path) -> str:
    """The secret in this file: 32 random bytes (base64url), made where there is none. Raises UserError."""
    made = secrets.token_urlsafe(32)
    if write_new(path, made.encode() + b"\n"):
        return made
    text = read_private(path).decode("ascii", "replace").strip()
    if len(text) < 32 or not text.isascii() or not text.isprintable():
        raise UserError(f"{path}: expected a secret of at least 32 characters; delete it to have a new one made")
    return text


def write_new(path: Path, data: bytes) -> bool:
    """Write a private file that was not there before, whole or not at all; False: there is one. Raises UserError."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(partial, path)  # unlike a rename, it never replaces
        finally:
            partial.unlink()
    except FileExistsError:
        return False
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    return True


def read_private(path: Path) -> bytes:
    """The bytes of a file that nobody else may read. Raises UserError."""
    try:
        with open(path, "rb") as file:
            _ours_alone(path, os.fstat(file.fileno()), "600")
            return file.read(_MOST)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _ours_alone(path: Path, found: os.stat_result, mode: str) -> None:
    if found.st_uid != os.geteuid():
        raise UserError(f"{path}: belongs to user {found.st_uid}, expected {os.geteuid()}, who runs the collector")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise UserError(f"{path}: others may open it (mode {stat.S_IMODE(found.st_mode):o}): chmod {mode} {path}")

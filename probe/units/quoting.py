"""A command line as a scheduler reads it back: the same words, none of them expanded.

Sources: systemd.service(5) "COMMAND LINES", systemd.syntax(7), crontab(5) and Vixie cron's do_command.c (`%`).
"""

import re
import shlex
from collections.abc import Sequence
from typing import Final

from probe.errors import UserError

# systemd takes neither quotes nor backslashes in a program's path; `$` and `%` are not worth a try there.
_PROGRAM: Final = re.compile(r"/[^\x00-\x1f\x7f\"'\\$%]+")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:=,@+%$-]+")


def systemd_command(words: Sequence[str]) -> str:
    """For ExecStart=. Raises UserError for the first word, the program."""
    if not _PROGRAM.fullmatch(words[0]):
        raise UserError(f"{words[0]!r}: systemd cannot start a program by such a path")
    return " ".join([systemd_word(words[0]), *(systemd_word(word.replace("$", "$$")) for word in words[1:])])


def systemd_word(word: str) -> str:
    """For a setting that unquotes: specifiers doubled, C escapes in double quotes where there is need of any."""
    word = word.replace("%", "%%")
    if _PLAIN.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(f"\\x{ord(c):02x}" if c < " " or c == "\x7f" else c for c in escaped) + '"'


def systemd_raw(path: str) -> str:
    """For a setting that takes the rest of the line as it is, as WorkingDirectory=."""
    return path.replace("%", "%%")


def cron_command(words: Sequence[str]) -> str:
    """For a crontab: sh's quoting, and `%` as `\\%`. Raises UserError: a line has no way to hold a line break."""
    if any(c in word for word in words for c in "\n\r"):
        raise UserError("a crontab's line cannot hold a line break: use systemd's units")
    line = " ".join(map(shlex.quote, words))
    # Some crons make one backslash of two, and `\%` of `\\%`: none stands before another or before a `%` of ours. The
    # quotes between them are nothing to sh: a backslash is always inside single quotes there.
    return re.sub(r"\\(?=[\\%])", r"\\''", line).replace("%", r"\%")

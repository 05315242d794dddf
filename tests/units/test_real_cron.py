"""Tables under cron's own check of their syntax."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from probe.units import SCHEDULERS, Job
from tests.units.test_quoting import HARD


def _check() -> str | None:
    """The option that checks a file and installs nothing: Debian 12's is -n, later versions have -T."""
    if not shutil.which("crontab"):
        return None
    usage = subprocess.run(["crontab", "-?"], capture_output=True, text=True, check=False).stderr
    return next((found for found in ("-T", "-n") if re.search(rf"^\s*{found}\s", usage, re.MULTILINE)), None)


CHECK = _check()
pytestmark = [
    pytest.mark.real("cron"),
    pytest.mark.skipif(CHECK is None, reason="no crontab that checks a file's syntax"),
]


def check(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    assert CHECK is not None
    (folder / "table").write_text(text)
    return subprocess.run(["crontab", CHECK, str(folder / "table")], capture_output=True, text=True, check=False)


def table(**more: Any) -> str:
    words = more.pop("words", ("/bin/true", *HARD))
    (text,) = SCHEDULERS["cron"](Job(words, "box", **{"every": 900, **more})).values()
    return text


@pytest.mark.parametrize("every", [60, 120, 900, 3600, 7200, 43200, 86400, 604800])
def test_tables_are_read(every: int, tmp_path: Path) -> None:
    done = check(table(every=every, folder="/srv/a b/50%"), tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_longest_command_is_read_and_a_longer_one_is_not(tmp_path: Path) -> None:
    room = 998 - len(table(words=("/bin/true", "x")).splitlines()[-1].partition(" cd ")[2]) - len("cd ")
    longest = table(words=("/bin/true", "x" * (room + 1)))
    assert check(longest, tmp_path).returncode == 0
    assert check(longest.replace("xx", "xxxx", 1), tmp_path).returncode != 0


def test_the_check_tells_what_is_wrong(tmp_path: Path) -> None:
    done = check(table().replace("*/15 ", "*/61x "), tmp_path)
    assert done.returncode != 0
    assert "bad minute" in done.stderr

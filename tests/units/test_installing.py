"""Written files: whole, readable, and never over somebody else's."""

import os
import stat
from pathlib import Path

import pytest

from probe.errors import UserError
from probe.units.installing import write
from probe.units.job import MARKER

OURS = f"{MARKER}\n[Unit]\n"


def test_new_unchanged_changed(tmp_path: Path) -> None:
    file = str(tmp_path / "a.service")
    assert write({"a.service": OURS}, str(tmp_path)) == {file: "new"}
    assert write({"a.service": OURS}, str(tmp_path)) == {file: "unchanged"}
    assert write({"a.service": OURS + "x\n"}, str(tmp_path)) == {file: "changed"}
    assert Path(file).read_text() == OURS + "x\n"
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o644
    assert os.listdir(tmp_path) == ["a.service"]


def test_what_is_unchanged_is_not_touched(tmp_path: Path) -> None:
    write({"a.service": OURS}, str(tmp_path))
    before = os.stat(tmp_path / "a.service")
    write({"a.service": OURS}, str(tmp_path))
    after = os.stat(tmp_path / "a.service")
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize(
    "there", [b"", b"[Unit]\n", b"\n" + OURS.encode(), MARKER.encode()[:-1] + b"\n", b"\xff\xfe", b" " + OURS.encode()]
)
def test_anothers_file_stays(there: bytes, tmp_path: Path) -> None:
    (tmp_path / "b.timer").write_bytes(there)
    with pytest.raises(UserError, match="was not written by egress-probe: remove it, or choose another --name"):
        write({"a.service": OURS, "b.timer": OURS}, str(tmp_path))
    assert (tmp_path / "b.timer").read_bytes() == there
    assert not (tmp_path / "a.service").exists()  # all or nothing


def test_a_unit_that_is_switched_off_stays_off(tmp_path: Path) -> None:
    (tmp_path / "a.service").symlink_to("/dev/null")
    with pytest.raises(UserError, match="is a symbolic link"):
        write({"a.service": OURS}, str(tmp_path))
    assert os.readlink(tmp_path / "a.service") == "/dev/null"


def test_places_that_do_not_work(tmp_path: Path) -> None:
    (tmp_path / "a.service").mkdir()
    with pytest.raises(UserError, match=r"a\.service: is a folder$"):
        write({"a.service": OURS}, str(tmp_path))
    with pytest.raises(UserError, match=r"none: no such folder$"):
        write({"a.service": OURS}, str(tmp_path / "none"))
    # Nobody may make files there, not even root.
    with pytest.raises(UserError, match=r"^/proc/self/a\.timer: cannot be written: "):
        write({"a.timer": OURS}, "/proc/self")

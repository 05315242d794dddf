"""The archive that is kept: the same bytes, and never somebody else's."""

from pathlib import Path

import pytest

from probe.shipping import archive, cache


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "egress-probe"


def kept(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_it_is_kept_and_taken_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = cache.get()
    assert made == archive.build()
    (path,) = kept(folder)
    assert (path.read_bytes(), path.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (made.data, 0o600, 0o700)
    monkeypatch.setattr(archive, "build", lambda: pytest.fail("it was made again"))
    assert cache.get() == made


def test_other_sources_are_another_archive(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = cache._fingerprint()
    other = tmp_path / "x.py"
    other.write_text("")
    found = [*archive.sources(), other]
    monkeypatch.setattr(archive, "sources", lambda: iter(found))
    assert cache._fingerprint() != first


def test_what_was_changed_or_lies_open_is_not_believed(folder: Path) -> None:
    made = cache.get()
    (path,) = kept(folder)
    path.write_bytes(b"hostile")
    assert cache.get() == made
    folder.chmod(0o777)
    path = next(each for each in kept(folder))
    path.write_bytes(b"hostile")
    assert cache.get() == made


def test_where_nothing_can_be_kept_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache.get() == archive.build()


def test_only_the_latest_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(7):
        monkeypatch.setattr(cache, "_fingerprint", lambda n=n: f"{n:032x}")
        cache.get()
    assert len(kept(folder)) == 4

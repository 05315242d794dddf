"""The arrivals on disk: what is refused, what is bounded, and what a disk that fails does to it."""

import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from probe.collector.store import Store, StoreError
from probe.documents import Arrival, Reachable
from probe.errors import UserError
from probe.model import Transport

KEY = b"k" * 32
ONE = Arrival(7, 100.0, "dns", "udp", "203.0.113.7", 40312, 53, "TXT", "a.exfil.example")


@contextmanager
def opened(path: Path, **options: float) -> Iterator[Store]:
    store = Store(path, **options)  # type: ignore[arg-type] # rows, size, retention, now: numbers all
    try:
        yield store
    finally:
        store.close()


def lost(store: Store, run_id: str) -> int:
    story = store.read(run_id)
    assert story is not None
    return story.lost


def test_what_was_stored_is_read_again(tmp_path: Path) -> None:
    six = replace(ONE, source="2001:db8::7", channel="tcp", over="tcp", at=4444, type=None, name=None, syn="4500")
    with opened(tmp_path / "a", now=50.0) as store:
        assert store.register("RUN", KEY, 50.0, 60) == 110.0
        assert store.append([("RUN", ONE), ("RUN", six)]) == [True, True]
        story = store.read("RUN")
    assert story is not None
    assert (story.registered, story.lost, story.arrivals) == (50.0, 0, (ONE, six))
    assert set(story.reachable) == {Reachable(Transport.UDP, 4, 53, 100.0), Reachable(Transport.TCP, 6, 4444, 100.0)}


def test_a_run_sees_its_own_only(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as store:
        store.register("ONE", KEY, 50.0, 60)
        store.register("TWO", KEY, 50.0, 60)
        assert store.append([("ONE", ONE), ("TWO", replace(ONE, check=8)), ("NOBODY", ONE)]) == [True, True, False]
        one, two = store.read("ONE"), store.read("TWO")
        assert store.read("NOBODY") is None
    assert one is not None
    assert two is not None
    assert [a.check for a in one.arrivals] == [7]
    assert [a.check for a in two.arrivals] == [8]


def test_registering_again(tmp_path: Path) -> None:
    with opened(tmp_path / "a", retention=1000) as store:
        assert store.register("RUN", KEY, 50.0, 60) == 110.0
        assert store.register("RUN", b"another", 50.0, 600) is None
        assert store.register("RUN", KEY, 60.0, 10) == 110.0  # never shorter
        assert store.register("RUN", KEY, 60.0, 1e9) == 1060.0  # never past the retention
        assert store.unexpired(1059.0) == [("RUN", KEY, 1060.0)]
        assert store.unexpired(1060.0) == []
        assert (store.key("RUN"), store.key("NOBODY")) == (KEY, None)


def test_a_restart_in_the_middle_of_a_run_counts_as_a_loss(tmp_path: Path) -> None:
    """Whatever was sent while nobody listened is unknown: nothing-arrived must not be believed."""
    with opened(tmp_path / "a", now=50.0) as store:
        store.register("OVER", KEY, 50.0, 10)
        store.purge(61.0)
        store.register("GOING", KEY, 50.0, 1000)
        store.append([("GOING", ONE)])
    with opened(tmp_path / "a", now=70.0) as store:
        assert lost(store, "OVER") == 0
        assert lost(store, "GOING") == 1
        assert store.append([("GOING", ONE)]) == [True]
        story = store.read("GOING")
        assert story is not None
        assert len(story.arrivals) == 2


def test_a_run_that_expired_while_nobody_listened_has_lost_too(tmp_path: Path) -> None:
    with opened(tmp_path / "a", now=50.0) as store:
        store.register("RUN", KEY, 50.0, 10)
    with opened(tmp_path / "a", now=5000.0) as store:
        assert lost(store, "RUN") == 1
    with opened(tmp_path / "a", now=6000.0) as store:
        assert lost(store, "RUN") == 1


def test_a_run_has_so_many_rows(tmp_path: Path) -> None:
    with opened(tmp_path / "a", rows=3) as store:
        store.register("RUN", KEY, 50.0, 60)
        store.register("TWO", KEY, 50.0, 60)
        assert store.append([("RUN", ONE)] * 2) == [True, True]
        assert store.append([("RUN", ONE), ("TWO", ONE), ("RUN", ONE)]) == [True, True, False]
        assert (lost(store, "RUN"), lost(store, "TWO")) == (1, 0)
    with opened(tmp_path / "a", rows=3) as store:
        assert store.append([("RUN", ONE)]) == [False]


def test_retention(tmp_path: Path) -> None:
    with opened(tmp_path / "a", retention=100, now=0.0) as store:
        for name, registered in (("OLD", 0.0), ("NEW", 50.0)):
            store.register(name, KEY, registered, 20)
            store.append([(name, ONE)])
        store.purge(99.0)
        assert store.read("OLD") is not None
        store.purge(101.0)
        assert store.read("OLD") is None
        assert store.read("NEW") is not None
        assert store.append([("OLD", ONE)]) == [False]
        assert store.register("OLD", KEY, 200.0, 20) == 220.0
        assert store.append([("OLD", ONE)]) == [True]


def fill(store: Store, name: str, most: int = 200) -> int:
    """How many bursts of a hundred went in before one did not."""
    wide = replace(ONE, name="n" * 200)
    return next((n for n in range(most) if not all(store.append([(name, wide)] * 100))), most)


def test_at_the_cap_of_the_file_the_oldest_run_that_is_over_makes_room(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with opened(path, size=1 << 20, now=0.0) as store:
        for name, registered in (("OLDEST", 0.0), ("OLDER", 10.0), ("GOING", 5.0)):
            store.register(name, KEY, registered, 20 if name != "GOING" else 1000)
        store.append([("OLDER", ONE)])
        assert 5 < fill(store, "OLDEST") < 200
        assert lost(store, "OLDEST") == 100  # none of them is over yet: what came last was lost
        store.purge(50.0)
        assert fill(store, "GOING", 2) == 2
        assert store.read("OLDEST") is None
        assert store.read("OLDER") is not None
        assert fill(store, "GOING") < 200  # and then the next one, and then nobody: what still goes on is kept
        assert store.read("OLDER") is None
        assert lost(store, "GOING") == 100
    assert path.stat().st_size <= 1 << 20


def test_a_run_does_not_make_room_for_its_own_last_arrivals(tmp_path: Path) -> None:
    with opened(tmp_path / "a", size=1 << 20, now=0.0) as store:
        store.register("RUN", KEY, 0.0, 20)
        store.purge(50.0)
        bursts = fill(store, "RUN")
        assert 5 < bursts < 200
        story = store.read("RUN")
        assert story is not None
        assert (len(story.arrivals), story.lost) == (bursts * 100, 100)


def test_only_one_collector_uses_a_file(tmp_path: Path) -> None:
    with opened(tmp_path / "a"), pytest.raises(UserError, match="another collector uses it"):
        Store(tmp_path / "a")
    with opened(tmp_path / "a"):
        pass


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    (tmp_path / "b").touch(mode=0o644)
    for name in ("a", "b"):
        with opened(tmp_path / name) as store:
            store.register("RUN", KEY, 50.0, 60)
            modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir() if file.name[0] == name}
        assert set(modes.values()) == {0o600}, modes


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE runs (id)")
    other.close()


def newer(path: Path) -> None:
    Store(path).close()
    with sqlite3.connect(path) as ours:
        ours.execute("PRAGMA user_version = 2")
    ours.close()


def torn(path: Path) -> None:
    Store(path).close()
    os.truncate(path, 5000)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_text("dear diary, " * 20), "is no database of the collector's"),
        (foreign, "is no database of the collector's"),
        (newer, r"newer version \(schema 2, expected at most 1\)"),
        (torn, "cannot be used as the collector's database"),
        (lambda path: path.mkdir(), "cannot be opened: Is a directory"),
        (lambda path: path.symlink_to("elsewhere"), "cannot be opened"),
    ],
)
def test_files_that_are_refused_and_left_as_they_are(tmp_path: Path, make, said) -> None:
    path = tmp_path / "a"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(UserError, match=said):
        Store(path)
    assert (path.read_bytes() if path.is_file() else None) == before
    with pytest.raises(UserError, match="cannot be opened: No such file"):
        Store(tmp_path / "nowhere" / "a")


def test_somebody_elses_lock(tmp_path: Path) -> None:
    """An operator's own tool in the middle of a transaction: not stored, lost, and then it works again."""
    with opened(tmp_path / "a") as store:
        store.register("RUN", KEY, 50.0, 60)
        other = sqlite3.connect(tmp_path / "a", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert store.append([("RUN", ONE)]) == [False]
        with pytest.raises(StoreError):
            store.register("TWO", KEY, 50.0, 60)
        store.purge(1e9)
        other.execute("ROLLBACK")
        other.close()
        assert store.append([("RUN", ONE)]) == [True]
        assert lost(store, "RUN") == 1
    with opened(tmp_path / "a") as store:
        assert lost(store, "RUN") == 2  # the count was written with the next arrival; and the restart counts


LIMITED = """
import os, resource, sys
from pathlib import Path
from probe.collector.store import Store
from tests.collector.test_store import KEY, ONE, fill, lost

store = Store(Path(sys.argv[1]))
store.register("RUN", KEY, 50.0, 60)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
kept = fill(store, "RUN")
assert 0 < kept < 200, kept
assert store.append([("RUN", ONE)] * 1000) == [False] * 1000
assert lost(store, "RUN") == 1100
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert store.append([("RUN", ONE)]) == [True]
assert lost(store, "RUN") == 1100
assert len(store.read("RUN").arrivals) == kept * 100 + 1
os._exit(0)  # as if killed
"""


def test_a_file_that_cannot_grow_and_then_can(tmp_path: Path, root: Path) -> None:
    """In a process of its own, under RLIMIT_FSIZE: nothing crashes, nothing is acknowledged, and it recovers."""
    path = tmp_path / "a"
    subprocess.run([sys.executable, "-c", LIMITED, str(path)], check=True, cwd=root)
    with opened(path) as store:
        assert lost(store, "RUN") == 1101
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


FULL = """
set -e
mount -t tmpfs -o size=1m tmpfs "$1"
exec "$2" -c '
import os, sys
from pathlib import Path
from probe.collector.store import Store
from tests.collector.test_store import KEY, ONE, fill, lost

folder = Path(sys.argv[1])
(folder / "other").write_bytes(bytes(200_000))
store = Store(folder / "a")
store.register("RUN", KEY, 50.0, 60)
store.register("OVER", KEY, 1.0, 1)
store.purge(10.0)
kept = fill(store, "RUN")
assert 0 < kept < 200, kept
assert store.read("OVER") is not None, "a full disk is no reason to forget a run"
(folder / "other").unlink()
assert store.append([("RUN", ONE)]) == [True]
assert (lost(store, "RUN"), len(store.read("RUN").arrivals)) == (100, kept * 100 + 1)
' "$1"
"""


def test_a_disk_that_is_full_and_then_is_not(tmp_path: Path, root: Path) -> None:
    """A tmpfs of a megabyte, in a mount namespace of its own."""
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", FULL, "sh", str(tmp_path), sys.executable]
    subprocess.run(command, check=True, cwd=root)


def test_what_comes_from_this_very_host_shows_nothing_of_the_world(tmp_path: Path) -> None:
    store = Store(tmp_path / "a", own=("203.0.113.7",))
    assert store.register("R", KEY, 1.0, 600)
    other = replace(ONE, source="203.0.113.8", at=80)
    assert store.append([("R", ONE), ("R", other)]) == [True, True]
    story = store.read("R")
    assert story is not None
    assert len(story.arrivals) == 2
    assert {seen.port for seen in story.reachable} == {80}
    store.close()

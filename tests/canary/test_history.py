"""The history's file: what comes back, in how little space, who may open it, and what is done with a damaged one."""

import json
import random
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from probe.alert import Alert, Canary, Change
from probe.canary import NOTHING, Schedule, assemble, failed_alerts, keep_failure, keep_run, look_back
from probe.codec import encode
from probe.damping import Damping
from probe.documents import Record
from probe.errors import UserError
from probe.history import schema as files
from probe.history.lock import BusyError, locked
from probe.history.outbox import MOST_TRIES, Failure, buried, dead_letters, pending, settle
from probe.history.packing import PackingError, pack, unpack
from probe.history.reading import Run
from probe.history.store import History
from probe.judge import judge
from probe.model import Verdict
from probe.report import Report
from probe.standing import compared, standing, stored_report, with_timeline
from probe.telling import tell_pending
from tests.make import attempt, check, evidence, plan
from tests.make_schema import schema

SCHEDULE = Schedule("box", Damping(), channels=("webhook a", "syslog"))


def made(number: int, leak: bool = False, complete: bool = True) -> Report:
    """A report of twenty rows; the first may leak. Times differ from run to run."""
    draw = random.Random(number)
    rows = [check(f"192.0.2.{n}", n=n) for n in range(1, 21)]
    records = []
    for row in rows:
        seen = attempt("error", row.destination.address, stage="connect", error="ENETUNREACH", t=draw.random(), elapsed=draw.random())  # fmt: skip
        records.append(Record(row.n, (seen,)))
    if leak:
        from probe.documents import Data

        out = attempt("answered", "192.0.2.1", step="talk", data=Data(1, "reply", "x"))
        records[0] = Record(1, (attempt("connected", "192.0.2.1"), out))
    given = plan(*rows, run_id=f"01J{number:023}")
    found = evidence(*records) if complete else evidence(*records, end=None)
    return judge(given, found)


def put(history: History, report: Report, started: float = 0.0, schedule: Schedule = SCHEDULE) -> tuple[Alert, ...]:
    done = assemble(report, look_back(history), schedule)
    keep_run(history, done, schedule, started, 1.5)
    return done.alerts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "h.sqlite"


def test_what_was_stored_comes_back(path: Path) -> None:
    reports = [made(n, leak=n == 3) for n in range(1, 6)]
    with History(path) as history:
        alerts = [put(history, report, 1000.0 + n) for n, report in enumerate(reports)]
        assert [len(found) for found in alerts] == [0, 0, 1, 0, 0]
    with History(path, read_only=True) as history:
        runs = history.runs()
        assert [stored_report(history, run) for run in runs] == reports
        assert [(run.number, run.leak, run.conforms, run.exit_code, run.good) for run in runs] == [
            (1, 0, 20, 0, True), (2, 0, 20, 0, True), (3, 1, 19, 1, False), (4, 0, 20, 0, True), (5, 0, 20, 0, True),
        ]  # fmt: skip
        assert [run.number for run in history.runs(2)] == [4, 5]
        assert [run.number for run in history.runs(since=1003.0)] == [4, 5]
        lines = history.timeline(runs)
        assert lines["s/tcp/192.0.2.1:443"] == "ccLcc"
        assert lines["s/tcp/192.0.2.2:443"] == "ccccc"
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("word", "number"),
    [("last", 3), ("last~1", 2), ("2", 2), ("01J00000000000000000000002", 2), ("01j00000000000000000000003", 3)],
)
def test_a_run_is_found(path: Path, word: str, number: int) -> None:
    with History(path) as history:
        for n in (1, 2, 3):
            put(history, made(n))
        assert history.find(word).number == number


@pytest.mark.parametrize("word", ["last~3", "4", "", "01J", "%", "01J9", "-1", "last~", "9" * 30, "\x00"])
def test_a_run_is_not_found(path: Path, word: str) -> None:
    with History(path) as history:
        for n in (1, 2, 3):
            put(history, made(n))
        with pytest.raises(UserError, match="run"):
            history.find(word)


def test_the_reference_is_the_last_good_run(path: Path) -> None:
    with History(path) as history:
        assert history.reference() is None
        put(history, made(1, leak=True))
        assert history.reference().number == 1  # type: ignore[union-attr] - nothing better is there
        put(history, made(2, complete=False))
        assert history.reference().number == 1  # type: ignore[union-attr]
        put(history, made(3))
        put(history, made(4, leak=True))
        assert history.reference().number == 3  # type: ignore[union-attr]
        report = compared(stored_report(history, history.find("4")), history, history.find("4"), "box")
        assert report.canary is not None
        assert report.canary.reference is not None
        assert report.canary.reference.id.endswith("3")
        assert [change.kind for change in report.canary.changes] == ["leak"]
        assert report.canary.before is not None
        assert set(report.canary.before.values()) == {Verdict.CONFORMS}
        timeline = with_timeline(report, history, history.runs(), "box").canary
        assert timeline is not None
        assert [run.exit_code for run in timeline.runs] == [1, 3, 0, 1]
        first = compared(report, history, history.find("1"), "box").canary
        assert first is not None
        assert first.reference is None


def test_order_is_by_number_whatever_the_clock_did(path: Path) -> None:
    with History(path) as history:
        for n, started in enumerate([10_000.0, 13_600.0, 6_400.0, 10_030.0], 1):  # an hour ahead, an hour back
            put(history, made(n, leak=n == 2), started)
        assert [run.number for run in history.runs()] == [1, 2, 3, 4]
        assert history.find("last").number == 4
        assert history.reference().number == 4  # type: ignore[union-attr]
        assert history.timeline(history.runs())["s/tcp/192.0.2.1:443"] == "cLcc"


def test_only_the_newest_runs_are_kept_and_the_reference(path: Path) -> None:
    schedule = replace(SCHEDULE, keep=3)
    with History(path) as history:
        put(history, made(1), schedule=schedule)
        for n in range(2, 8):
            put(history, made(n, leak=True), schedule=schedule)
        assert [run.number for run in history.runs()] == [1, 5, 6, 7]
        assert [stored_report(history, run).run.id[-1] for run in history.runs()] == ["1", "5", "6", "7"]
        assert history.prune(keep=1) == 2
        assert [run.number for run in history.runs()] == [1, 7]
        assert history.timeline(history.runs())["s/tcp/192.0.2.1:443"] == "cL"
        assert history.rows("SELECT count(*) FROM verdicts") == [(40,)]


def test_prune_by_time(path: Path) -> None:
    with History(path) as history:
        for n in range(1, 6):
            put(history, made(n), float(n))
        assert history.prune(before=4.0) == 3
        assert [run.number for run in history.runs()] == [4, 5]
        assert history.prune(before=100.0) == 1  # the last good one stays
        assert stored_report(history, history.find("last")) == made(5)


# --- packing ----------------------------------------------------------------------------------------------------------


def test_packing_is_lossless_and_evidence_that_repeats_is_stored_once() -> None:
    texts = [json.dumps(encode(made(n))).encode() for n in range(1, 4)]
    alone, beside = pack(texts[0]), pack(texts[1], texts[0])
    assert unpack(alone) == texts[0]
    assert unpack(beside, texts[0]) == texts[1]
    assert unpack(pack(texts[0], texts[0]), texts[0]) == texts[0]
    assert len(pack(texts[0], texts[0])) < 100


@pytest.mark.parametrize("bad", [b"", b"x", b"\x28\xb5\x2f\xfd" + bytes(50)])
def test_what_was_not_packed_is_refused(bad: bytes) -> None:
    with pytest.raises(PackingError):
        unpack(bad)


def test_one_changed_byte_is_noticed() -> None:
    text = json.dumps(encode(made(1))).encode()
    packed = bytearray(pack(text))
    for place in range(20, len(packed), 97):
        packed[place] ^= 1
        with pytest.raises(PackingError):
            unpack(bytes(packed))
        packed[place] ^= 1


def test_a_report_of_another_shape_gets_a_dictionary_of_its_own(path: Path) -> None:
    with History(path) as history:
        put(history, made(1))
        put(history, made(2))
        other = plan(*(check(f"198.51.100.{n}", n=n, port=n, scenario=f"other{n}") for n in range(1, 200)))
        put(history, judge(other, evidence()))
        put(history, made(4))
        assert history.rows("SELECT count(*) FROM dictionaries")[0][0] >= 2
        assert [len(stored_report(history, run).results) for run in history.runs()] == [20, 20, 199, 20]


# --- what is to be told -----------------------------------------------------------------------------------------------


def test_an_alert_waits_for_each_channel_until_it_took_it(path: Path) -> None:
    with History(path) as history:
        put(history, made(1))
        put(history, made(2, leak=True))
        waiting = pending(history)[0]
        assert [(one.channel, one.alert.change.kind, one.tries) for one in waiting] == [("syslog", "leak", 0), ("webhook a", "leak", 0)]  # fmt: skip
        assert settle(history, [waiting[0]], {waiting[1]: Failure("500", True)}, "now") == 0
        (left,) = pending(history)[0]
        assert (left.channel, left.tries) == ("webhook a", 1)
        found = standing(history, "box")
        assert (found.undelivered, found.error, found.leaking) == (1, "500", ("tcp 192.0.2.1:443",))
        for _ in range(MOST_TRIES - 2):
            (left,) = pending(history)[0]
            assert settle(history, [], {left: Failure("500", True)}, "now") == 0
        (left,) = pending(history)[0]
        assert settle(history, [], {left: Failure("503", True)}, "2026-01-01T00:00:00Z") == 1
        assert pending(history) == ([], [])
        (line,) = dead_letters(path).read_text().splitlines()
        letter = json.loads(line)
        assert (letter["channel"], letter["error"], letter["tries"]) == ("webhook a", "503", MOST_TRIES)
        assert letter["alert"]["change"]["kind"] == "leak"
        assert dead_letters(path).stat().st_mode & 0o777 == 0o600
        assert buried(path) == standing(history, "box").dead_letters == 1


def test_what_may_not_be_tried_again_is_buried_at_once(path: Path) -> None:
    with History(path) as history:
        put(history, made(1, leak=True))
        one, two = pending(history)[0]
        assert settle(history, [], {one: Failure("400", False), two: Failure("500", True)}, "now") == 1
        assert [left.channel for left in pending(history)[0]] == [two.channel]


def test_what_was_not_even_sent_is_not_given_up(path: Path) -> None:
    with History(path) as history:
        put(history, made(1, leak=True))
        for _ in range(MOST_TRIES + 1):
            assert settle(history, [], {one: Failure("waits", True, False) for one in pending(history)[0]}, "now") == 0
        assert [one.tries for one in pending(history)[0]] == [0, 0]


def test_the_reference_is_never_pruned(path: Path) -> None:
    schedule = replace(SCHEDULE, keep=3)
    with History(path) as history:
        put(history, made(1, leak=True), 1.0, schedule)  # no run is good: the last complete one it is
        for n in range(2, 7):
            put(history, made(n, complete=False), float(n), schedule)
        assert history.reference().number == 1  # type: ignore[union-attr]
        history.prune(before=100.0)
        assert [run.number for run in history.runs()] == [1]


def test_a_history_that_grows_too_large_forgets_its_older_half(path: Path) -> None:
    with History(path) as history:
        for n in range(1, 5):
            put(history, made(n), float(n))
        size = path.stat().st_size
    with History(path, largest=size // 2) as history:
        put(history, made(5), 5.0)
        assert [run.number for run in history.runs()] == [4, 5]


def test_a_read_only_disk_without_a_wal_is_read_as_it_is(path: Path) -> None:
    with History(path) as history:
        put(history, made(1))
    path.parent.chmod(0o500)
    try:
        code = (
            "import sys; from pathlib import Path; from probe.history import store; "
            "print(len(store.History(Path(sys.argv[1]), True).runs()))"
        )
        words = [sys.executable, "-c", code, str(path)]
        # root may write everywhere: a mount that is read-only is so for root too
        script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && shift 0 && exec "$@"'
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, str(path.parent), *words], capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    finally:
        path.parent.chmod(0o700)


def test_what_stands_is_told_by_status(path: Path) -> None:
    schedule = replace(SCHEDULE, damping=Damping(blind=2))
    blind = judge(plan(*(check(f"192.0.2.{n}", n=n) for n in range(1, 21))), evidence())
    with History(path) as history:
        for n in range(3):
            put(
                history, made(1) if n == 0 else replace(blind, run=replace(blind.run, id=f"01JX{n}")), schedule=schedule
            )
        assert len(standing(history, "box").blind) == 20


def test_unknown_things_in_a_history_stop_nothing(path: Path) -> None:
    with History(path) as history:
        put(history, made(1, leak=True))
        with history.writing() as database:
            database.execute("INSERT INTO known VALUES ('later:x', 'y', '[]', '[\"z\"]')")
        assert put(history, made(2, leak=True)) == ()
        with history.writing() as database:
            database.execute("UPDATE alerts SET alert = '{}'")
        # It holds up nothing, and is not lost.
        good, odd = pending(history)
        assert (good, len(odd)) == ([], 2)
        assert tell_pending(history, ()) == [f"2 alerts cannot be read, and lie in {dead_letters(path)}"]
        assert pending(history) == ([], [])
        assert [json.loads(line)["unreadable"] for line in dead_letters(path).read_text().splitlines()] == ["{}"] * 2
        with history.writing() as database:
            database.execute("UPDATE known SET about = 'x'")
        with pytest.raises(files.DamagedError):
            look_back(history)
    with pytest.raises(UserError, match="damaged"):
        standing(History(path, read_only=True), "box")


@pytest.mark.parametrize(
    "damage",
    [
        "INSERT OR REPLACE INTO notes VALUES ('problems', '[')",
        "INSERT OR REPLACE INTO notes VALUES ('problems', '3')",
        "UPDATE known SET recent = '[]'",
        "UPDATE known SET told = x'00'",
        "UPDATE known SET about = '[5]'",
        "UPDATE known SET key = CAST(x'726f773aff' AS TEXT) WHERE key = (SELECT max(key) FROM known)",
        "UPDATE runs SET started = 9e999",
        "UPDATE runs SET started = -1e15",
        "UPDATE runs SET started = 'x'",
        "DROP TABLE known",
    ],
)
def test_damage_of_every_kind_is_damage_and_no_crash(path: Path, damage: str) -> None:
    with History(path) as history:
        put(history, made(1))
        with history.writing() as database:
            database.execute(damage)
    with History(path) as history, pytest.raises(files.DamagedError):
        look_back(history)
    with History(path, read_only=True) as history, pytest.raises(UserError):
        assert standing(history, "box") == history.lines("problems")  # each in its turn


def test_a_body_that_is_none_is_one_line(path: Path) -> None:
    with History(path) as history:
        put(history, made(1))
        put(history, made(2))
        with history.writing() as database:
            database.execute("UPDATE runs SET body = 'text' WHERE number = 1")
        assert look_back(history).reference is not None
        with pytest.raises(UserError):
            stored_report(history, history.find("1"))
        run = history.find("2")
        assert compared(stored_report(history, run), history, run, "box").canary == Canary("box")


def test_a_new_channel_in_a_failed_run_hears_of_the_leak_in_the_next_one(path: Path) -> None:
    more = replace(SCHEDULE, channels=(*SCHEDULE.channels, "slack new"))
    with History(path) as history:
        put(history, made(1, leak=True))
        past = look_back(history)
        keep_failure(history, failed_alerts(past, more, "x", (), 0.0), past, more, "x", 0.0)
        kinds = [alert.change.kind for alert in put(history, made(2, leak=True), schedule=more)]
        assert kinds == ["leak", "recovered"]


def test_a_channel_that_cannot_be_had_just_now_is_no_new_one_later(path: Path) -> None:
    alone = replace(SCHEDULE, channels=("webhook a",), broken=True)
    with History(path) as history:
        put(history, made(1))
        put(history, made(2, leak=True), schedule=alone)
        assert {one.channel for one in pending(history)[0]} == {"webhook a", "syslog"}  # it waits for both
        assert put(history, made(3, leak=True)) == ()


def test_alerts_of_runs_that_could_not_be_made_have_ids_of_their_own() -> None:
    told = [failed_alerts(NOTHING, SCHEDULE, "x", (), 0.0)[0].id for _ in range(2)]
    assert told[0] != told[1]


def test_a_problem_that_comes_back_is_told_once(path: Path) -> None:
    with History(path) as history:
        put(history, made(1))
        kinds = []
        for problem in ("a", "b", "a", "b"):
            past = look_back(history)
            alerts = failed_alerts(past, SCHEDULE, problem, (), 0.0)
            keep_failure(history, alerts, past, SCHEDULE, problem, 0.0)
            kinds.append([alert.change.kind for alert in alerts])
        assert kinds == [["failed"], ["failed"], [], []]
        assert [alert.change.kind for alert in put(history, made(2))] == ["recovered"]


def test_undelivered_alerts_outlive_their_runs(path: Path) -> None:
    with History(path) as history:
        put(history, made(1, leak=True))
        put(history, made(2))
        history.prune(keep=1)
        assert len(pending(history)[0]) == 2


# --- whose file it is -------------------------------------------------------------------------------------------------


def test_a_foreign_file_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("my notes\n")
    with pytest.raises(UserError, match="is no history of a canary's"):
        History(path)
    assert path.read_text() == "my notes\n"
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE mine (x)")
    other.commit()
    other.close()
    files.lock_path(path).touch()  # not even beside a lock of ours
    with pytest.raises(UserError, match="is no history of a canary's"):
        History(path)


def test_a_newer_version_is_refused(path: Path) -> None:
    History(path).__exit__()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    for read_only in (False, True):
        with pytest.raises(UserError, match="newer version"):
            History(path, read_only)


def test_a_missing_history(path: Path) -> None:
    with pytest.raises(UserError, match="there is no history yet"):
        History(path, read_only=True)
    assert not path.exists()


def used(path: Path) -> None:
    with History(path) as history:
        put(history, made(2))


def test_a_damaged_file_is_known_for_ours(path: Path) -> None:
    with locked(path), History(path) as history:
        put(history, made(1))
    data = path.read_bytes()
    for damage in (b"garbage" * 1000, data[:100] + bytes(8000), data[:5000]):
        path.write_bytes(damage)
        with pytest.raises(files.DamagedError):
            used(path)
    target = files.set_aside(path)
    assert target.read_bytes() == data[:5000]
    assert not path.exists()
    path.write_bytes(b"again")
    assert files.set_aside(path) != target  # within the same second


def test_one_at_a_time(path: Path) -> None:
    busy = pytest.raises(BusyError, match=r"another run of this canary is going on \(pid \d+ since 20")
    with locked(path), busy, locked(path):
        pass
    with locked(path):
        pass


def test_a_lock_that_is_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    files.lock_path(path).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="cannot be opened"), locked(path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_readers_read_while_one_writes(path: Path) -> None:
    with History(path) as writer:
        put(writer, made(1))
        with History(path, read_only=True) as reader, writer.writing() as database:
            database.execute("DELETE FROM runs")
            assert len(reader.runs()) == 1
        assert History(path, read_only=True).runs() == []


# --- a run without a past, and one that could not be made ---------------------------------------------------------------


def test_without_a_history_only_leaks_are_told() -> None:
    done = assemble(made(1, leak=True), NOTHING, SCHEDULE, (Change("damaged", "damaged: it"),))
    assert [alert.change.kind for alert in done.alerts] == ["damaged", "leak"]
    assert [alert.severity for alert in done.alerts] == ["warning", "critical"]
    assert len({alert.id for alert in done.alerts}) == 2
    for alert in done.alerts:
        jsonschema.validate(encode(alert), schema("alert"))
    assert done.report.canary is not None
    assert done.report.canary.changes == ()


def run_row(**more: Any) -> Run:
    return replace(Run("01J", 0.0, 1.0, 0, True, True), **more)


def test_a_failed_store_stores_nothing(path: Path) -> None:
    with History(path) as history:
        put(history, made(1))
        with pytest.raises(sqlite3.Error):
            history.store(run_row(run_id=object()), "x", {"p": "c"}, None, (), ())
        assert len(history.runs()) == 1
        assert "p" not in history.timeline(history.runs())

"""Metrics, read back by the client's own parser and by Prometheus' own tools; the file that is never half, the page."""

import os
import shutil
import socket
import stat
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from probe.alert import Kind
from probe.errors import UserError
from probe.metrics import Figures, LastRun, Served, serve, write_textfile
from probe.model import Verdict

LAST = LastRun(1764039000.5, 1764039010.25, 1, True, {Verdict.LEAK: 3, Verdict.CONFORMS: 70})
FULL = Figures(
    "box", "0.1.0", LAST, 1764030000.0, 4321, {0: 900, 1: 3, 3: 96, 137: 1}, {"leak": 2, "blind": 1}, 4, 5, 1_234_567
)
HOSTILE = 'a"b\\c\nd{e="f"} 1\n# TYPE x counter\u202e'
promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    """Name and labels → value. Every series is there once."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def written(figures: Figures, folder: Path) -> str:
    path = folder / "box.prom"
    write_textfile(figures, str(path))
    return path.read_text()


def of(found: Samples, name: str, **labels: str) -> float:
    return found[f"egress_probe_{name}", tuple(sorted(labels.items()))]


def test_every_figure_comes_back(tmp_path: Path) -> None:
    found = samples(written(FULL, tmp_path))
    box = {"canary": "box"}
    assert of(found, "build_info", version="0.1.0", **box) == 1
    assert of(found, "runs_total", **box) == 4321
    assert of(found, "last_run_start_timestamp_seconds", **box) == 1764039000.5
    assert of(found, "last_run_end_timestamp_seconds", **box) == 1764039010.25
    assert of(found, "last_run_exit_code", **box) == 1
    assert of(found, "last_run_complete", **box) == 1
    assert of(found, "last_good_run_timestamp_seconds", **box) == 1764030000
    assert {v: of(found, "last_run_checks", verdict=v, **box) for v in Verdict} == dict.fromkeys(
        Verdict, 0
    ) | LAST.verdicts
    codes = {"0": 900, "1": 3, "2": 0, "3": 96, "other": 1}
    assert {code: of(found, "history_runs", exit_code=code, **box) for code in codes} == codes
    kinds = get_args(Kind)
    assert {k: of(found, "history_alerts", kind=k, **box) for k in kinds} == dict.fromkeys(kinds, 0) | FULL.alerts
    assert of(found, "alerts_undelivered", **box) == 4
    assert of(found, "alerts_given_up", **box) == 5
    assert of(found, "history_size_bytes", **box) == 1_234_567
    assert len(found) == 10 + len(Verdict) + len(codes) + len(kinds)


def test_the_number_of_series_is_fixed(tmp_path: Path, root: Path) -> None:
    """Whatever the figures are: labels are words of closed sets. The page says how many."""
    few = Figures("box", "0.1.0", LastRun(1.0, 2.0, 0, False))
    number = len(samples(written(FULL, tmp_path)))
    assert len(samples(written(few, tmp_path))) == number - 1  # no good run yet
    assert f"{number} series" in (root / "docs/fleet.md").read_text()


def test_a_canary_that_never_ran(tmp_path: Path) -> None:
    found = samples(written(Figures("box", "0.1.0"), tmp_path))
    assert of(found, "runs_total", canary="box") == 0
    assert not [name for name, _ in found if "last_" in name]


def test_a_hostile_name_stays_a_label(tmp_path: Path) -> None:
    text = written(Figures(HOSTILE, HOSTILE, LAST), tmp_path)
    found = samples(text)
    assert {dict(labels)["canary"] for _, labels in found} == {HOSTILE}
    assert of(found, "build_info", canary=HOSTILE, version=HOSTILE) == 1
    assert {line.split(" ")[0] for line in text.splitlines() if not line.startswith("egress_probe_")} == {"#"}
    assert "# TYPE x counter" not in text.splitlines()


def test_two_canaries_files_fit_together(tmp_path: Path) -> None:
    """node_exporter refuses a series that two files have, and help that differs."""
    both = [written(Figures(name, "0.1.0", LAST, 1.0), tmp_path) for name in ("a", "b")]
    assert not samples(both[0]).keys() & samples(both[1]).keys()
    helps = [{line for line in text.splitlines() if line.startswith("#")} for text in both]
    assert helps[0] == helps[1]


@pytest.mark.real("promtool")
@promtool
@pytest.mark.parametrize("figures", [FULL, Figures("box", "0.1.0"), Figures(HOSTILE, "1")])
def test_promtool_finds_nothing_to_say(figures: Figures, tmp_path: Path) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=written(figures, tmp_path), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.real("promtool")
@promtool
def test_promtool_would_say_it() -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input='a_total{x="1"} 1\n', capture_output=True, text=True, check=False
    )
    assert done.returncode != 0


# --- the rules of docs/fleet.md ---------------------------------------------------------------------------------------


def rules(root: Path) -> str:
    _, _, rest = (root / "docs/fleet.md").read_text().partition("<!-- rules -->\n```yaml\n")
    return rest.partition("```")[0]


def series(name: str, values: Sequence[float], **labels: str) -> dict[str, str]:
    """One value per quarter of an hour, scraped every minute."""
    told = ",".join(f'{key}="{value}"' for key, value in {"canary": "box", **labels}.items())
    return {"series": f"egress_probe_{name}{{{told}}}", "values": " ".join(f"{value:.0f}x14" for value in values)}


def then(first: float, quarters: int, later: float) -> list[float]:
    return [first] * quarters + [later] * (48 - quarters)


TIMES = [900.0 * n for n in range(48)]
GOOD = [
    series("last_run_end_timestamp_seconds", TIMES),
    series("last_run_exit_code", then(0, 48, 0)),
    series("last_run_complete", then(1, 48, 1)),
    series("last_run_checks", then(0, 48, 0), verdict="leak"),
    series("last_run_checks", then(5, 48, 5), verdict="unproven"),
]


def but(name: str, values: Sequence[float], **labels: str) -> list[dict[str, str]]:
    new = series(name, values, **labels)
    assert new["series"] in {one["series"] for one in GOOD}
    return [new if one["series"] == new["series"] else one for one in GOOD]


# Asked after ten hours: 40 quarters.
CASES: dict[str, tuple[list[dict[str, str]], set[str]]] = {
    "good": (GOOD, set()),
    "leak": (but("last_run_checks", then(0, 39, 1), verdict="leak"), {"EgressLeak"}),
    "a leak that is over": (but("last_run_checks", then(3, 39, 0), verdict="leak"), set()),
    "cannot run": (but("last_run_exit_code", then(0, 30, 2)), {"EgressCanaryBlind"}),
    "cannot run once": (but("last_run_exit_code", then(0, 39, 2)), set()),
    "incomplete": (but("last_run_complete", then(1, 30, 0)), {"EgressCanaryBlind"}),
    "more is unproven": (but("last_run_checks", then(5, 30, 6), verdict="unproven"), {"EgressCanaryBlind"}),
    "as much as ever is unproven": (but("last_run_checks", then(9, 48, 9), verdict="unproven"), set()),
    "less is unproven": (but("last_run_checks", then(5, 30, 1), verdict="unproven"), set()),
    "dead": (but("last_run_end_timestamp_seconds", [*TIMES[:36], *[TIMES[36]] * 12]), {"EgressCanaryDead"}),
    "late": (but("last_run_end_timestamp_seconds", [*TIMES[:38], *[TIMES[38]] * 10]), set()),
}


@pytest.mark.real("promtool")
@promtool
def test_the_rules_are_rules(root: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(rules(root))
    done = subprocess.run(
        ["promtool", "check", "rules", "--lint-fatal", str(tmp_path / "rules.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "3 rules found" in done.stdout


@pytest.mark.real("promtool")
@promtool
@pytest.mark.parametrize("case", CASES)
def test_rules_fire_where_they_should(case: str, root: Path, tmp_path: Path) -> None:
    given, firing = CASES[case]
    (tmp_path / "rules.yml").write_text(rules(root))
    names = [rule["alert"] for rule in yaml.safe_load(rules(root))["groups"][0]["rules"]]
    # `ALERTS` has what fires, and what is still pending: only the former counts.
    wanted = [{"labels": f"count_{name}{{}}", "value": 1} for name in names if name in firing]
    asked = [
        {"expr": f'label_replace(count(ALERTS{{alertname="{name}",alertstate="firing"}}), "__name__", "count_{name}", "", "")',
         "eval_time": "10h", "exp_samples": [one for one in wanted if one["labels"] == f"count_{name}{{}}"]}
        for name in names
    ]  # fmt: skip
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": given, "promql_expr_test": asked}],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    done = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "test.yml")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- the file ---------------------------------------------------------------------------------------------------------


def test_everybody_may_read_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        written(FULL, tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "box.prom").stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["box.prom"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "box.prom"
    contents = {written(Figures("box", "0.1.0", made=n), tmp_path) for n in (1, 2)}
    seen, odd, over = set(), [], threading.Event()

    def read() -> None:
        while not over.is_set():
            text = path.read_text()  # it is always there
            seen.add(text)
            odd.extend(name for name in os.listdir(tmp_path) if name.endswith(".prom") and name != "box.prom")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for n in range(600):
        write_textfile(Figures("box", "0.1.0", made=1 + n % 2), str(path))
    over.set()
    for reader in readers:
        reader.join()
    assert seen == contents
    assert odd == []


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("none/box.prom", "cannot be written: No such file or directory"),
        ("file/box.prom", "cannot be written: Not a directory"),
        ("folder", "cannot be written: Is a directory"),
        ("a\0b", "embedded null byte"),
    ],
)
def test_places_that_do_not_work(place: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=message) as found:
        write_textfile(FULL, str(tmp_path / place))
    assert str(found.value).startswith("--metrics /")
    assert "\n" not in str(found.value)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_folder_that_is_read_only() -> None:
    with pytest.raises(UserError, match=r"^--metrics /proc/self/box\.prom: cannot be written: "):  # root may not either
        write_textfile(FULL, "/proc/self/box.prom")


# --- the page ---------------------------------------------------------------------------------------------------------


@contextmanager
def page(get: Any, listen: str = "127.0.0.1:0") -> Iterator[Served]:
    made = serve(listen, get)
    try:
        yield made
    finally:
        made.close()


def fetch(made: Served) -> str:
    host = f"[{made.host}]" if ":" in made.host else made.host
    with urllib.request.urlopen(f"http://{host}:{made.port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0"])
def test_the_page_has_what_the_file_has(listen: str, tmp_path: Path) -> None:
    with page(lambda: FULL, listen) as made:
        assert made.port > 0
        found = samples(fetch(made))
    assert found.pop(("egress_probe_history_readable", ())) == 1
    assert found == samples(written(FULL, tmp_path))


def test_each_request_asks_anew() -> None:
    made_runs = iter(range(1, 10))
    with page(lambda: Figures("box", "0.1.0", made=next(made_runs))) as made:
        assert [of(samples(fetch(made)), "runs_total", canary="box") for _ in range(3)] == [1, 2, 3]


def test_a_history_that_cannot_be_read_is_told() -> None:
    def get() -> Figures:
        raise UserError("no such file")

    with page(get) as made:
        assert samples(fetch(made)) == {("egress_probe_history_readable", ()): 0}


@pytest.mark.real("promtool")
@promtool
def test_promtool_reads_the_page() -> None:
    with page(lambda: FULL) as made:
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=fetch(made), capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_closed_is_closed() -> None:
    made = serve("127.0.0.1:0", lambda: FULL)
    fetch(made)
    made.close()
    with pytest.raises(urllib.error.URLError):
        fetch(made)
    serve(f"127.0.0.1:{made.port}", lambda: FULL).close()


def test_somebody_who_says_nothing_keeps_nobody_waiting() -> None:
    with page(lambda: FULL) as made, socket.create_connection((made.host, made.port)):
        assert "egress_probe_runs_total" in fetch(made)


def test_no_name_is_asked_for() -> None:
    """Python's own server asks for the address's name: that would be a DNS query of the canary's own."""
    with page(lambda: FULL) as made:
        assert made._server.server_name == "127.0.0.1"  # else `localhost`


@pytest.mark.parametrize(
    "listen",
    ["", "9799", ":9799", "localhost:9799", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:65536", "127.0.0.1:²", "::1:9799",
     "[::1]", "[127.0.0.1]:9799", "[::1]9799", "1.2.3:9799", "127.0.0.1:9\n9", f"127.0.0.1:{'9' * 5000}"],
)  # fmt: skip
def test_places_that_are_none(listen: str) -> None:
    with pytest.raises(UserError, match=r"^--listen .*: expected ADDRESS:PORT, as 127\.0\.0\.1:9799 or \[::1\]:9799$"):
        serve(listen, lambda: FULL)


def test_a_port_that_is_taken() -> None:
    with (
        page(lambda: FULL) as made,
        pytest.raises(UserError, match=r"^--listen 127\.0\.0\.1:\d+: Address already in use$"),
    ):
        serve(f"127.0.0.1:{made.port}", lambda: FULL)

"""Real launchers in the lab, each with the network shut and open, against the lab's internet and our own collector.

Several are played at a time: they mostly wait. What cannot run here is skipped with its reason.
"""

import json
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from probe.shipping import archive
from tests.sandboxes.real import SANDBOXES, cannot, play

AT_A_TIME = 6
# Which real part a sandbox stands for, as the Makefile promises it.
PARTS = {
    "codex-all": "codex",
    "podman-exec": "podman",
    "openclaw-skill": "podman",
    "bwrap": "bubblewrap",
    "bwrap-minimal": "bubblewrap",
    "gvisor": "gvisor",
    "firejail-nested": "firejail",
}

Row = tuple[str, str, str | None, str, str | None]  # declared, verdict, grade, outcome, enforcer


def shut(outcome: str, enforcer: str) -> set[Row]:
    """Everything is stopped at once, and the kernel says by whom."""
    return {
        ("deny", "conforms", "proven", outcome, enforcer),
        ("allow", "overblocked", "proven", outcome, enforcer),
    }


NO_ROUTE = shut("no_route", "route")
OPEN: set[Row] = {("allow", "conforms", "proven", "reached", "peer"), ("deny", "leak", "proven", "reached", "peer")}
# No resolver of its own: what is asked is this very host, where nobody listens.
NO_RESOLVER: Row = ("allow", "overblocked", "proven", "name_unresolved", None)
SRT = NO_ROUTE | {("allow", "unproven", None, "no_route", "route")}

EXPECTED: dict[tuple[str, str], set[Row]] = {
    ("env", "open"): OPEN,
    ("bwrap", "shut"): NO_ROUTE,
    ("bwrap", "open"): OPEN,
    ("bwrap-minimal", "shut"): NO_ROUTE | {NO_RESOLVER},
    ("unshare", "shut"): NO_ROUTE,
    ("unshare", "open"): OPEN,
    ("netns", "shut"): NO_ROUTE,
    ("netns", "open"): OPEN,
    # Names go out through its proxy, or do not; nothing else has a way.
    ("srt", "shut"): SRT | {("deny", "unproven", None, "proxy_denied", "proxy")},
    ("srt", "open"): SRT | {("deny", "leak", "proven", "reached", "peer")},
    # socket() is refused, and what an event loop needs as well.
    ("codex", "shut"): shut("denied", "syscall_filter"),
    ("codex", "open"): OPEN,
    # A name that cannot even be asked for, where the kernel refuses everything and says so.
    ("codex-all", "shut"): shut("denied", "syscall_filter") | {("deny", "conforms", "proven", "name_unresolved", None)},
    ("podman", "shut"): NO_ROUTE | {NO_RESOLVER},
    ("podman", "open"): OPEN,
    ("podman-exec", "shut"): NO_ROUTE | {NO_RESOLVER},
    ("podman-exec", "open"): OPEN,
    ("openclaw-skill", "shut"): NO_ROUTE | {NO_RESOLVER},
    ("openclaw-skill", "open"): OPEN,
    ("docker", "shut"): NO_ROUTE,
    ("docker", "open"): OPEN,
    ("gvisor", "shut"): NO_ROUTE,
    ("firejail", "shut"): NO_ROUTE,
    ("firejail", "open"): OPEN,
    # `--net=none`, and nothing is shut: it fails open without a word.
    ("firejail-nested", "open"): OPEN,
}


@pytest.fixture(scope="session")
def played(request: pytest.FixtureRequest) -> "dict[tuple[str, str], Future[dict[str, Any]]]":
    """What came of every launcher that a chosen test asks for."""
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = {spec.params["which"]: None for spec in specs if spec is not None and "which" in spec.params}
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return {which: pool.submit(play, *which) for which in chosen}


def rows(report: dict[str, Any]) -> set[Row]:
    return {
        (
            row["declared"]["action"],
            row["verdict"],
            row.get("grade"),
            row["observed"]["outcome"],
            (row["observed"].get("enforcer") or {}).get("kind"),
        )
        for row in report["results"]
        if row["purpose"] != "self-test" and row["verdict"] != "not_run"
    }


@pytest.mark.parametrize(
    "which",
    [
        pytest.param(which, id="-".join(which), marks=pytest.mark.real(PARTS.get(which[0], which[0])))
        for which in EXPECTED
    ],
)
def test_what_the_inside_sees(which: tuple[str, str], played: "dict[tuple[str, str], Future[dict[str, Any]]]") -> None:
    done = played[which].result()
    if "skipped" in done:
        pytest.skip(done["skipped"])
    assert "failed" not in done, done["failed"]
    report = done["report"]
    assert report["problems"] == [], done["said"]
    assert rows(report) == EXPECTED[which]
    assert (report["complete"], report["evidence"]) == (True, "far-end")
    assert report["run"]["tool"]["artifact_sha256"] == archive.build().sha256
    assert report["run"]["via"]


def test_every_sandbox_is_played_in_every_way_that_it_has() -> None:
    ways = {(name, "shut") for name, one in SANDBOXES.items() if one.shut}
    ways |= {(name, "open") for name, one in SANDBOXES.items() if one.open}
    assert set(EXPECTED) == ways
    assert all(one.why for one in SANDBOXES.values() if not (one.shut and one.open))


@pytest.mark.real("podman")
def test_a_container_that_was_replaced_is_named_in_one_line() -> None:
    problem = cannot("podman")
    if problem is not None:
        pytest.skip(problem)
    command = [sys.executable, "-m", "tests.sandboxes.replaced"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    old, new = (one[:12] for one in found["ids"])
    first, second, third = found["runs"]
    assert "failed" not in first, first
    assert (first["id"], second["id"], third["id"]) == (old, old, new)
    assert second["lines"] == []
    assert third["lines"] == [f"vantage: container id: {new} (was {old})"]

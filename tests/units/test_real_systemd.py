"""The units under systemd's own eyes, and in a manager of its own: it takes them, and they change nothing that is seen."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from probe import latch
from probe.units import SCHEDULERS, Job
from tests.units.manager import UNITS, cannot, start
from tests.units.test_quoting import HARD

pytestmark = [
    pytest.mark.real("systemd"),
    pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed"),
]
manager = pytest.mark.skipif(cannot() is not None, reason=str(cannot()))

VIAS = [None, "bwrap", "docker:box"]


def units(*words: str, **more: Any) -> dict[str, str]:
    return SCHEDULERS["systemd"](Job((words or ("/bin/true",)), "box", more.pop("every", 900), **more))


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)


def written(files: dict[str, str], folder: Path) -> list[str]:
    for name, text in files.items():
        (folder / name).write_text(text)
    return [str(folder / name) for name in files]


# --- systemd-analyze --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [60, 420, 900, 86400])
@pytest.mark.parametrize("more", [{"user": "root"}, {"writes": ["a b/c", "50%/x"]}, {"own": True}])
@pytest.mark.parametrize("via", VIAS)
def test_units_verify(via: str | None, more: dict[str, Any], every: float, tmp_path: Path) -> None:
    made = units("/bin/true", *HARD, via=via, every=every, folder="/srv/a b/50%", **more)
    done = analyze("verify", "--man=no", *written(made, tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


def test_verify_tells_what_it_does_not_know(tmp_path: Path) -> None:
    made = {name: text.replace("UMask=", "UMaks=") for name, text in units().items()}
    assert "UMaks" in analyze("verify", "--man=no", *written(made, tmp_path)).stderr


EVEN = [
    60,
    120,
    180,
    240,
    300,
    360,
    600,
    720,
    900,
    1200,
    1800,
    3600,
    7200,
    10800,
    14400,
    21600,
    28800,
    43200,
    86400,
    604800,
]


@pytest.mark.parametrize("every", EVEN)
def test_the_calendar_comes_every_so_many_seconds(every: int) -> None:
    (event,) = re.findall(r"^OnCalendar=(.*)$", units(every=every)["egress-probe-box.timer"], re.MULTILINE)
    # Over two midnights, where an uneven step would show.
    count = min(3000, 2 * 86400 // every + 3)
    done = analyze("calendar", f"--iterations={count}", event)
    assert done.returncode == 0, done.stderr
    times = re.findall(r"(?:Next elapse|Iter\S* #\d+): \w+ (\S+ \S+) UTC", done.stdout)
    assert len(times) == count
    moments = [datetime.fromisoformat(time).timestamp() for time in times]
    assert {later - sooner for sooner, later in pairwise(moments)} == {every}


# What systemd's own scale says of each (0 to 100: everything is possible). Most of it is what must be left out.
@pytest.mark.parametrize(("via", "most"), [(None, 91), ("bwrap", 94), ("docker:box", 59)])
def test_exposure(via: str | None, most: int, tmp_path: Path) -> None:
    def exposed(service: str) -> bool:
        (path,) = written({"a.service": service}, tmp_path)
        return analyze("security", "--offline=true", "--no-pager", f"--threshold={most}", path).returncode != 0

    service = units(via=via)["egress-probe-box.service"]
    assert not exposed(service)
    assert exposed("[Service]\nType=oneshot\nExecStart=/bin/true\n")


# --- a manager --------------------------------------------------------------------------------------------------------


RESULT = "[Service]\nExecStopPost=/bin/sh -c 'echo $SERVICE_RESULT'\n"


@manager
@pytest.mark.parametrize(("status", "result"), [(0, "success"), (1, "exit-code"), (2, "exit-code"), (3, "exit-code")])
def test_what_is_not_0_has_failed(status: int, result: str) -> None:
    ended = start(units("/bin/sh", "-c", f"exit {status}"), "egress-probe-box.service", RESULT)
    assert (ended.status, ended.out) == (status, f"{result}\n")


@manager
def test_a_run_that_hangs_is_ended() -> None:
    ended = start(units("/bin/sleep", "60", limit=1), "egress-probe-box.service", RESULT)
    assert (ended.status, ended.out) == (255, "timeout\n")


# The same timers, in seconds.
@manager
@pytest.mark.parametrize(
    ("every", "hurry"),
    [(900, {"*:00/15:00 UTC": "*:*:00/1 UTC"}), (420, {"OnActiveSec=1min": "OnActiveSec=1s", "OnUnitActiveSec=7min": "OnUnitActiveSec=1s"})],
)  # fmt: skip
def test_the_timer_starts_it_and_again_after_a_failure(every: int, hurry: dict[str, str]) -> None:
    script = 'if [ -e "$XDG_STATE_HOME/a" ]; then echo again; else : > "$XDG_STATE_HOME/a"; exit 1; fi'
    made = units("/bin/sh", "-c", script, every=every, splay=0)
    timer = made["egress-probe-box.timer"]
    for old, new in (hurry | {"AccuracySec=60": "AccuracySec=1s"}).items():
        timer = timer.replace(old, new)
    made["egress-probe-box.timer"] = timer
    ended = start(made, "egress-probe-box.service", "[Unit]\nFailureAction=none\n", by="egress-probe-box.timer")
    assert (ended.status, ended.out) == (0, "again\n")


@manager
@pytest.mark.parametrize("via", VIAS)
def test_only_what_it_needs_can_be_written(via: str | None) -> None:
    script = (
        'for file in "$XDG_STATE_HOME/a" "$XDG_CACHE_HOME/a" "/run/out put/50%/m.prom" /etc/egress-probe-test /usr/egress-probe-test '
        '/srv/egress-probe-test; do (: > "$file") 2>/dev/null && rm "$file" && echo "$file"; done; stat -c "%a %n" "$XDG_STATE_HOME"; umask'
    )
    made = units("/bin/sh", "-c", script, via=via, writes=["/run/out put/50%/m.prom"])
    ended = start(made, "egress-probe-box.service", network='mkdir -p "/run/out put/50%"')
    free = ["/srv/egress-probe-test"] if via == "bwrap" else []
    state, cache = "/var/lib/egress-probe/box", "/var/cache/egress-probe/box"
    assert ended.out.splitlines() == [
        f"{state}/a",
        f"{cache}/a",
        "/run/out put/50%/m.prom",
        *free,
        f"700 {state}",
        "0077",
    ]


@manager
@pytest.mark.parametrize("launcher", ["bwrap", "unshare"])
@pytest.mark.parametrize("user", [None, "nobody"])
def test_a_launcher_can_make_its_sandbox_below(launcher: str, user: str | None) -> None:
    if not shutil.which(launcher):
        pytest.skip(f"{launcher} is not installed")
    words = {
        "bwrap": "bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --unshare-all --die-with-parent",
        "unshare": "unshare --user --map-root-user --net --mount --pid --fork --mount-proc",
    }[launcher].split()
    script = "grep -c : /proc/net/dev; grep -E 'Seccomp:|NoNewPrivs' /proc/self/status"
    ended = start(
        units("/usr/bin/env", *words, "sh", "-c", script, via=launcher, user=user), "egress-probe-box.service"
    )
    assert ended.status == 0, ended
    # Its own network, and no filter of ours; bubblewrap itself sets no_new_privs.
    assert ended.out.split() == ["1", "NoNewPrivs:", "1" if launcher == "bwrap" else "0", "Seccomp:", "0"]


# Some of each outcome that a network gives: an answer, a port that is closed, a route that prohibits, none at all, silence.
NETWORK = """
ip link add v0 type veth peer name v1
for link in v0 v1; do ip link set $link addrgenmode none up; done
ip address add 10.99.0.2/24 dev v0
ip neighbor add 10.99.0.1 lladdr 02:00:00:00:00:99 dev v0
ip route add default via 10.99.0.1
ip address add 203.0.113.1/32 dev lo
ip route add prohibit 198.51.100.0/24
ip route add unreachable 240.0.0.0/4
ip route add blackhole 192.88.99.0/24
"""
POLICY = 'default = "deny"\n'


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run in place found: its exit code, what was observed and said by row, and the vantage."""

    status: int
    rows: dict[str, Any]
    vantage: dict[str, Any]


def seen(more: str = "", bare: bool = False) -> Seen:
    """`more`: of a drop-in's [Service]. `bare`: in a unit without our options."""
    words = [
        str(Path(sys.executable).with_name("egress-probe")),
        "run",
        "--policy",
        f"{UNITS}/p.toml",
        "--format",
        "json",
        "--seed",
        "x",
    ]
    words += [
        "--deadline",
        "0.3",
        "--tries",
        "1",
        "--scenario",
        "documentation-ranges",
        "--scenario",
        "reserved-ranges",
    ]
    words += ["--scenario", "around-the-filter", "--scenario", "raw-syn"]
    made = units(*words)
    service = made["egress-probe-box.service"]
    if bare:
        kept = ("[", "Type=", "ExecStart=", "StateDirectory=", "CacheDirectory=", "Environment=")
        service = "\n".join(line for line in service.splitlines() if line.startswith(kept)) + "\n"
    files = {**made, "egress-probe-box.service": service, "p.toml": POLICY}
    latched = f"[Service]\nEnvironment={latch.VARIABLE}={os.environ[latch.VARIABLE]}\n{more}"
    ended = start(files, "egress-probe-box.service", latched, NETWORK)
    assert ended.out, ended
    report = json.loads(ended.out)
    assert report["complete"]
    rows = {
        row["id"]: (row["observed"] | {"attempts": None}, row["verdict"], row["grade"]) for row in report["results"]
    }
    return Seen(ended.status, rows, report["run"]["vantage"])


@pytest.fixture(scope="module")
def plain() -> Seen:
    return seen(bare=True)


@manager
def test_a_run_in_place_finds_the_same_with_and_without_our_options(plain: Seen) -> None:
    ours = seen()
    assert (ours.status, ours.rows) == (3, plain.rows)
    assert len({observed["outcome"] for observed, _, _ in ours.rows.values()}) >= 5, "too few kinds to tell anything"
    differs = {key for key in ours.vantage if ours.vantage[key] != plain.vantage[key]}
    assert differs - {"netns"} == {"no_new_privs"}
    assert ours.vantage["seccomp"] == "disabled"


# That the test above can fail, and that the comments in the unit are true. The status: 0 is what must never be.
@manager
@pytest.mark.parametrize(
    ("option", "status"),
    [
        ("PrivateNetwork=yes", 0),
        ("RestrictAddressFamilies=AF_UNIX AF_NETLINK", 0),
        ("SystemCallFilter=~connect sendto sendmsg\nSystemCallErrorNumber=EPERM", 3),
        ("IPAddressDeny=any", 3),
        ("CapabilityBoundingSet=", 3),
        ("PrivateUsers=yes", 3),
    ],
)
def test_what_is_left_out_would_be_seen_as_the_policys_work(option: str, status: int, plain: Seen) -> None:
    found = seen(option + "\n")
    assert found.rows != plain.rows
    assert (found.status, plain.status) == (status, 3)


@manager
@pytest.mark.parametrize(
    "option",
    ["LockPersonality=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes", "RestrictNamespaces=yes", "ProtectHostname=yes", "ProtectClock=yes",
     "ProtectKernelModules=yes", "ProtectKernelLogs=yes", "ProtectKernelTunables=yes", "PrivateDevices=yes", "MemoryDenyWriteExecute=yes"],
)  # fmt: skip
def test_what_is_left_out_would_be_seen_as_the_places_filter(option: str) -> None:
    made = units("/bin/sh", "-c", "grep Seccomp: /proc/self/status")
    assert start(made, "egress-probe-box.service").out.split() == ["Seccomp:", "0"]
    assert start(made, "egress-probe-box.service", f"[Service]\n{option}\n").out.split() == ["Seccomp:", "2"]

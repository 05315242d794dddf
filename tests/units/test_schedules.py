"""What a schedule's files say: intervals, delays, bounds, who runs it; and what is refused, in one line each."""

import re
from typing import Any

import pytest

from probe.errors import UserError
from probe.targets import TARGETS
from probe.units import SCHEDULERS, Job
from probe.units.hardening import kind_of
from probe.units.job import MARKER

PROGRAM = "/opt/egress-probe/bin/egress-probe"


def job(**more: Any) -> Job:
    values: dict[str, Any] = {"words": (PROGRAM, "canary", "run", "--policy", "p.toml"), "name": "box", "every": 900.0}
    return Job(**values | more)


def systemd(**more: Any) -> tuple[str, str]:
    """The service and the timer."""
    files = SCHEDULERS["systemd"](job(**more))
    assert [name.rpartition(".")[2] for name in files] == ["service", "timer"]
    service, timer = files.values()
    return service, timer


def cron(**more: Any) -> str:
    """The one line of the table that is no comment."""
    (text,) = SCHEDULERS["cron"](job(**more)).values()
    (line,) = [line for line in text.splitlines() if not line.startswith("#")]
    return line


def setting(text: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


def test_registry_and_folder_agree(root: Any) -> None:
    helpers = {"__init__", "job", "quoting", "hardening", "installing"}
    assert {path.stem for path in (root / "probe/units").glob("*.py")} - helpers == set(SCHEDULERS)


@pytest.mark.parametrize(
    ("every", "timer", "line"),
    [
        (60, "OnCalendar=*-*-* *:00/1:00 UTC", "*/1 * * * *"),
        (900, "OnCalendar=*-*-* *:00/15:00 UTC", "*/15 * * * *"),
        (3600, "OnCalendar=*-*-* 00/1:00:00 UTC", "0 * * * *"),
        (4 * 3600, "OnCalendar=*-*-* 00/4:00:00 UTC", "0 */4 * * *"),
        (86400, "OnCalendar=*-*-* 00:00:00 UTC", "0 0 * * *"),
        (7 * 86400, "OnCalendar=Mon *-*-* 00:00:00 UTC", "0 0 * * 1"),
        # Not evenly in an hour or a day: the last step would be shorter.
        (420, "OnUnitActiveSec=7min", None),
        (5400, "OnUnitActiveSec=90min", None),
        (5 * 3600, "OnUnitActiveSec=5h", None),
        (2 * 86400, "OnUnitActiveSec=2d", None),
        (90, "OnUnitActiveSec=90s", None),
        (30 * 86400, "OnUnitActiveSec=30d", None),
    ],
)
def test_intervals(every: float, timer: str, line: str | None) -> None:
    assert timer in systemd(every=every)[1].splitlines()
    if line is not None:
        assert cron(every=every).startswith(f"{line} cd ")
    else:
        with pytest.raises(UserError, match=rf"^--every {every} s: cron keeps minutes that divide an hour"):
            cron(every=every)


def test_what_was_missed_is_made_up_for_where_the_next_is_far() -> None:
    assert [setting(systemd(every=every)[1], "Persistent") for every in (900, 3600, 86400)] == [[], ["true"], ["true"]]
    assert not setting(systemd(every=5 * 3600)[1], "Persistent")  # it is for calendars only: systemd.timer(5)


@pytest.mark.parametrize(
    ("more", "delay", "limit"),
    [({}, "90", "900"), ({"every": 60}, "6", "600"), ({"every": 86400}, "900", "3600"), ({"splay": 0.0}, "0", "900"),
     ({"splay": 30.0, "limit": 120.0}, "30", "120")],
)  # fmt: skip
def test_delay_and_bound(more: dict[str, float], delay: str, limit: str) -> None:
    service, timer = systemd(**more)
    assert (setting(timer, "RandomizedDelaySec"), setting(service, "TimeoutStartSec")) == ([delay], [limit])
    line = cron(**more)
    assert f" timeout -k 60 {int(limit) + int(delay)} {PROGRAM} canary run " in line
    assert line.endswith(f" --splay {delay} >/dev/null" if int(delay) else "p.toml >/dev/null")


def test_crons_delay_stands_before_a_launchers_words() -> None:
    words = (PROGRAM, "canary", "run", "--", "bwrap", "--", "x")
    assert cron(words=words).endswith("canary run --splay 90 -- bwrap -- x >/dev/null")


def test_every_failure_is_one() -> None:
    service, _ = systemd()
    assert not setting(service, "SuccessExitStatus")
    assert not setting(service, "Restart")
    assert "|| true" not in cron()


def test_users() -> None:
    assert setting(systemd()[0], "User") == []
    assert setting(systemd(user="skill-runner")[0], "User") == ["skill-runner"]
    assert cron(user="skill-runner").startswith("*/15 * * * * skill-runner cd / && ")
    assert list(SCHEDULERS["cron"](job(user="root"))) == ["egress-probe-box"]
    assert list(SCHEDULERS["cron"](job())) == ["egress-probe-box.crontab"]
    own, _ = systemd(own=True)
    for name in ("User", "StateDirectory", "ProtectSystem", "ReadWritePaths", "Wants", "After"):
        assert not setting(own, name), name


def test_folders() -> None:
    service, _ = systemd(folder="/srv/a b/../c%d", writes=["out/m.prom", "/var/x/r.json", "out/r.txt", "q/a\\b"])
    assert setting(service, "WorkingDirectory") == ["/srv/c%%d"]
    assert setting(service, "ReadWritePaths") == ["-/srv/c%%d/out", "-/srv/c%%d/q", "-/var/x"]
    assert "cd '/srv/a b' && umask 077 && exec " in cron(folder="/srv/a b")


# What must never be in a unit whose agent is in place or below it, and what must stand in a comment there.
FORBIDDEN = (
    "PrivateNetwork NetworkNamespacePath JoinsNamespaceOf RestrictAddressFamilies IPAddressDeny IPEgressFilterPath SocketBindDeny "
    "RestrictNetworkInterfaces SystemCallFilter SystemCallArchitectures CapabilityBoundingSet AmbientCapabilities PrivateUsers PrivateTmp "
    "InaccessiblePaths ProtectProc ProcSubset LockPersonality RestrictRealtime RestrictSUIDSGID RestrictNamespaces ProtectHostname ProtectClock "
    "ProtectKernelModules ProtectKernelLogs ProtectKernelTunables PrivateDevices MemoryDenyWriteExecute"
).split()


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("via", [None, "bwrap", "podman:box", "my-own-launcher"])
def test_options_that_would_be_measured_are_left_out_and_named(via: str | None, own: bool) -> None:
    service, _ = systemd(via=via, own=own)
    comments = "\n".join(line for line in service.splitlines() if line.startswith("#"))
    for name in FORBIDDEN:
        assert not setting(service, name), name
        assert f" {name}=" in comments, name
    if via is not None:
        for name in ("NoNewPrivileges", "ProtectHome", "ProtectControlGroups"):
            assert not setting(service, name), name
            assert f" {name}=" in comments, name


def test_kinds() -> None:
    found = {target: kind_of(target) for target in TARGETS}
    assert {target for target, kind in found.items() if kind == "client"} == {
        "docker",
        "docker-image",
        "kubectl",
        "ssh",
    }
    assert kind_of("docker:box") == "client"
    assert kind_of(None) == "place"
    # A launcher of the user's own, whatever it is called.
    assert kind_of("/usr/bin/docker") == kind_of("") == kind_of("dockerish:box") == "child"


def test_every_file_starts_with_the_marker() -> None:
    for make in SCHEDULERS.values():
        for name, text in make(job()).items():
            assert text.startswith(MARKER + "\n"), name
            assert text.endswith("\n")


LONG = "x" * 1000
HOSTILE = ["", "a/b", "../x", "a b", "a\nUser=root", "é", "-x", ".x", "a@b", "%n", "a;b", "x" * 65]


@pytest.mark.parametrize("make", SCHEDULERS.values())
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused(name: str, make: Any) -> None:
    with pytest.raises(
        UserError, match=r"^--name .*: expected at most 64 letters, digits, dots, dashes and underscores$"
    ):
        make(job(name=name))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"user": "a b"}, "user a b: expected a user's name"),
        ({"user": "x\n* * * * * root evil"}, r"user x\\n\* \* \* \* \* root evil: expected"),
        ({"user": "root", "own": True}, "user root: a user's own unit"),
        ({"every": 59}, "--every 59 s: expected 60 to 2678400 seconds"),
        ({"every": float("nan")}, "--every nan s: expected"),
        ({"every": float("inf")}, "--every inf s: expected"),
        ({"splay": 900.0}, "--splay 900 s: expected 0 to 899 seconds"),
        ({"splay": -1.0}, "--splay -1 s: expected"),
        ({"limit": 0.0}, "--limit 0 s: expected"),
        ({"words": ()}, "the program to schedule: expected its absolute path"),
        ({"words": ("egress-probe",)}, "the program to schedule: expected its absolute path"),
        ({"words": (PROGRAM, "a\0b")}, "no command line can hold a NUL"),
        ({"words": (PROGRAM, "a\udcffb")}, "not UTF-8 text"),
        ({"folder": "/a\nExecStart=/evil"}, "such a path cannot stand in a schedule"),
        ({"folder": "/a\\"}, "such a path cannot stand in a schedule"),
        ({"folder": "/a "}, "such a path cannot stand in a schedule"),
        ({"writes": ["a\nb/c"]}, "such a path cannot stand in a schedule"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(more: dict[str, Any], message: str) -> None:
    for make in SCHEDULERS.values():
        with pytest.raises(UserError, match=message) as found:
            make(job(**more))
        assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"own": True}, "cron has no units of a user's own"),
        ({"user": "root", "name": "a.b"}, "--name a.b: cron leaves out files of /etc/cron.d with a dot"),
        ({"words": (PROGRAM, LONG)}, r"a command of \d+ bytes: cron takes 998"),
        ({"words": (PROGRAM, "a\nb")}, "a crontab's line cannot hold a line break"),
        ({"words": (PROGRAM, "a\rb")}, "a crontab's line cannot hold a line break"),
    ],
)  # fmt: skip
def test_what_cron_cannot_hold_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        cron(**more)

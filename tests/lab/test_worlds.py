"""The acceptance tests: every world in real namespaces, against its stated truth; and nothing is left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from probe.cli.lab import play_world
from probe.documents import Record
from probe.errors import UserError
from probe.judge import judge
from probe.lab.namespaces import forbidden, in_isolation
from probe.lab.stage import unbound_config
from probe.lab.world import Truth, World, load_world, misses, parse_world, world_names
from probe.model import Verdict
from tests.make import attempt, check, evidence, plan
from tests.make_schema import schema

LAB = [sys.executable, "-I", "-m", "probe", "lab"]
RESOLVERS = {name for name in world_names() if load_world(name).gateway.resolver != "none"}
RULES = {name for name in world_names() if load_world(name).gateway.nft}


def marks(name: str) -> list[pytest.MarkDecorator]:
    used = ["namespaces", *(["nftables"] if name in RULES else []), *(["unbound"] if name in RESOLVERS else [])]
    return [pytest.mark.real(part) for part in used]


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in world_names()])
def test_every_verdict_is_the_truth(name: str) -> None:
    world = load_world(name)
    report = play_world(world)
    assert misses(world, report) == []
    jsonschema.validate(json.loads(json.dumps(_plain(report))), schema())


@pytest.mark.real("namespaces")
def test_what_answered_is_not_asked_again() -> None:
    report = play_world(load_world("open"))
    again = {r.purpose for r in report.results if any(a.again for a in r.observed.attempts)}
    assert again <= {"control", "witness"}


def _plain(report: object) -> object:
    from probe.codec import encode

    return encode(report)


@pytest.mark.real("namespaces")
def test_the_command_exits_1_when_a_verdict_is_not_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from probe.cli import lab
    from tests.make import command

    honest = load_world("no-network")
    monkeypatch.setattr(lab, "load_world", lambda name: replace(honest, truth=(Truth(Verdict.LEAK),), exit_code=1))
    ran = command(capfd, "lab", "no-network")
    assert ran.status == 1
    assert "but the truth is leak" in ran.err
    assert "exit code 0, but the truth is 1" in ran.err


@pytest.mark.real("namespaces")
def test_formats_other_than_the_table_stay_machine_readable() -> None:
    done = subprocess.run([*LAB, "no-network", "--format", "json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["summary"]["exit_code"] == 0
    assert "every verdict is the truth" in done.stderr


# --- the wire against the plan ---


def _captured(world: World) -> dict[str, list[str]]:
    """Play `run` in a world with every packet of the sandbox captured: what was planned, and where packets went."""
    import socket
    import tempfile

    from probe.lab.namespaces import SCRATCH, enter
    from probe.lab.stage import serving

    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder, serving(world, Path(folder)) as networks:
        enter(networks.sandbox)
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        wire.setblocking(False)
        policy, plan_file = Path(folder, "p.toml"), Path(folder, "plan.json")
        policy.write_text(world.policy.text)
        command = [*LAB[:-1], "run", "--policy", str(policy), "--plan-out", str(plan_file), "--zone", "exfil.example"]
        for control in world.run.control:
            command += ["--control", control]
        for witness in world.run.witness:
            command += ["--witness", witness]
        subprocess.run(command, capture_output=True, check=False)
        frames = []
        while True:
            try:
                data, origin = wire.recvfrom(65535)
            except BlockingIOError:
                break
            if origin[0] == "eth0" and origin[2] == socket.PACKET_OUTGOING:
                frames.append(data)
        planned = json.loads(plan_file.read_text())
    return {"went": [went for frame in frames if (went := _destination(frame))], "plan": [json.dumps(planned)]}


def _destination(frame: bytes) -> str | None:
    """The IP destination, without what keeps a link alive: ARP, neighbour discovery, multicast listener reports."""
    import ipaddress

    if frame[12:14] == b"\x08\x00":
        return str(ipaddress.IPv4Address(frame[30:34]))
    if frame[12:14] == b"\x86\xdd" and frame[20] not in (0, 58):
        return str(ipaddress.IPv6Address(frame[38:54]))
    return None


@pytest.mark.real("namespaces")
@pytest.mark.real("unbound")
@pytest.mark.parametrize("name", ["open", "dns-open"])
def test_run_sends_nothing_that_plan_does_not_list(name: str) -> None:
    world = load_world(name)
    text = world.policy.text if name == "dns-open" else 'default = "deny"\n'
    world = replace(
        world,
        policy=replace(world.policy, name="p.toml", text=text),
        run=replace(world.run, control=("203.0.113.10:443",) if name == "dns-open" else ()),
    )
    captured = in_isolation(lambda: _captured(world))
    planned = json.loads(captured["plan"][0])
    listed = {check["destination"]["address"] for check in planned["checks"]}
    # What the plan names symbolically: the system's resolver, and the A and AAAA of the policy's own name.
    symbolic = {"10.99.0.1", "203.0.113.10", "2001:db8:10::10"}
    assert set(captured["went"]) - listed - symbolic == set()
    assert {address for address in listed if address and address not in ("127.0.0.1", "::1")} <= set(captured["went"])
    # The budget counts what we start; acknowledgements and closes come on top, at most as many again and a half.
    assert len(captured["went"]) <= 2.5 * planned["budget"]["packets"]


# --- nothing is left behind ---


def ours() -> set[int]:
    """Processes that a lab left: its servers are ours by their command line."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"probe.lab" in words or b"egress-probe-lab" in words:
                found.add(int(entry.name))
    return found


def lab_folders() -> set[str]:
    import tempfile

    return {path.name for path in Path(tempfile.gettempdir()).glob("egress-probe-lab-*")}


@pytest.mark.real("namespaces")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_lab_that_is_stopped_leaves_no_process(number: int) -> None:
    before, folders = ours(), lab_folders()
    started = subprocess.Popen([*LAB, "dead-sandbox"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for _ in range(200):  # until its servers run
        if ours() - before:
            break
        time.sleep(0.05)
    assert ours() - before
    started.send_signal(number)
    _, err = started.communicate(timeout=20)
    for _ in range(200):  # the kernel ends what is left
        if not ours() - before:
            break
        time.sleep(0.05)
    assert ours() - before == set()
    assert lab_folders() == folders
    assert started.returncode == (3 if number != signal.SIGKILL else -signal.SIGKILL)
    assert "Traceback" not in err


@pytest.mark.real("namespaces")
def test_a_lab_that_ends_leaves_nothing() -> None:
    before = ours(), lab_folders(), Path("/proc/self/net/dev").read_text().count("\n")
    assert subprocess.run([*LAB, "no-network"], capture_output=True, check=False).returncode == 0
    assert (ours(), lab_folders(), Path("/proc/self/net/dev").read_text().count("\n")) == before


# --- rootless ---

NOBODY = 65534
SYSTEM_PYTHON = "/usr/bin/python3"


@pytest.mark.real("rootless")
def test_the_lab_works_without_root(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    arguments = ["-I", "-m", "probe", "lab", "default-deny-drop"]
    command = [sys.executable, *arguments]
    if os.geteuid() == 0:
        # Be nobody, with an environment that nobody can read: ours may lie under a home that is closed.
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        if version not in os.path.realpath(SYSTEM_PYTHON):
            pytest.skip(f"{SYSTEM_PYTHON} is not {version}, the version that the packages here were installed for")
        copy = tmp_path_factory.mktemp("rootless")
        for part in copy, *copy.parents[:2]:
            part.chmod(part.stat().st_mode | 0o055)  # nothing is taken away, sticky bits stay
        subprocess.run([SYSTEM_PYTHON, "-m", "venv", "--without-pip", str(copy / "venv")], check=True)
        library = copy / "venv/lib" / version / "site-packages"
        skipped = shutil.ignore_patterns("*.pth", "mypy*", "ruff*", "hypothesis*", "pip*", "_pytest*")
        shutil.copytree(Path(pytest.__file__).parent.parent, library, ignore=skipped, dirs_exist_ok=True)
        for name in ("probe", "reports", "scenarios"):
            shutil.copytree(root / name, library / name)
        nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        command = [*nobody, str(copy / "venv/bin/python"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "every verdict is the truth" in done.stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel.unprivileged_userns_clone", "0"),
        ("user.max_user_namespaces", "0"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1"),
    ],
)
def test_a_kernel_that_forbids_namespaces_is_one_line_with_the_sysctl(name: str, value: str) -> None:
    line = forbidden(PermissionError(1, "Operation not permitted"), lambda asked: value if asked == name else None)
    assert f"sysctl {name}={value}" in line
    assert "\n" not in line
    assert "sysctl" not in forbidden(PermissionError(1, "Operation not permitted"), lambda asked: None)


def test_a_mistake_inside_comes_out_as_a_mistake() -> None:
    def work() -> None:
        raise UserError("in here")

    with pytest.raises(UserError, match="in here"):
        in_isolation(work)


def test_a_bug_inside_is_no_result(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(RuntimeError, match="without a result"):
        in_isolation(work)
    assert "ZeroDivisionError" in capfd.readouterr().err


@pytest.mark.real("nftables")
def test_rules_that_nft_refuses_are_one_line() -> None:
    world = load_world("default-deny-drop")
    with pytest.raises(UserError, match=r"default-deny-drop.toml: gateway.nft: nft: "):
        play_world(replace(world, gateway=replace(world.gateway, nft="chain {")))


# --- world files ---


def test_a_world_must_say_the_truth_about_every_row() -> None:
    world = replace(
        load_world("no-network"), exit_code=3, truth=(Truth(Verdict.UNPROVEN, family=4), Truth(Verdict.LEAK, host=True))
    )
    six = check("2001:db8::1", n=2)
    report = judge(plan(check(), six), evidence(Record(1, (attempt(),)), Record(2, (attempt(address="2001:db8::1"),))))
    assert misses(world, report) == [
        "s/tcp/[2001:db8::1]:443: the world states no truth for it",
        "no row for the truth verdict=leak host=True",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x", "w.toml:1: not TOML: "),
        ("", "w.toml: id: missing"),
        (
            'id = "v"\ntitle = ""\nshows = ""\nexit_code = 0\ntruth = []\n[policy]\nname = ""\ntext = ""',
            "w.toml: id: 'v' is not the file's name",
        ),
        ('id = "w"\nworld = 1', "w.toml: title: missing"),
    ],
)
def test_mistakes_in_worlds(text: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_world("w.toml", text)
    assert str(caught.value).startswith(line) or "not TOML" in str(caught.value)


def test_a_resolver_that_refuses_all_but_some_names() -> None:
    world: World = load_world("dns-open")
    made = unbound_config(
        replace(world, gateway=replace(world.gateway, resolver="refuse", resolver_allows=("x.test",)))
    )
    assert 'local-zone: "." refuse' in made
    assert 'local-zone: "x.test." transparent' in made
    assert "refuse" not in unbound_config(world)

"""The acceptance tests: every world in real namespaces, against its stated truth; and nothing is left behind."""

import ipaddress
import json
import os
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
from probe.lab.truth import Truth
from probe.lab.world import World, load_world, misses, parse_world, world_names
from probe.model import Action, EnforcerKind, Grade, Outcome, Verdict
from tests.lab.playing import Game, Played
from tests.make import attempt, check, evidence, plan
from tests.make_schema import schema

LAB = [sys.executable, "-I", "-m", "probe", "lab"]
_PARTS = {"seccomp": "seccomp", "landlock": "landlock", "cgroup": "cgroup-bpf"}


def marks(name: str) -> list[pytest.MarkDecorator]:
    world = load_world(name)
    parts = ["namespaces", *(_PARTS[word.partition("-")[0]] for word in world.sandbox.confine)]
    if world.gateway.nft or world.sandbox.nft or (world.middle and world.middle.nft):
        parts.append("nftables")
    if world.gateway.resolver != "none":
        parts.append("unbound")
    if world.internet.collector:
        parts += ["collector", "nsd", "unbound"]
    if world.gateway.dns is not None:
        parts.append(world.gateway.dns.server)
    if world.gateway.proxy:
        parts.append("squid")
    return [pytest.mark.real(part) for part in parts]


@pytest.mark.parametrize("games", [pytest.param((Game(n),), marks=marks(n), id=n) for n in world_names()])
def test_every_verdict_is_the_truth(games: tuple[Game], played: dict[Game, Played]) -> None:
    done = played[games[0]]
    if done.skipped:
        pytest.skip(done.skipped)
    assert done.failed is None
    assert done.misses == ()
    jsonschema.validate(done.report, schema())


@pytest.mark.parametrize("games", [pytest.param((Game("open"),), marks=marks("open"), id="open")])
def test_what_answered_is_not_asked_again(games: tuple[Game], played: dict[Game, Played]) -> None:
    report = played[games[0]].report
    assert report is not None
    again = {
        r["purpose"]
        for r in report["results"]
        if any(a.get("again") and a["step"] != "walk" for a in r["observed"]["attempts"])
    }
    assert again <= {"control", "witness"}


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

    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder, serving(world, Path(folder)) as stage:
        enter(stage.networks.sandbox)
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


def _on_the_wire(address: str | None) -> str | None:
    """Packets to an IPv4-mapped address are IPv4."""
    mapped = ipaddress.IPv6Address(address).ipv4_mapped if address and ":" in address else None
    return str(mapped) if mapped else address


def _destination(frame: bytes) -> str | None:
    """The IP destination, without what keeps a link alive: ARP, neighbour discovery, multicast listener reports."""
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
    listed = {_on_the_wire(check["destination"]["address"]) for check in planned["checks"]}
    # What the plan names symbolically: the system's resolver, and the A and AAAA of the policy's own name.
    symbolic = {"10.99.0.1", "203.0.113.10", "2001:db8:10::10"}
    assert set(captured["went"]) - listed - symbolic == set()
    assert {address for address in listed if address and address not in ("127.0.0.1", "::1")} <= set(captured["went"])
    # The budget counts what we start; acknowledgements and closes come on top, at most as many again and a half.
    assert len(captured["went"]) <= 2.5 * planned["budget"]["packets"]


# --- nothing is left behind ---


def ours(mark: str) -> set[int]:
    """Processes of the lab that was started with this mark in its environment; others may play labs meanwhile."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                marked = f"MARK={mark}".encode() in (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            found |= {int(entry.name)} if marked else set()
    return found


@pytest.mark.real("namespaces")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_lab_that_is_stopped_leaves_no_process(number: int) -> None:
    mark = f"{os.getpid()}-{number}"
    started = subprocess.Popen(
        [*LAB, "dead-sandbox"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MARK": mark},
    )
    for _ in range(400):  # until its servers run: the command, PID 1 and its parent, and more
        if len(ours(mark)) > 3:
            break
        time.sleep(0.05)
    assert len(ours(mark)) > 3
    started.send_signal(number)
    _, err = started.communicate(timeout=20)
    for _ in range(200):  # the kernel ends what is left
        if not ours(mark):
            break
        time.sleep(0.05)
    assert ours(mark) == set()
    assert started.returncode == (3 if number != signal.SIGKILL else -signal.SIGKILL)
    assert "Traceback" not in err


@pytest.mark.real("namespaces")
def test_a_lab_that_ends_leaves_nothing(tmp_path: Path) -> None:
    mark, temporary = f"{os.getpid()}-ends", tmp_path / "tmp"
    temporary.mkdir()
    before = Path("/proc/self/net/dev").read_text().count("\n")
    environment = {**os.environ, "MARK": mark, "TMPDIR": str(temporary)}
    assert subprocess.run([*LAB, "no-network"], capture_output=True, check=False, env=environment).returncode == 0
    assert (ours(mark), list(temporary.iterdir())) == (set(), [])
    assert Path("/proc/self/net/dev").read_text().count("\n") == before


# --- where it cannot work, and mistakes ---


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


def test_a_truth_may_say_what_is_observed() -> None:
    found = Truth(Verdict.CONFORMS, Grade.PROVEN, Outcome.NO_ROUTE, EnforcerKind.ROUTE, declared=Action.DENY)
    world = replace(load_world("no-network"), truth=(found,))
    there = Record(1, (attempt("error", error="ENETUNREACH", stage="connect"),))
    report = judge(plan(check()), evidence(there))
    assert misses(world, report) == []
    other = replace(found, enforcer=EnforcerKind.ROUTER, hop=1, grade=None)
    (line,) = misses(replace(world, truth=(other,)), report)
    assert line.startswith("s/tcp/192.0.2.1:443: conforms (proven), no_route by route at hop 0, but")
    assert line.endswith(" conforms, no_route by router at hop 1")


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
        ('id = "w"\nbase = "none"', "w.toml: base: 'none' is no file of scenarios/worlds/bases"),
        ('id = "w"\nbase = "../open"', "w.toml: base: '../open' is no file of scenarios/worlds/bases"),
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

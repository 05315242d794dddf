"""Real launchers in the lab: how each is prepared, once where it shuts the network and once where it leaves it open.

As a program: NAME VARIANT. Prints the report of a run through it, or why it cannot be run here. Everything happens in
namespaces of its own, and what a launcher writes lies in memory.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from probe import latch
from probe.cli.planning import Request, plan_with
from probe.codec import encode
from probe.evidence import Reader
from probe.farclient import wait_and_read
from probe.judge import Shipped, judge
from probe.lab.namespaces import SCRATCH, in_isolation, inside
from probe.lab.stage import Stage, parse, serving
from probe.lab.world import World, parse_world
from probe.orders import make_orders
from probe.run import run_process
from probe.shipping import archive, cache, ship
from probe.shipping.skill import write as write_skill
from probe.targets import Launch, launch
from probe.tokens import new_key
from tests.sandboxes.rootfs import PYTHON, build

HERE = Path(__file__).parent
NPM = Path(__file__).parent.parent.parent / ".venv" / "npm" / "node_modules" / ".bin"
TMP = Path(SCRATCH, "tmp")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`needs`: programs. `open`, `shut`: target and options; None where the launcher has no such thing (`why` says so)."""

    needs: tuple[str, ...]
    shut: tuple[str, tuple[str, ...]] | None
    open: tuple[str, tuple[str, ...]] | None
    prepare: Callable[[], None] = lambda: None
    tidy: Callable[[], None] = lambda: None
    why: str = ""
    scenarios: tuple[str, ...] = ("far-end", "dns-through-proxy")
    skill: bool = False  # the agent lies there as a skill, and is no part of what is sent
    sees_itself: bool = True  # /proc shows the lab's processes; else the machine's, as if there were no PID namespace


def _tmpfs(*folders: str) -> None:
    for folder in folders:
        if os.path.isdir(folder):
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder], check=True)


def _named_networks() -> None:
    _tmpfs("/run")
    subprocess.run(["ip", "netns", "add", "shut"], check=True)
    Path("/run/netns/open").touch()
    subprocess.run(["mount", "--bind", "/proc/self/ns/net", "/run/netns/open"], check=True)


def _srt() -> None:
    common = {"filesystem": {"denyRead": [], "allowWrite": [], "denyWrite": []}}
    for name, allowed in (("shut", []), ("open", ["*.exfil.example"])):
        network = {"allowedDomains": allowed, "deniedDomains": []}
        (TMP / f"{name}.json").write_text(json.dumps({"network": network, **common}))


def _codex() -> None:
    # Below the temporary directory Codex cannot start its sandbox.
    home = Path(SCRATCH, "codex")
    home.mkdir()
    os.environ["CODEX_HOME"] = str(home)


_CGROUP = f"egress-probe-test-{os.getpid()}"


def podman() -> None:
    _tmpfs("/run", "/var/lib", "/var/tmp")  # noqa: S108 - covered, not written to
    root, conf = TMP / "rootfs", TMP / "containers.conf"
    build(root)
    runc = shutil.which("runc", path=os.environ["PATH"])
    conf.write_text(
        f'[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"\n[engine.runtimes]\nrunc = ["{runc}"]\n'
    )
    os.environ["CONTAINERS_CONF"] = str(conf)
    with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(
            ["podman", "import", "-q", "-", "localhost/box:1"], stdin=tar.stdout, check=True, capture_output=True
        )


SLEEP = ("python3", "-I", "-c", "import time; time.sleep(600)")


def _skill() -> None:
    podman()
    write_skill(TMP / "skill")


def _podman_exec() -> None:
    podman()
    for name, network in (("shut", "none"), ("open", "host")):
        common = (
            "run",
            "-d",
            "--rm",
            *IN_A_GROUP,
            "--cap-drop",
            "all",
            "--read-only",
            "--network",
            network,
            "--name",
            name,
        )
        subprocess.run(["podman", *common, "localhost/box:1", *SLEEP], check=True, capture_output=True)


def _docker() -> None:
    """A daemon of our own in the sandbox's namespace: its bridge and its rules are there, and gone with it."""
    _tmpfs("/run", "/var/lib", "/etc/docker")
    os.environ["DOCKER_HOST"] = "unix:///run/docker.sock"
    daemon = subprocess.Popen(
        ["dockerd", "--data-root", "/var/lib/docker", "--exec-root", "/run/docker", "-H", os.environ["DOCKER_HOST"],
         "-p", "/run/dockerd.pid", "--bip", "172.31.99.1/24", "--storage-driver", "overlay2", "--cgroup-parent", f"/{_CGROUP}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for _ in range(300):
        if daemon.poll() is None and Path("/run/docker.sock").exists():
            break
        time.sleep(0.1)
    build(TMP / "rootfs")
    with subprocess.Popen(["tar", "-C", str(TMP / "rootfs"), "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(["docker", "import", "-", "box:1"], stdin=tar.stdout, check=True, capture_output=True)


def _docker_tidy() -> None:
    pid = int(Path("/run/dockerd.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)
    _groups_tidy()


def podman_tidy() -> None:
    subprocess.run(["podman", "rm", "-f", "-a", "-t", "0"], check=False, capture_output=True)
    _groups_tidy()


def _groups_tidy() -> None:
    """Control groups outlive the namespaces that they were made in: these are ours by their name."""
    for _ in range(50):
        try:
            left = sorted(Path("/sys/fs/cgroup").glob(f"**/{_CGROUP}*"), reverse=True)
        except FileNotFoundError:  # somebody else's was removed while it was looked into
            continue
        for folder in [each for one in left for each in (*sorted(one.glob("**/"), reverse=True), one)]:
            with suppress(OSError):
                folder.rmdir()
        if not left:
            return
        time.sleep(0.1)


IN_A_GROUP = ("--cgroup-parent", f"/{_CGROUP}")
_SKILL = (*IN_A_GROUP, "--user", "1000", "--cap-drop", "all", "--read-only", "-v", f"{TMP}/skill:/skill:ro")
_BWRAP = tuple("--ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --unshare-all --share-net --new-session".split())
_CODEX_OPEN = ("-c", 'sandbox_mode="workspace-write"', "-c", "sandbox_workspace_write.network_access=true")
_MINIMAL = tuple(
    "--ro-bind /usr /usr --symlink usr/lib /lib --symlink usr/lib64 /lib64 --symlink usr/bin /bin --unshare-all --clearenv".split()
)

SANDBOXES: dict[str, Sandbox] = {
    # No sandbox at all: what the others are compared with.
    "env": Sandbox(("env",), None, ("env", ()), why="it shuts nothing"),
    "bwrap": Sandbox(("bwrap",), ("bwrap", ()), ("bwrap", _BWRAP)),
    # Neither /proc nor /etc nor /tmp.
    "bwrap-minimal": Sandbox(("bwrap",), ("bwrap", _MINIMAL), None, why="it is one more way to shut"),
    "unshare": Sandbox(("unshare",), ("unshare", ()), ("unshare", ("--uts",))),
    "netns": Sandbox(("ip",), ("netns:shut", ()), ("netns:open", ()), _named_networks),
    "srt": Sandbox(("srt", "bwrap", "socat", "rg"), (f"srt:{TMP}/shut.json", ()), (f"srt:{TMP}/open.json", ()), _srt),
    "codex": Sandbox(("codex",), ("codex", ()), ("codex", _CODEX_OPEN), _codex),
    # With every scenario: there all of them must be answered without an event loop.
    "codex-all": Sandbox(("codex",), ("codex", ()), None, _codex, why="the other one is played open", scenarios=()),
    "podman": Sandbox(
        ("podman", "runc"),
        ("podman-image:localhost/box:1", (*IN_A_GROUP, "--network", "none", "--read-only")),
        ("podman-image:localhost/box:1", (*IN_A_GROUP, "--network", "host", "--user", "1000")),
        podman,
        podman_tidy,
    ),
    "podman-exec": Sandbox(
        ("podman", "runc"), ("podman:shut", ()), ("podman:open", ("--user", "1000")), _podman_exec, podman_tidy
    ),
    # As OpenClaw's sandbox: Debian with python3, user `sandbox`, no capability, a read-only copy of the skill.
    "openclaw-skill": Sandbox(
        ("podman", "runc"),
        ("podman-image:localhost/box:1", (*_SKILL, "--network", "none")),
        ("podman-image:localhost/box:1", (*_SKILL, "--network", "host")),
        _skill,
        podman_tidy,
        skill=True,
    ),
    "docker": Sandbox(
        ("dockerd", "docker", "containerd", "runc"),
        ("docker-image:box:1", ("--network", "none", "--cap-drop", "all", "--read-only")),
        ("docker-image:box:1", ("--network", "host", "--user", "1000")),
        _docker,
        _docker_tidy,
    ),
    "gvisor": Sandbox(
        ("runsc",), ("gvisor", ("--ignore-cgroups", "--root", f"{SCRATCH}/runsc", "--network=none")), None,
        why="`runsc do` makes a network of its own, which has no way out of a namespace without an uplink",
    ),
    "firejail": Sandbox(("firejail",), ("firejail", ()), ("firejail", ("--noprofile",)), sees_itself=False),
    # In a PID namespace it believes to be in a sandbox already, and starts the agent without any, and without a word.
    "firejail-nested": Sandbox(("firejail",), None, ("firejail", ()), why="it does not shut anything there"),
}  # fmt: skip


def cannot(name: str) -> str | None:
    """Why this one cannot be run here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [program for program in SANDBOXES[name].needs if not shutil.which(program, path=_path())]
    return f"{', '.join(missing)} not installed" if missing else None


def _path() -> str:
    return f"{NPM}:{os.environ['PATH']}:/usr/sbin:/sbin"


def world() -> World:
    """An open network with a collector."""
    return parse_world("world.toml", (HERE / "world.toml").read_text())


def into_own_folders() -> None:
    """What is not inherited cannot be asked for: proxies of whoever runs the tests, and their files."""
    for word in [word for word in os.environ if word.lower().endswith("_proxy")]:
        del os.environ[word]
    home = Path(SCRATCH, "home")
    for folder in (TMP, home):
        folder.mkdir()
    os.environ.update(PATH=_path(), TMPDIR=str(TMP), HOME=str(home))
    os.chdir(home)


def played(name: str, variant: str) -> Any:
    """The report, as plain JSON, and seconds to the first line of evidence. Runs inside in_isolation()."""
    sandbox = SANDBOXES[name]
    chosen = sandbox.open if variant == "open" else sandbox.shut
    assert chosen is not None
    into_own_folders()
    with (
        tempfile.TemporaryDirectory(dir=SCRATCH) as folder,
        serving(world(), Path(folder)) as stage,
        inside(stage.networks.sandbox),
    ):
        if sandbox.sees_itself:
            subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
        sandbox.prepare()
        try:
            return _run(stage, *chosen, sandbox)
        finally:
            sandbox.tidy()


def _run(stage: Stage, target: str, options: Sequence[str], sandbox: Sandbox) -> Any:
    assert stage.far is not None
    far, client = stage.far
    request = Request(scenarios=sandbox.scenarios, collector=far, walk=False, deadline=0.5)
    plan = plan_with(parse(world()), request, default_witness=False)
    archive.build()
    key, reader, times = new_key(), Reader(plan), [time.monotonic()]
    with inside(stage.networks.internet):
        client.register(plan.run_id, key, plan.budget.seconds + 60)
    orders = make_orders(plan, key, latch.from_environment(os.environ))

    def sink(line: str) -> bool:
        times.append(time.monotonic())
        return reader.feed(line)

    launcher = Launch(("env",)) if target == "env" else launch(target, options)
    inside_words = ("python3", "-I", "-B", "/skill/agent", "agent") if sandbox.skill else ship.argv(PYTHON)
    command = launcher.command(inside_words)
    ended = trio.run(run_process, command, orders, sink, b"" if sandbox.skill else ship.payload(cache.get()))
    reader.explain(ended.problem())
    with inside(stage.networks.internet):
        seen = wait_and_read(client, key, 3.0)
    report = judge(plan, reader.done(), far=seen, shipped=Shipped(target, archive.build().sha256))
    return {
        "report": encode(report),
        "first": times[1] - times[0] if len(times) > 1 else None,
        "said": ended.said[-500:],
    }


def play(name: str, variant: str) -> dict[str, Any]:
    """As `played`, in a process and namespaces of its own; or `skipped` with a reason."""
    problem = cannot(name)
    if problem is not None:
        return {"skipped": problem}
    command = [sys.executable, "-m", "tests.sandboxes.real", name, variant]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return (
        dict(json.loads(done.stdout)) if done.returncode == 0 else {"failed": done.stdout[-2000:] + done.stderr[-4000:]}
    )


if __name__ == "__main__":
    print(json.dumps(in_isolation(lambda: played(sys.argv[1], sys.argv[2]))))

"""Who runs it changes nothing: root, a user without capabilities, and a user namespace give the same verdicts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.playing import Game, play_all

NOBODY = 65534
SYSTEM_PYTHON = "/usr/bin/python3"
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter with our packages that every user can read: ours may lie under a home that is closed."""
    if os.geteuid() != 0:
        return sys.executable
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
        shutil.copytree(Path(__file__).parents[2] / name, library / name)
    return str(copy / "venv/bin/python")


@pytest.mark.real("rootless")
def test_the_lab_works_without_root(python: str) -> None:
    before = AS_NOBODY if os.geteuid() == 0 else ()
    command = [*before, python, "-I", "-m", "probe", "lab", "kind-output-reject"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "every verdict is the truth" in done.stdout


@pytest.mark.real("rootless")
def test_real_servers_work_without_root(python: str) -> None:
    """Each would change its user or its groups, which is impossible where uid 0 alone is mapped."""
    before = AS_NOBODY if os.geteuid() == 0 else ()
    names = ("dns-unbound-refuse", "dns-bind-rpz-no-wait", "dns-dnsmasq-allow-list", "dns-through-proxy")
    for game, done in play_all([Game(name, python=(*before, python)) for name in names]).items():
        assert done.failed is None, game.name
        assert done.misses == (), game.name


@pytest.mark.real("rootless")
@pytest.mark.skipif(os.geteuid() != 0, reason="compares root with the others")
def test_who_runs_it_changes_no_verdict(python: str) -> None:
    names = ("kind-gateway-drop", "kind-output-reject", "kind-seccomp-socket")
    who = {
        "root": {"python": (python,)},
        "nobody": {"python": (python,), "words": (f"uid={NOBODY}",)},
        "rootless": {"python": (*AS_NOBODY, python)},
    }
    games = {(name, user): Game(name, **how) for name in names for user, how in who.items()}  # type: ignore[arg-type]
    done = play_all(list(games.values()))
    for name in names:
        root, nobody, rootless = (done[games[name, user]] for user in who)
        assert nobody.verdicts() == root.verdicts()
        assert rootless.verdicts() == root.verdicts()
        assert nobody.report is not None
        assert nobody.report["run"]["vantage"]["uid"] == NOBODY
        assert nobody.report["run"]["vantage"].get("capabilities", []) == []


@pytest.mark.real("rootless")
def test_a_world_that_needs_root_says_so(python: str) -> None:
    before = AS_NOBODY if os.geteuid() == 0 else ()
    command = [*before, python, "-I", "-m", "probe", "lab", "kind-cgroup-connect"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 3
    assert done.stdout == "Lab: kind-cgroup-connect: skipped: cgroup-connect needs root\n"

"""The archive: the same bytes again, nothing but what is needed, and nothing of the working directory gets in."""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from probe.codec import to_line
from probe.documents import Order, Orders, Settings
from probe.model import Destination
from probe.shipping import archive, cache, ship

ORDERS = Orders(
    "egress-probe.orders/1",
    "01J00000000000000000000000",
    Settings(deadline=0.2, walk=False),
    40,
    (Order(1, "tcp_connect", Destination(None, "127.0.0.1", 9), "token"),),
    seconds=20.0,
)
LINE = (to_line(ORDERS) + "\n").encode()
HOSTILE = "import sys\nsys.stdout.write('hostile\\n')\nraise SystemExit(99)\n"
# What an attacker would put where we run, or into PYTHONPATH: our own names, libraries', the standard library's.
NAMES = (
    "probe",
    "reports",
    "trio",
    "attrs",
    "argparse",
    "dataclasses",
    "json",
    "socket",
    "sitecustomize",
    "usercustomize",
)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A working directory where everything that may be imported is somebody else's."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(HOSTILE)
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder), "PYTHONSTARTUP": str(folder / "probe.py"), "PYTHONHOME": ""}


def lines(done: "subprocess.CompletedProcess[bytes]") -> list[dict[str, object]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_evidence(done: "subprocess.CompletedProcess[bytes]") -> None:
    assert [line["kind"] for line in lines(done)] == ["start", "calibration", "record", "end"]
    assert lines(done)[-1]["complete"] is True


def test_the_same_bytes_again(tmp_path: Path) -> None:
    """In other processes, with other hash seeds, from another place, and after other imports."""
    code = "{}\nfrom probe.shipping import archive\nprint(archive.build().sha256)"
    made = {
        subprocess.run(
            [sys.executable, "-c", code.format(before)],
            capture_output=True, text=True, check=True, cwd=tmp_path, env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed, before in (("0", ""), ("1", "import dns.message, trio.testing, json, hypothesis"), ("77", "x = ['probe', 'walk']"))
    }  # fmt: skip
    assert made == {archive.build().sha256 + "\n"}


def test_it_holds_what_is_needed_and_no_more() -> None:
    names = zipfile.ZipFile(io.BytesIO(archive.build().data)).namelist()
    assert len(set(names)) == len(names)
    packages = {name.partition("/")[0] for name in names}
    assert packages == {"__main__.py", "LIBRARIES", "probe", "trio", "attr", "attrs", "outcome", "sniffio", "sortedcontainers",
                        "idna", "cattrs", "typing_extensions.py", "typing_extensions.pyc", "dns"}  # fmt: skip
    ours = {name for name in names if name.startswith("probe/") and name.endswith(".py")}
    assert not [
        name
        for name in ours
        if any(word in name for word in ("/cli/", "/lab/", "/collector/", "policies", "judge", "plan", "verdicts"))
    ]
    assert "probe/techniques/raw_syn.py" in ours
    assert not [name for name in names if "tests/" in name]
    assert all(name.endswith((".py", ".pyc")) for name in set(names) - {"LIBRARIES"})
    assert len(archive.build().data) <= 2.5e6


def test_every_module_of_it_can_be_imported_without_anything_else(tmp_path: Path) -> None:
    """`-S`: no site-packages. What only another system has may be missing."""
    path = tmp_path / "agent.pyz"
    path.write_bytes(archive.build().zipapp)
    code = f"""
import importlib, sys
sys.path.insert(0, {str(path)!r})
import zipfile
names = [n[:-3].replace("/", ".").removesuffix(".__init__") for n in zipfile.ZipFile({str(path)!r}).namelist() if n.endswith(".py")]
for name in names:
    if name.startswith(("probe", "trio._core._run", "cattrs", "dns.message", "dns.rdtypes")):
        importlib.import_module(name)
assert not [n for n in sys.modules if n.partition(".")[0] in ("scapy", "click", "json5", "pyroute2", "tabulate")]
"""
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, cwd=tmp_path)


@pytest.mark.parametrize("flags", [["-I"], ["-I", "-S"]])
def test_as_a_file(hostile: Path, flags: list[str]) -> None:
    path = hostile / "agent.pyz"
    path.write_bytes(archive.build().zipapp)
    done = subprocess.run(
        [sys.executable, *flags, str(path), "agent"],
        input=LINE, capture_output=True, check=False, cwd=hostile, env=environment(hostile),
    )  # fmt: skip
    assert_evidence(done)
    assert not list(hostile.glob("**/__pycache__"))


def test_through_stdin(hostile: Path) -> None:
    done = subprocess.run(
        [sys.executable, *ship.argv()[1:]],
        input=ship.payload(cache.get()) + LINE, capture_output=True, check=False, cwd=hostile, env=environment(hostile),
    )  # fmt: skip
    assert_evidence(done)
    assert not list(hostile.glob("**/__pycache__"))


def test_it_writes_nothing_even_where_it_could(tmp_path: Path) -> None:
    """As where a standard library has no caches, which Python would fill."""
    caches = tmp_path / "cache"
    caches.mkdir()
    words = [sys.executable, "-X", f"pycache_prefix={caches}", *ship.argv()[1:]]
    assert_evidence(subprocess.run(words, input=ship.payload(cache.get()) + LINE, capture_output=True, check=False))
    assert list(caches.iterdir()) == []


def test_from_sources_where_the_python_is_another(hostile: Path) -> None:
    """The `.pyc` of another version is passed over: the magic number is not ours."""
    loader = Path(ship.__file__).with_name("loader.py").read_bytes().replace(b"importlib.util.MAGIC_NUMBER", b"b'none'")
    zipped = archive.build().data
    other = b"%d\n%b%d\n%b" % (len(loader), loader, len(zipped), zipped)
    done = subprocess.run(
        [sys.executable, *ship.argv()[1:]], input=other + LINE, capture_output=True, check=False, cwd=hostile
    )
    assert_evidence(done)


@pytest.mark.parametrize("words", [["agent"], ["-I"], ["-I", "other"]])
def test_it_runs_isolated_or_not_at_all(tmp_path: Path, words: list[str]) -> None:
    path = tmp_path / "agent.pyz"
    path.write_bytes(archive.build().zipapp)
    flags = [word for word in words if word.startswith("-")]
    rest = [word for word in words if not word.startswith("-")]
    done = subprocess.run(
        [sys.executable, *flags, str(path), *rest], capture_output=True, text=True, check=False, input=""
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"egress-probe: run it as: python3 -I {path} agent < ORDERS\n"


def test_the_boot_line_survives_shells() -> None:
    assert not set(ship.BOOT) & set("'\"$`\\\n!*?~#&|<>")

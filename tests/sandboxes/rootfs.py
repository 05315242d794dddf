"""A root file system from the host's own Python and what it links to: no network, no image of somebody's."""

import os
import re
import shutil
import subprocess
from pathlib import Path

PYTHON = "/usr/bin/python3"
_LEFT_OUT = shutil.ignore_patterns(
    "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "config-*", "dist-packages", "site-packages",
    "__pycache__", "pydoc_data",
)  # fmt: skip


def build(root: Path) -> None:
    """Into an empty folder. As Debian's slim images with python3: merged /usr, a user `sandbox`."""
    real = os.path.realpath(PYTHON)
    asked = "import sysconfig as s; print(s.get_path('stdlib'))"
    stdlib = subprocess.run([real, "-I", "-c", asked], check=True, capture_output=True, text=True).stdout.strip()
    for folder in ("usr/bin", "usr/lib", "usr/lib64", "etc", "tmp", "proc", "sys", "dev", "root", "run", "var"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    for link in ("bin", "lib", "lib64"):
        (root / link).symlink_to(f"usr/{link}")
    shutil.copytree(stdlib, root / stdlib.lstrip("/"), ignore=_LEFT_OUT)
    shutil.copy2(real, root / real.lstrip("/"))
    (root / "usr/bin/python3").symlink_to(os.path.basename(real))
    extensions = map(str, Path(stdlib, "lib-dynload").glob("*.so"))
    for library in {found for binary in (real, *extensions) for found in _linked(binary)}:
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy2(os.path.realpath(library), target)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/false\nsandbox:x:1000:1000::/tmp:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nsandbox:x:1000:\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")


def _linked(binary: str) -> list[str]:
    return re.findall(r"(/\S+)", subprocess.run(["ldd", binary], capture_output=True, text=True, check=False).stdout)

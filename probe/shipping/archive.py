"""The agent as one archive: our own modules that it needs and the libraries under them, pure Python throughout.

The same sources and the same Python give the same bytes: names are sorted, times fixed, code is marshalled without
references (which depend on what else this process has seen). A `.pyc` lies beside each source for this Python; another
version reads the sources.
"""

import ast
import functools
import hashlib
import importlib.util
import io
import marshal
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from probe.techniques import TECHNIQUES

_OWN = ("probe.agent", "probe.phases", "probe.loopless", *(f"probe.techniques.{name}" for name in TECHNIQUES))
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say
_MODE = 0o644 << 16
_SHEBANG = b"#!/usr/bin/env -S python3 -I\n"


@dataclass(frozen=True, slots=True)
class Library:
    """A package that the agent imports. `without`: parts of it that nothing here imports."""

    distribution: str
    package: str
    without: tuple[str, ...] = ()


# What trio, cattrs and dnspython import when they are imported as the agent does; `make` has a test that runs without
# everything else. dnspython's record types are loaded by name when an answer has one.
LIBRARIES = (
    Library("trio", "trio", ("_tests/", "_core/_tests/", "_tools/", "testing/", "__main__.py", "_repl.py",
                             "_core/_io_windows.py", "_core/_windows_cffi.py", "_core/_io_kqueue.py")),
    Library("attrs", "attr"),
    Library("attrs", "attrs"),
    Library("outcome", "outcome"),
    Library("sniffio", "sniffio", ("_tests/",)),
    Library("sortedcontainers", "sortedcontainers"),
    Library("idna", "idna", ("cli.py", "__main__.py")),
    Library("cattrs", "cattrs", ("preconf/",)),
    Library("typing_extensions", "typing_extensions.py"),
    Library("dnspython", "dns", (
        "quic/", "dnssecalgs/", "query.py", "asyncquery.py", "resolver.py", "asyncresolver.py", "nameserver.py",
        "zonefile.py", "versioned.py", "btree.py", "btreezone.py", "xfr.py", "dnssec.py", "_asyncio_backend.py",
        "_trio_backend.py", "_asyncbackend.py", "asyncbackend.py", "win32util.py", "zone.py", "_ddr.py", "e164.py",
    )),
)  # fmt: skip

MAIN = '''"""Run as `python3 -I FILE agent`: one line of orders on stdin, evidence lines on stdout."""

import sys

if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit("egress-probe: Python 3.11 or newer is needed, this is %d.%d" % sys.version_info[:2])
    if not sys.flags.isolated or sys.argv[1:] != ["agent"]:
        # Without -I a file in the working directory, or PYTHONPATH, could stand in for any module.
        print("egress-probe: run it as: python3 -I %s agent < ORDERS" % sys.argv[0], file=sys.stderr)
        sys.exit(2)
    sys.dont_write_bytecode = True
    from probe.agent import main

    sys.exit(main())
'''


@dataclass(frozen=True, slots=True)
class Archive:
    """`data`: a zip. `sha256`: of it, in hex."""

    data: bytes
    sha256: str

    @property
    def zipapp(self) -> bytes:
        """The same as a file that can be run."""
        return _SHEBANG + self.data


@functools.cache
def build() -> Archive:
    """The archive of this installation."""
    sources = dict(files())
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped:
        for name in sorted(sources):
            _add(zipped, name, sources[name])
            if name.endswith(".py") and name != "__main__.py":
                _add(zipped, f"{name}c", compiled(name, sources[name]))
    data = packed.getvalue()
    return Archive(data, hashlib.sha256(data).hexdigest())


def _add(zipped: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, _MODE
    zipped.writestr(entry, data)


def compiled(name: str, source: bytes) -> bytes:
    """What belongs into `name`c: code that is not checked against its source (PEP 552: hash-based, unchecked)."""
    code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source)
    # Version 2 of marshal writes no references: which ones there are depends on this process, not on the source.
    return head + marshal.dumps(code, 2)


def files() -> Iterator[tuple[str, bytes]]:
    """Every file of the archive: its path in it, and its bytes."""
    yield "__main__.py", MAIN.encode()
    bundled = sorted({library.distribution for library in LIBRARIES})
    yield "LIBRARIES", "".join(f"{name} {version(name)}\n" for name in bundled).encode()
    for module in sorted(own_modules()):
        path = _path_of(module)
        yield module.replace(".", "/") + ("/__init__.py" if path.name == "__init__.py" else ".py"), path.read_bytes()
    for library in LIBRARIES:
        yield from _files_of(library)


def _files_of(library: Library) -> Iterator[tuple[str, bytes]]:
    origin = _origin(library)
    if library.package.endswith(".py"):
        yield library.package, origin.read_bytes()
        return
    for path in sorted(origin.parent.rglob("*.py")):
        inside = path.relative_to(origin.parent).as_posix()
        if not inside.startswith(library.without):
            yield f"{library.package}/{inside}", path.read_bytes()


def _origin(library: Library) -> Path:
    found = importlib.util.find_spec(library.package.removesuffix(".py"))
    assert found is not None
    assert found.origin is not None
    return Path(found.origin)


def sources() -> Iterator[Path]:
    """Every file that may be in the archive, and a few more: what it is made of."""
    yield from sorted((_root() / "probe").rglob("*.py"))
    for library in LIBRARIES:
        origin = _origin(library)
        yield from [origin] if library.package.endswith(".py") else sorted(origin.parent.rglob("*.py"))


def own_modules(roots: Iterable[str] = _OWN) -> frozenset[str]:
    """Our own modules that the roots import, wherever in their text they do."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += _imported(module)
    return frozenset(found)


def _imported(module: str) -> Iterator[str]:
    parent = module.rpartition(".")[0]
    if parent:
        yield parent
    for node in ast.walk(ast.parse(_path_of(module).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "probe")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "probe":
            assert node.module is not None
            yield node.module
            yield from (name for alias in node.names if _is_module(name := f"{node.module}.{alias.name}"))


def _is_module(name: str) -> bool:
    return _path_of(name).is_file()


def _path_of(module: str) -> Path:
    plain = _root() / (module.replace(".", "/") + ".py")
    return plain if plain.is_file() else _root() / module.replace(".", "/") / "__init__.py"


def _root() -> Path:
    """Where the package `probe` lies."""
    return Path(__file__).parent.parent.parent

"""Runs first inside: reads the archive from stdin and imports from memory. Standard library only; nothing is written.

It is sent as text, and run by the boot line with `b`, the binary stdin. What follows on stdin: the archive's length in
one line, the archive, one line of orders.
"""

import importlib.abc
import importlib.util
import io
import marshal
import struct
import sys
import zipfile
import zlib

if sys.version_info < (3, 11):
    sys.exit("egress-probe: Python 3.11 or newer is needed in the sandbox, this is %d.%d" % sys.version_info[:2])


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules out of a zip in memory, before all others."""

    def __init__(self, data):
        self._data = data
        self._names = {entry.filename: entry for entry in zipfile.ZipFile(io.BytesIO(data)).infolist()}

    def find_spec(self, fullname, path=None, target=None):
        plain = fullname.replace(".", "/")
        for name, is_package in ((plain + "/__init__.py", True), (plain + ".py", False)):
            if name in self._names:
                return importlib.util.spec_from_loader(
                    fullname, self, origin="egress-probe/" + name, is_package=is_package
                )
        return None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102 - that is what a loader does

    def get_code(self, fullname):
        name = self._name(fullname)
        if name + "c" in self._names:
            data = self._read(name + "c")
            if data[:4] == importlib.util.MAGIC_NUMBER:
                return marshal.loads(data[16:])
        return compile(self._read(name), name, "exec", dont_inherit=True)

    def get_source(self, fullname):
        return self._read(self._name(fullname)).decode()

    def is_package(self, fullname):
        return self._name(fullname).endswith("/__init__.py")

    def _read(self, name):
        # Not by ZipFile.read: it costs more than all else that an import does.
        entry = self._names[name]
        at = entry.header_offset
        at += 30 + sum(struct.unpack_from("<HH", self._data, at + 26))
        return zlib.decompress(self._data[at : at + entry.compress_size], -15)

    def _name(self, fullname):
        plain = fullname.replace(".", "/")
        return plain + "/__init__.py" if plain + "/__init__.py" in self._names else plain + ".py"


sys.meta_path.insert(0, Finder(b.read(int(b.readline()))))  # noqa: F821 - the boot line's

from probe.agent import main  # noqa: E402 - from the archive

sys.exit(main())

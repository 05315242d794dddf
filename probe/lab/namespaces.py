"""The walls: a process tree in namespaces of its own, that leaves nothing behind however it ends.

The tree's first process is PID 1 of a PID namespace and dies with its parent (PR_SET_PDEATHSIG): the kernel then ends
everything in it, and with the last process go the network namespaces. Nothing has a name outside, so there is nothing
to clean up.
"""

import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from probe.errors import UserError

_NEWNS, _NEWUSER, _NEWPID, _NEWNET = 0x00020000, 0x10000000, 0x20000000, 0x40000000
_MS_REC, _MS_PRIVATE, _MS_BIND = 16384, 1 << 18, 4096
_PDEATHSIG = 1

# A folder that every distribution has and no interpreter lives in (FHS 3.0: a mount point for the moment).
SCRATCH = "/mnt"
# Where shm_open(3) makes files: what a killed server left there would outlive the lab.
_SHARED = "/dev/shm"  # noqa: S108 - it is covered, not written to

_libc = ctypes.CDLL(None, use_errno=True)

# What forbids an unprivileged user namespace, with the value that does.
_SYSCTLS = (
    ("kernel.unprivileged_userns_clone", "0"),
    ("user.max_user_namespaces", "0"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1"),
)


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def in_isolation(work: Callable[[], Any]) -> Any:
    """`work()` in fresh user (where needed), mount, PID and network namespaces; its result, which must be plain JSON.

    Raises UserError where the kernel forbids it, and what `work` raised as UserError. On Ctrl-C or SIGTERM everything
    in there is ended first.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _outer(work, writing)
    os.close(writing)
    with _terminated_like_interrupted(), open(reading, encoding="utf-8") as answer:
        try:
            text = answer.read()
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return _result(text)


def _result(text: str) -> Any:
    if not text:
        raise RuntimeError("the lab's own process ended without a result")
    answer = json.loads(text)
    if "error" in answer:
        raise UserError(answer["error"])
    return answer["result"]


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _outer(work: Callable[[], Any], writing: int) -> NoReturn:
    """The parent of PID 1: it only lives to be killed, and to take its child with it."""
    status = 1
    try:
        _call("prctl", _PDEATHSIG, signal.SIGKILL)
        # Ctrl-C reaches the whole group; the parent decides.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _unshare()
        inner = os.fork()
        if inner == 0:
            _inner(work, writing)
        os.close(writing)
        status = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
    except UserError as error:
        _write(writing, {"error": str(error)})
    finally:
        os._exit(abs(status))


def _inner(work: Callable[[], Any], writing: int) -> NoReturn:
    try:
        _call("prctl", _PDEATHSIG, signal.SIGKILL)
        try:
            _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
            # What the lab writes lies in memory, and is gone with the last process.
            for folder in filter(os.path.isdir, (SCRATCH, _SHARED)):
                _call("mount", b"tmpfs", folder.encode(), b"tmpfs", 0, None)
        except OSError as error:
            raise UserError(forbidden(error)) from None
        _write(writing, {"result": work()})
        os._exit(0)
    except UserError as error:
        _write(writing, {"error": str(error)})
        os._exit(0)
    except BaseException:  # noqa: BLE001 - a bug: told here, since nobody above this frame would
        traceback.print_exc()
    finally:
        os._exit(1)


def _write(writing: int, answer: dict[str, Any]) -> None:
    with open(writing, "w", encoding="utf-8") as file:
        json.dump(answer, file)


def _unshare() -> None:
    """As root without a user namespace; else, or where root may not, with one."""
    spaces = _NEWNS | _NEWPID | _NEWNET
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        with suppress(OSError):
            return _call("unshare", spaces)
    try:
        _call("unshare", spaces | _NEWUSER)
        _map("setgroups", "deny")
        _map("uid_map", f"0 {uid} 1")
        _map("gid_map", f"0 {gid} 1")
    except OSError as error:
        raise UserError(forbidden(error)) from None


def _map(name: str, text: str) -> None:
    with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
        file.write(text)


def forbidden(error: OSError, read: Callable[[str], str | None] | None = None) -> str:
    """One line that names the sysctl which forbids user namespaces, if one does."""
    read = read or _sysctl
    for name, value in _SYSCTLS:
        if read(name) == value:
            return f"lab: this kernel forbids user namespaces: sysctl {name}={value} (run as root, or change it)"
    return f"lab: namespaces cannot be made: {error.strerror} (run as root, or where user namespaces are allowed)"


def _sysctl(name: str) -> str | None:
    try:
        with open(f"/proc/sys/{name.replace('.', '/')}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


# --- network namespaces -----------------------------------------------------------------------------------------------


def new_network() -> int:
    """A fresh network namespace as a file descriptor; this process stays where it was."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", _NEWNET)
        return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        enter(home)
        os.close(home)


def enter(network: int) -> None:
    """Move this process into a network namespace. Children that it starts are born there."""
    _call("setns", network, _NEWNET)


@contextmanager
def inside(network: int) -> Iterator[None]:
    """Be in `network` for a while."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(network)
        yield
    finally:
        enter(home)
        os.close(home)


def bind_mount(source: str, target: str) -> None:
    """`source` over `target`, seen only in this mount namespace."""
    _call("mount", source.encode(), os.path.realpath(target).encode(), None, _MS_BIND, None)

"""What confines a process by itself: `python -I -m probe.lab.confine WORD… -- COMMAND…` applies each word, then execs.

A launcher, so that the agent is started as any sandbox would start it. It only ever takes rights away, from itself.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable, Sequence

from probe.errors import UserError
from probe.lab import cgroup_bpf

# asm/unistd.h and linux/audit.h of the two machines that we know.
_MACHINES = {
    "x86_64": {"socket": 41, "connect": 42, "setsockopt": 54, "AUDIT_ARCH": 0xC000003E},
    "aarch64": {"socket": 198, "connect": 203, "setsockopt": 208, "AUDIT_ARCH": 0xC00000B7},
}
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_NO_NEW_PRIVS, _SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_CONNECT_TCP, _RULE_NET_PORT = 1 << 1, 2
_LANDLOCK_TCP_ABI = 4
# Bits of CapEff (capabilities(7)).
_SETGID, _SETUID, _NET_ADMIN, _SYS_ADMIN = 6, 7, 12, 21

_libc = ctypes.CDLL(None, use_errno=True)


def _called(what: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def _no_new_privileges() -> None:
    _called("prctl", _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))


# --- seccomp(2) -------------------------------------------------------------------------------------------------------

# Classic BPF (linux/filter.h): load a word, jump if equal, return.
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
# struct seccomp_data: nr, arch, and the low half of the first argument on a little-endian machine.
_NR, _ARCH, _FIRST = 0, 4, 16
_INET = (2, 10)  # AF_INET, AF_INET6


def seccomp_program(call: str, families: Sequence[int], error: int) -> bytes:
    """Instructions that fail `call` (a name in _MACHINES) with `error`; of socket(), only for `families` if any."""
    numbers = _MACHINES[platform.machine()]
    # Jumps count the instructions that are skipped; the last two are "allow" and "fail".
    body = [(_LOAD, _FIRST), *((_EQUAL, family) for family in families)] if families else []
    program = [(_LOAD, _ARCH), (_EQUAL, numbers["AUDIT_ARCH"]), (_LOAD, _NR), (_EQUAL, numbers[call]), *body]
    allow, packed = len(program), []
    for place, (code, value) in enumerate(program):
        last = place == len(program) - 1
        to_allow, to_fail = allow - place - 1, allow - place
        true = to_fail if last or place >= 5 else 0
        false = 0 if place >= 5 and not last else to_allow
        packed.append(struct.pack("HBBI", code, *((true, false) if code == _EQUAL else (0, 0)), value))
    packed += [struct.pack("HBBI", _RETURN, 0, 0, value) for value in (_ALLOW, _ERRNO | error)]
    return b"".join(packed)


def _seccomp(call: str, families: Sequence[int]) -> Callable[[str], None]:
    def apply(error: str) -> None:
        instructions = ctypes.create_string_buffer(seccomp_program(call, families, getattr(errno, error)))
        program = struct.pack("HxxxxxxP", (len(instructions) - 1) // 8, ctypes.addressof(instructions))
        _no_new_privileges()
        _called("seccomp", _libc.prctl(_SET_SECCOMP, _MODE_FILTER, ctypes.c_char_p(program), 0, 0))

    return apply


# --- landlock(7) ------------------------------------------------------------------------------------------------------


def _landlock(ports: str) -> None:
    """No TCP connect, but to `ports` (comma-separated; may be empty)."""
    attribute = struct.pack("QQ", 0, _CONNECT_TCP)
    ruleset = _called("landlock", _libc.syscall(_LANDLOCK_CREATE, attribute, len(attribute), 0))
    for port in ports.split(",") if ports else ():
        rule = struct.pack("QQ", _CONNECT_TCP, int(port))
        _called("landlock", _libc.syscall(_LANDLOCK_ADD, ruleset, _RULE_NET_PORT, rule, 0))
    _no_new_privileges()
    _called("landlock", _libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0))
    os.close(ruleset)


# --- credentials(7) ---------------------------------------------------------------------------------------------------


def _uid(number: str) -> None:
    """Be that user and group, without capabilities: the kernel takes them from a process that leaves uid 0."""
    os.setgroups([])
    os.setresgid(int(number), int(number), int(number))
    os.setresuid(int(number), int(number), int(number))


WORDS: dict[str, Callable[[str], None]] = {
    "seccomp-socket": _seccomp("socket", _INET),
    "seccomp-socket-all": _seccomp("socket", ()),
    "seccomp-netlink": _seccomp("socket", (16,)),  # AF_NETLINK
    "seccomp-connect": _seccomp("connect", ()),
    "seccomp-setsockopt": _seccomp("setsockopt", ()),
    "landlock-tcp": _landlock,
    "cgroup-connect": cgroup_bpf.deny_connect,
    "cgroup-sendmsg": cgroup_bpf.deny_sendmsg,
    "cgroup-skb": cgroup_bpf.drop_packets,
    "uid": _uid,
}


def apply(words: Sequence[str]) -> None:
    """Apply `words` (`NAME=VALUE`) to this process, in their order. Raises OSError, KeyError."""
    for word in words:
        name, _, value = word.partition("=")
        WORDS[name](value)


def cannot(words: Sequence[str]) -> str | None:
    """Why this process, on this kernel, cannot apply one of `words`; None if it can. Raises UserError."""
    for word in words:
        name = word.partition("=")[0]
        if name not in WORDS:
            raise UserError(f"lab: confine: {word}: unknown word (known: {', '.join(WORDS)})")
        if name == "uid" and not _may(_SETUID, _SETGID):
            return f"{name} needs root"
        if name.startswith("cgroup-"):
            problem = cgroup_bpf.cannot() if _may(_NET_ADMIN, _SYS_ADMIN) else f"{name} needs root"
            if problem is not None:
                return problem
        if name.startswith("seccomp-") and platform.machine() not in _MACHINES:
            return f"{name}: no system call numbers for {platform.machine()}"
        if name.startswith("landlock-") and _libc.syscall(_LANDLOCK_CREATE, None, 0, 1) < _LANDLOCK_TCP_ABI:
            return f"{name}: this kernel has no Landlock for TCP (ABI {_LANDLOCK_TCP_ABI})"
    return None


def _may(*capabilities: int) -> bool:
    """Whether this process has them, over the whole machine and not only in a user namespace."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        everybody = file.read().split() == ["0", "0", "4294967295"]
    with open("/proc/self/status", encoding="ascii") as file:
        effective = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    return everybody and all(effective >> bit & 1 for bit in capabilities)


if __name__ == "__main__":
    split = sys.argv.index("--")
    apply(sys.argv[1:split])
    os.execvp(sys.argv[split + 1], sys.argv[split + 1 :])  # noqa: S606 - no shell is the point

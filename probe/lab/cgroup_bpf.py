"""eBPF programs on a cgroup: an allow-list of addresses, at connect(), at sendmsg() and on outgoing packets.

Built by hand, because they are a few instructions long and a compiler is not at hand in every lab. Source: linux/bpf.h,
bpf(2), cgroups(7). The cgroup is one of our own; a process outside the lab removes it when all who were in it are gone.
"""

import ctypes
import os
import platform
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

# What still may pass: the controls of the lab's worlds, and loopback (as systemd's IPAddressAllow=localhost).
ALLOWED = ("127.0.0.1", "203.0.113.10", "::1", "2001:db8:10::10")
# The environment variable that names the cgroup.
VARIABLE = "EGRESS_PROBE_LAB_CGROUP"

_SYSCALL = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _PROG_ATTACH, _ALLOW_MULTI = 5, 8, 2
_CGROUP_SKB, _CGROUP_SOCK_ADDR = 8, 18
_EGRESS, _CONNECT4, _CONNECT6, _SENDMSG4, _SENDMSG6 = 1, 10, 11, 14, 15

# Opcodes: 32-bit load, 32-bit compare and jump, moves, add, call, exit.
_LDX, _JNE32, _MOV, _COPY, _ADD, _CALL, _EXIT = 0x61, 0x56, 0xB7, 0xBF, 0x07, 0x85, 0x95
_R1, _STACK = 1, 10
_SKB_LOAD_BYTES = 26
# Offsets in struct bpf_sock_addr: user_ip4, user_ip6; and in struct __sk_buff: protocol.
_USER4, _USER6, _PROTOCOL = 4, 8, 16
# Of an IP packet: its protocol in network order as a little-endian machine loads it, and where its destination stands.
_PACKETS = {4: (0x0008, 16, 4), 6: (0xDD86, 24, 16)}

Instruction = tuple[int, int, int, int, int]  # opcode, destination, source, offset, immediate


def _compared(version: int, base: int, offset: int) -> list[Instruction]:
    """Return 1 if the address at `offset` from register `base` is one of ALLOWED; else go on."""
    program: list[Instruction] = []
    for text in ALLOWED:
        if (":" in text) is not (version == 6):
            continue
        raw = socket.inet_pton(socket.AF_INET6 if version == 6 else socket.AF_INET, text)
        words = [(at, struct.unpack_from("=i", raw, at)[0]) for at in range(0, len(raw), 4)]
        for place, (at, value) in enumerate(words):
            # Not this one: over the rest of these comparisons, and over "return 1".
            beyond = 2 * (len(words) - place - 1) + 2
            program += [(_LDX, 2, base, offset + at, 0), (_JNE32, 2, 0, beyond, value)]
        program += _return(1)
    return program


def _return(value: int) -> list[Instruction]:
    return [(_MOV, 0, 0, 0, value), (_EXIT, 0, 0, 0, 0)]


def _by_packet(verdict: int) -> list[Instruction]:
    """The destination is read from the packet: a socket that answers many has none of its own."""
    program: list[Instruction] = [(_COPY, 6, _R1, 0, 0), (_LDX, 7, _R1, _PROTOCOL, 0)]
    for version, (protocol, offset, length) in _PACKETS.items():
        body: list[Instruction] = [
            (_COPY, 1, 6, 0, 0), (_MOV, 2, 0, 0, offset), (_COPY, 3, _STACK, 0, 0), (_ADD, 3, 0, 0, -16),
            (_MOV, 4, 0, 0, length), (_CALL, 0, 0, 0, _SKB_LOAD_BYTES), *_compared(version, _STACK, -16),
        ]  # fmt: skip
        program += [(_JNE32, 7, 0, len(body), protocol), *body]
    return program + _return(verdict)


def deny_connect(_: str) -> None:
    """connect() fails with EPERM, for this process from now on. Raises OSError."""
    _attach(_CGROUP_SOCK_ADDR, _CONNECT4, [*_compared(4, _R1, _USER4), *_return(0)])
    _attach(_CGROUP_SOCK_ADDR, _CONNECT6, [*_compared(6, _R1, _USER6), *_return(0)])


def deny_sendmsg(_: str) -> None:
    """sendto() on an unconnected datagram socket fails with EPERM; a connected one is never asked."""
    _attach(_CGROUP_SOCK_ADDR, _SENDMSG4, [*_compared(4, _R1, _USER4), *_return(0)])
    _attach(_CGROUP_SOCK_ADDR, _SENDMSG6, [*_compared(6, _R1, _USER6), *_return(0)])


def drop_packets(verdict: str) -> None:
    """Outgoing packets are dropped: verdict 0, or 2 (which tells the sender of congestion)."""
    _attach(_CGROUP_SKB, _EGRESS, _by_packet(int(verdict)))


def _attach(kind: int, where: int, program: Sequence[Instruction]) -> None:
    folder = os.environ[VARIABLE]
    Path(folder, "cgroup.procs").write_text("0", encoding="ascii")  # 0: the process that writes
    loaded = _load(kind, where, program)
    group = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    _bpf(_PROG_ATTACH, struct.pack("=IIII", group, loaded, where, _ALLOW_MULTI))
    os.close(group)
    os.close(loaded)


def _load(kind: int, where: int, program: Sequence[Instruction]) -> int:
    instructions = b"".join(
        struct.pack("=BBhi", code, src << 4 | dst, off, imm) for code, dst, src, off, imm in program
    )
    text = ctypes.create_string_buffer(instructions, len(instructions))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    attribute = struct.pack(
        "=IIQQIIQII16sII", kind, len(instructions) // 8, ctypes.addressof(text), ctypes.addressof(licence),
        0, 0, 0, 0, 0, b"egress_probe", 0, where,
    )  # fmt: skip
    return _bpf(_PROG_LOAD, attribute)


def _bpf(command: int, attribute: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(_SYSCALL[platform.machine()], command, attribute, len(attribute))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "bpf")
    return result


def cannot() -> str | None:
    """Why programs cannot be attached here, or None. For a process that is root."""
    if platform.machine() not in _SYSCALL:
        return f"cgroup BPF: no system call number for {platform.machine()}"
    if _hierarchy() is None:
        return "cgroup BPF: no cgroup2 file system is mounted"
    try:
        os.close(_load(_CGROUP_SKB, _EGRESS, _by_packet(0)))
    except OSError as error:
        return f"cgroup BPF: {error.strerror}"
    return None


def _hierarchy() -> Path | None:
    """Our own place in the cgroup2 hierarchy, where it is mounted writable."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = [line.split()[4] for line in file if " - cgroup2 " in line]
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        own = next((line.strip()[3:] for line in file if line.startswith("0::")), "/")
    places = (Path(mount + own) for mount in mounts)
    return next((place for place in places if os.access(place, os.W_OK)), None)


@contextmanager
def own_cgroup(wanted: bool) -> Iterator[None]:
    """A new cgroup, named by VARIABLE. It is removed however this process ends, SIGKILL included."""
    place = _hierarchy() if wanted else None
    if place is None:
        yield
        return
    folder = place / f"egress-probe-lab-{os.getpid()}"
    folder.mkdir()
    reading, writing = os.pipe()
    guard = os.fork()
    if guard == 0:
        _guard(folder, reading, writing)
    os.close(reading)
    os.environ[VARIABLE] = str(folder)
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        os.close(writing)
        os.waitpid(guard, 0)


def _guard(folder: Path, reading: int, writing: int) -> None:
    """Wait until every process that holds the other end of the pipe is gone; then remove the cgroup."""
    try:
        os.setsid()  # Ctrl-C is not for us
        os.close(writing)
        _silence((1, 2))
        os.read(reading, 1)
        for _ in range(200):  # the last process in it may need a moment to end
            with suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.05)
    finally:
        os._exit(0)


def _silence(descriptors: Sequence[int]) -> None:
    """Whoever reads our output must not wait for the guard."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(null, descriptor)

"""The launcher: every word takes away what it says, from the process that follows and from nothing else."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from probe.errors import UserError
from probe.lab.cgroup_bpf import own_cgroup
from probe.lab.confine import WORDS, cannot

# What is tried: make a socket of each family; connect over TCP, UDP; send without connecting. One word each.
_TRIED = """
import errno, os, socket
def tried(work):
    try:
        work()
    except OSError as error:
        return errno.errorcode[error.errno].replace("ENOTSUP", "EOPNOTSUPP")
    return "works"
def made(family, kind=socket.SOCK_STREAM):
    sock = socket.socket(family, kind)
    if family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR: without it ENOBUFS is kept from us (net/ipv4/udp.c)
    return sock
def connected(where, kind):
    sock = made(socket.AF_INET, kind)
    sock.settimeout(0.2)
    try:
        sock.connect(where)
        if kind is socket.SOCK_DGRAM:
            sock.send(b"x")
    except TimeoutError:
        raise OSError(errno.ETIMEDOUT, "")
away, here = ("203.0.113.200", 9), ("127.0.0.1", 9)
print(tried(lambda: made(socket.AF_UNIX)), tried(lambda: connected(away, socket.SOCK_STREAM)),
      tried(lambda: connected(away, socket.SOCK_DGRAM)), tried(lambda: connected(here, socket.SOCK_STREAM)),
      tried(lambda: made(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", away)))
"""
LAUNCH = [sys.executable, "-I", "-m", "probe.lab.confine"]


def launched(words: tuple[str, ...], code: str) -> str:
    """What `code` printed under `words`. Skips where this kernel or user cannot apply them."""
    problem = cannot(words)
    if problem is not None:
        pytest.skip(problem)
    command = [*LAUNCH, *words, "--", sys.executable, "-I", "-c", code]
    with own_cgroup(any(word.startswith("cgroup") for word in words)):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        # unix socket, TCP away, UDP away, TCP to loopback, unconnected datagram away
        pytest.param("seccomp-socket=EPERM", "works EPERM EPERM EPERM EPERM", marks=pytest.mark.real("seccomp")),
        pytest.param("seccomp-socket-all=EOPNOTSUPP", " ".join(["EOPNOTSUPP"] * 5), marks=pytest.mark.real("seccomp")),
        pytest.param("seccomp-connect=EACCES", "works EACCES EACCES EACCES works", marks=pytest.mark.real("seccomp")),
        pytest.param("seccomp-connect=ENOSYS", "works ENOSYS ENOSYS ENOSYS works", marks=pytest.mark.real("seccomp")),
        pytest.param("landlock-tcp", "works EACCES works EACCES works", marks=pytest.mark.real("landlock")),
        pytest.param("landlock-tcp=9", "works ECONNREFUSED works ECONNREFUSED works", marks=pytest.mark.real("landlock")),
        pytest.param("cgroup-connect", "works EPERM EPERM ECONNREFUSED works", marks=pytest.mark.real("cgroup-bpf")),
        pytest.param("cgroup-sendmsg", "works ECONNREFUSED works ECONNREFUSED EPERM", marks=pytest.mark.real("cgroup-bpf")),
        pytest.param("cgroup-skb=0", "works ETIMEDOUT EPERM ECONNREFUSED EPERM", marks=pytest.mark.real("cgroup-bpf")),
        pytest.param("cgroup-skb=2", "works ETIMEDOUT ENOBUFS ECONNREFUSED ENOBUFS", marks=pytest.mark.real("cgroup-bpf")),
    ],
)  # fmt: skip
def test_a_word_takes_away_what_it_says(word: str, expected: str) -> None:
    assert launched((word,), _TRIED) == expected


@pytest.mark.real("seccomp")
def test_another_user_has_no_capabilities_and_may_be_confined_as_well() -> None:
    problem = cannot(("uid=0",))
    if problem is not None:
        pytest.skip(problem)
    # Only what everybody can read runs as another user: the shell, not an interpreter under a home.
    shell = ["sh", "-c", "id -u; grep CapEff /proc/self/status"]
    done = subprocess.run(
        [*LAUNCH, "uid=65534", "seccomp-socket=EPERM", "--", *shell], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["65534", "CapEff:", "0000000000000000"]


def test_an_unknown_word_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="confine: magic=1: unknown word"):
        cannot(("magic=1",))
    assert all(name.partition("-")[0] in ("seccomp", "landlock", "cgroup", "uid") for name in WORDS)


@pytest.mark.real("cgroup-bpf")
def test_the_cgroup_is_gone_even_after_a_kill() -> None:
    problem = cannot(("cgroup-connect",))
    if problem is not None:
        pytest.skip(problem)
    code = """
import os, time
from probe.lab.cgroup_bpf import VARIABLE, own_cgroup
with own_cgroup(True):
    open(os.environ[VARIABLE] + "/cgroup.procs", "w").write("0")
    print(os.environ[VARIABLE], flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-I", "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert folder.is_dir()
        process.send_signal(signal.SIGKILL)
    for _ in range(200):
        if not folder.exists():
            break
        time.sleep(0.05)
    assert not folder.exists()

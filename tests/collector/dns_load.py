"""The collector's DNS in a process of its own, and who asks it as fast as it answers. Real UDP on loopback.

As a program: `serve DATABASE RUN_ID KEY_HEX` prints its port and serves until it is killed; `flood PORT RATE` sends so
many forged tokens per second until it is killed.
"""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import dns.message
import trio

from probe import tokens
from probe.collector import datagrams
from probe.collector.desk import Desk
from probe.collector.names import make_zone
from probe.collector.store import Store

ZONE = "exfil.example"
ROOT = Path(__file__).parent.parent.parent
RUN_ID = tokens.new_run_id(1_790_000_000_000, b"0123456789")
KEY = b"k" * 32


def queries(checks: range, key: bytes = KEY, run_id: str = RUN_ID) -> list[bytes]:
    """One TXT query per check. The message's id is the check number's lower half: who asks keeps fewer in flight."""
    plain = dns.message.make_query(f"{tokens.token(run_id, 0, key)}.{ZONE}", "TXT", use_edns=0, id=0).to_wire()
    before, after = plain[2:13], plain[13 + tokens.TOKEN_LENGTH :]
    return [(n & 0xFFFF).to_bytes(2, "big") + before + tokens.token(run_id, n, key).encode() + after for n in checks]


@dataclass
class Load:
    """What came of it."""

    sent: int = 0
    answered: list[int] = field(default_factory=list)  # the lower halves of check numbers
    seconds: float = 0.0


def nothing(answers: int) -> None:
    """Called after each answer with how many there were."""


def ask(
    port: int,
    packets: Sequence[bytes],
    flight: int = 256,
    patience: float = 1.0,
    answered: Callable[[int], None] = nothing,
    pace: float = 0.0,
) -> Load:
    """Send them all, with at most `flight` unanswered; gives up after `patience` seconds without any answer.

    `pace`: no more than so many a second; 0: as fast as they are answered.
    """
    load, waiting = Load(), iter(packets)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        sock.settimeout(patience)
        began = time.perf_counter()
        for packet in (next(waiting, b"") for _ in range(min(flight, len(packets)))):
            sock.send(packet)
            load.sent += 1
        try:
            while len(load.answered) < load.sent:
                answer = sock.recv(2048)
                load.answered.append(int.from_bytes(answer[:2], "big"))
                answered(len(load.answered))
                if pace and (ahead := load.sent / pace - (time.perf_counter() - began)) > 0.01:
                    time.sleep(ahead)
                if packet := next(waiting, b""):
                    sock.send(packet)
                    load.sent += 1
        except OSError:  # nobody answers any more
            pass
        load.seconds = time.perf_counter() - began
    return load


@contextmanager
def served(path: Path) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A collector's DNS in a process of its own: its port, and the process; killed at the end."""
    command = [sys.executable, "-m", "tests.collector.dns_load", "serve", str(path), RUN_ID, KEY.hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process
        finally:
            process.kill()


async def main(path: Path, run_id: str, key: bytes) -> None:
    store = Store(path)
    desk = Desk(store)
    assert desk.register(run_id, key, 3600)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.run)
            nursery.start_soon(datagrams.serve, sock, desk, make_zone(ZONE, ("203.0.113.53",)))
            print(sock.getsockname()[1], flush=True)


@contextmanager
def flooded(port: int, rate: int) -> Iterator[None]:
    """Forged tokens come meanwhile, `rate` a second, from a process of their own."""
    command = [sys.executable, "-m", "tests.collector.dns_load", "flood", str(port), str(rate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        try:
            yield
        finally:
            process.kill()


def flood(port: int, rate: int) -> None:
    """Send forged tokens for ever; what is behind the pace is made up for."""
    forged, sent, began = queries(range(1000), key=b"x" * 32), 0, time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        while True:
            while sent < (time.monotonic() - began) * rate:
                with suppress(BlockingIOError):
                    sock.send(forged[sent % len(forged)], socket.MSG_DONTWAIT)
                sent += 1
                if sent == rate // 10:
                    print("flooding", flush=True)
            time.sleep(0.02)  # rarely awake: on few cores whoever wakes takes time from who is measured


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.argv[1] == "flood":
        flood(int(sys.argv[2]), int(sys.argv[3]))
    else:
        trio.run(main, Path(sys.argv[2]), sys.argv[3], bytes.fromhex(sys.argv[4]))

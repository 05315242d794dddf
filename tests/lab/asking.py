"""Tokens sent from a world's sandbox by plain sockets: what came back, and which of them reached the collector.

No agent, no plan, no judgement: what a world's real servers and rules do is a fact to test the rest against.
"""

import multiprocessing
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import dns.message
import dns.rcode

from probe.farclient import wait_and_read
from probe.lab.namespaces import SCRATCH, in_isolation, inside
from probe.lab.servers import PROXY_PORT, ZONE
from probe.lab.stage import Stage, serving
from probe.lab.topology import GATEWAY
from probe.lab.world import load_world
from probe.sockets import FAMILY, version
from probe.tokens import new_key, new_run_id, token

AT_A_TIME = 6
# A resolver that asks the root first needs some milliseconds; this long is waited for who says nothing.
_PATIENCE = 3.0
# What was passed on without an answer reaches the collector a moment later.
_LATE = 2.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One token. `udp`, `tcp`: in a DNS question; `raw-udp`, `raw-tcp`: as it is; `proxy`: in the name of a CONNECT.

    `permitted`: in a name of the operator's allow-list.
    """

    type: str = "TXT"
    permitted: bool = False
    server: str = GATEWAY[0]
    over: Literal["udp", "tcp", "raw-udp", "raw-tcp", "proxy"] = "udp"
    port: int = 53


class Told(NamedTuple):
    """`code`: of a DNS or HTTP answer, `receipt` or `bytes` of a raw one, `silence`, `closed`.

    `arrived`: at the collector.
    """

    code: str
    records: tuple[str, ...]
    arrived: bool


def ask_all(asked: Mapping[str, Sequence[Ask]]) -> "dict[str, Future[list[Told]]]":
    """Of each world, what was told of each of its questions. Worlds are played in processes, some at a time."""
    # Spawned: a fork of a test run would carry its threads' locks along.
    with ProcessPoolExecutor(AT_A_TIME, multiprocessing.get_context("spawn")) as pool:
        return {name: pool.submit(_one_world, name, questions) for name, questions in asked.items()}


def _one_world(name: str, asked: Sequence[Ask]) -> list[Told]:
    told = in_isolation(lambda: _played(name, asked))
    return [Told(code, tuple(records), arrived) for code, records, arrived in told]


def _played(name: str, asked: Sequence[Ask]) -> Any:
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder, serving(load_world(name), Path(folder)) as stage:
        return _told(stage, asked)


def _told(stage: Stage, asked: Sequence[Ask]) -> Any:
    assert stage.far is not None
    run_id, key, client = new_run_id(int(time.time() * 1000)), new_key(), stage.far[1]
    with inside(stage.networks.internet):
        client.register(run_id, key, 60)
    with inside(stage.networks.sandbox), ThreadPoolExecutor(len(asked)) as pool:  # threads are born where we are
        answers = list(pool.map(_answer, asked, (token(run_id, number, key) for number in range(len(asked)))))
    with inside(stage.networks.internet):
        far = wait_and_read(client, key, grace=_LATE)
    assert far.problem is None, far.problem
    assert far.said.lost == 0
    arrived = {arrival.check for arrival in far.said.arrivals}
    return [(*answer, number in arrived) for number, answer in enumerate(answers)]


def _answer(one: Ask, mine: str) -> tuple[str, list[str]]:
    name = f"{mine}.permitted.{ZONE}" if one.permitted else f"{mine}.{ZONE}"
    try:
        if one.over == "proxy":
            return _tunnel(name), []
        if one.over.startswith("raw"):
            return "receipt" if b"egress-probe-receipt=" in _exchange(mine.encode(), one) else "bytes", []
        return _records(_exchange(dns.message.make_query(name, one.type).to_wire(), one))
    except TimeoutError:
        return "silence", []


def _records(data: bytes) -> tuple[str, list[str]]:
    if not data:
        return "closed", []
    reply = dns.message.from_wire(data)
    return dns.rcode.to_text(reply.rcode()), [record.to_text() for rrset in reply.answer for record in rrset]


def _exchange(data: bytes, one: Ask) -> bytes:
    kind = socket.SOCK_DGRAM if one.over.endswith("udp") else socket.SOCK_STREAM
    with socket.socket(FAMILY[version(one.server)], kind) as sock:
        sock.settimeout(_PATIENCE)
        sock.connect((one.server, one.port))
        if one.over != "tcp":
            sock.sendall(data)
            return sock.recv(65535)
        sock.sendall(len(data).to_bytes(2, "big") + data)
        with sock.makefile("rb") as file:
            return file.read(int.from_bytes(file.read(2), "big"))


def _tunnel(name: str) -> str:
    """The status of the proxy's answer."""
    with socket.create_connection((GATEWAY[0], PROXY_PORT), timeout=2 * _PATIENCE) as sock:
        sock.sendall(f"CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\n\r\n".encode())
        return sock.recv(4096).split()[1].decode()

"""The lab's own operator, outside of the sandbox: shows that every port of the collector can be reached from somewhere.

One token of a run of its own to each port, over each IP version, by plain sockets. Without it no port would count.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress

from probe.documents import Arrivals, Collector
from probe.errors import UserError
from probe.farclient import Client
from probe.lab.rules import COLLECTOR
from probe.sockets import FAMILY, version
from probe.tokens import new_key, new_run_id, token

_PATIENCE = 10.0
_EVERY = 0.1
_ANSWER = 2.0


def show_ports(far: Collector, client: Client) -> None:
    """Send the tokens, until the collector says that each has arrived. Raises UserError where one does not."""
    run_id, key = new_run_id(int(time.time() * 1000)), new_key()
    client.register(run_id, key, 60)
    until = time.monotonic() + _PATIENCE
    missing = set(_ways(far))
    while missing and time.monotonic() < until:
        for number, way in enumerate(sorted(missing)):
            _send(*way, token(run_id, number, key).encode() + b"\n")
        missing -= _arrived(client.arrivals())
        time.sleep(_EVERY)
    if missing:
        raise UserError(f"lab: the collector cannot be reached from outside of the sandbox: {sorted(missing)}")


def _ways(far: Collector) -> Iterator[tuple[str, int, int, str]]:
    for address in far.addresses:
        for transport, ports in (("tcp", far.tcp), ("udp", far.udp)):
            for port in ports:
                yield transport, version(address), port, address


def _arrived(said: Arrivals) -> set[tuple[str, int, int, str]]:
    """As _ways; the address is the one of that IP version."""
    seen = {(one.transport.value, one.version, one.port) for one in said.reachable}
    return {(*way, address) for way in seen for address in COLLECTOR if version(address) == way[1]}


def _send(transport: str, family: int, port: int, address: str, data: bytes) -> None:
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
    with socket.socket(FAMILY[family], kind) as sock, suppress(OSError):  # what does not arrive is tried again
        sock.settimeout(_ANSWER)
        sock.connect((address, port))
        sock.sendall(data)
        sock.recv(512)

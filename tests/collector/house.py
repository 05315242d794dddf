"""A collector's conversations in this process, for tests: a store, a desk, and one listening port on loopback."""

import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from probe import receipts, tokens
from probe.collector import certificate, listening, names
from probe.collector.conversation import converse, is_forged
from probe.collector.desk import Desk
from probe.collector.house import DEADLINE, House
from probe.collector.store import Store
from probe.collector.streams import Door, Seats
from probe.documents import Arrival
from probe.model import Transport

KEY = bytes(range(32))
RUN = tokens.new_run_id(1_700_000_000_000, bytes(10))
ZONE = "exfil.example"


def token(check: int = 1, key: bytes = KEY, run: str = RUN) -> str:
    return tokens.token(run, check, key)


def is_receipt(line: bytes, check: int = 1) -> bool:
    found = receipts.find(line)
    return found is not None and receipts.is_valid(found, KEY, token(check))


@dataclass
class Open:
    """A collector's streams. `port`: where they are accepted."""

    house: House
    port: int

    def arrivals(self) -> tuple[Arrival, ...]:
        return self.house.desk.said(RUN).arrivals

    def unknown(self) -> int:
        return self.house.desk.strangers[Transport.TCP]

    async def say(self, data: bytes, end: bool = True) -> bytes:
        """Connect, say that, and give all that comes back."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with stream:
            await stream.send_all(data)
            if end:
                await stream.send_eof()
            return b"".join([part async for part in stream])


@asynccontextmanager
async def collector(
    folder: Path,
    *,
    dns: bool = False,
    deadline: float = DEADLINE,
    seats: tuple[int, int] = (100, 100),
    rows: int = 100,
    registered: bool = True,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[Open]:
    """While it is open, connections are accepted; the run RUN is known. `dns`: framed DNS is expected on its port."""
    made = certificate.made(folder, ("127.0.0.1", ZONE))
    store = Store(folder / "arrivals.sqlite", rows=rows)
    desk = Desk(store, clock)
    if registered:
        assert desk.register(RUN, KEY, 600)
    (bound,) = listening.open_all([listening.Place("tcp", "127.0.0.1", 0)])
    ports = frozenset((bound.port,) if dns else ())
    house = House(desk, names.make_zone(ZONE, ("203.0.113.53",)), made.context, ports)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.run)
        glance = partial(is_forged, house=house)
        door = Door(partial(converse, house=house), nursery, Seats(*seats, house.tally), deadline, glance)
        nursery.start_soon(door.accept, bound.sock)
        yield Open(house, bound.port)
        nursery.cancel_scope.cancel()
    listening.close_all([bound])
    store.close()


async def until(true: Callable[[], bool]) -> None:
    """Wait for it; a test that never sees it fails."""
    with trio.fail_after(10):
        while not true():
            await trio.sleep(0.01)


def connected_pair() -> tuple[socket.socket, socket.socket, tuple[str, int]]:
    """A TCP connection over loopback: the client's end, the accepted end, the client's address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, peer = server.accept()
    return client, accepted, peer

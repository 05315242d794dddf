"""One accepted TCP connection: where it came from, its bytes, and arrivals as it saw them. Knows no protocol.

A stream in trio's sense, so that TLS can run over it; bounded in what it reads.
"""

import socket
from typing import Literal

import trio

from probe.collector.desk import Known
from probe.collector.listening import asked_port, normal, saved_syn
from probe.documents import Arrival

MOST = 16 * 1024  # bytes that are read of one connection
_PART = 4096
_LINGER = 1.0  # seconds

Over = Literal["tcp", "tls", "https"]
Spoken = Literal["tcp", "dns", "http", "tls"]


class Line(trio.abc.Stream):
    """`source`, `port`: the peer's. `at`: the port that it asked for. `ahead`: bytes to be read again."""

    def __init__(self, sock: socket.socket, peer: tuple[str, int], ahead: bytes = b"") -> None:
        """Raises OSError where the connection is gone already."""
        sock.setblocking(False)
        self._sock = sock
        self._left = MOST - len(ahead)
        self.source = normal(peer[0])
        self.port = peer[1]
        self.at = asked_port(sock)
        self.syn = saved_syn(sock)
        self.ahead = ahead
        self.scope = trio.CancelScope()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Bytes; none at the end, or when enough were read. A connection that broke has ended."""
        if self.ahead:
            taken, self.ahead = self.ahead[:max_bytes], self.ahead[max_bytes:] if max_bytes else b""
            return taken
        most = min(max_bytes or _PART, self._left)
        if most <= 0:
            return b""
        try:
            found = await self._receive(most)
        except OSError:
            return b""
        self._left -= len(found)
        return found

    async def _receive(self, most: int) -> bytes:
        # Tried first: at a busy collector the bytes are mostly there, and a turn of the loop costs more than the call.
        try:
            return self._sock.recv(most)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(self._sock)
            return self._sock.recv(most)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Raises trio.BrokenResourceError where nobody takes them."""
        rest = memoryview(data)
        try:
            while rest:
                try:
                    rest = rest[self._sock.send(rest) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._sock)
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def wait_send_all_might_not_block(self) -> None:
        """Trio's interface; TLS does not need it."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Finish, and close whatever happens."""
        try:
            await self.finish()
        finally:
            self.close()

    def close(self) -> None:
        """Close at once."""
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()

    async def finish(self) -> None:
        """Where the peer is still sending, say that we are done and let it: to close over unread bytes resets.

        A reset may take the answer with it, before the peer has read it.
        """
        if self._sock.fileno() < 0:
            return
        try:
            if self._sock.recv(_PART):
                self._sock.shutdown(socket.SHUT_WR)
                with trio.move_on_after(_LINGER):
                    while await self._receive(_PART * 16):
                        await trio.lowlevel.checkpoint()
        except OSError:
            return  # nothing to wait for (BlockingIOError), or broken

    def round_trip(self) -> float:
        """Seconds, as the kernel measured them (tcpi_rtt); 0 where it does not tell."""
        try:
            info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        except OSError:
            return 0.0
        return int.from_bytes(info[68:72], "little") / 1e6

    def arrival(
        self, known: Known, now: float, channel: Spoken, over: Over, kind: str | None = None, name: str | None = None
    ) -> Arrival:
        """A token that came over this connection. `kind`, `name`: of a DNS question; `name`: of a TLS hello."""
        return Arrival(
            check=known.check,
            time=now,
            channel=channel,
            over=over,
            source=self.source,
            port=self.port,
            at=self.at,
            type=kind,
            name=name,
            syn=self.syn,
        )

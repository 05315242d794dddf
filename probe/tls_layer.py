"""TLS without a socket of its own (ssl.MemoryBIO), so that the raw bytes of a failed handshake stay visible."""

import ssl
from typing import Protocol

_MOST = 16 * 1024


class Wire(Protocol):
    """What carries the bytes. `receive` gives b"" at the end."""

    async def receive(self) -> bytes: ...

    async def send(self, data: bytes) -> None: ...


class Layer:
    """TLS over `wire`. `clear` is everything that was read in the clear."""

    def __init__(self, wire: Wire, context: ssl.SSLContext, host: str | None) -> None:
        self._wire = wire
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.clear = bytearray()

    async def handshake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
                return await self._flush()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()

    async def send(self, message: bytes) -> None:
        self.tls.write(message)
        await self._flush()

    async def receive(self) -> bytes:
        while True:
            try:
                part = self.tls.read(_MOST)
            except ssl.SSLWantReadError:
                await self._feed()
            except ssl.SSLError:
                return b""
            else:
                self.clear += part
                return part

    async def _flush(self) -> None:
        while self._outgoing.pending:
            await self._wire.send(self._outgoing.read())

    async def _feed(self) -> None:
        part = await self._wire.receive()
        if part:
            self._incoming.write(part)
        else:
            self._incoming.write_eof()

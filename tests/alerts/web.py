"""A real HTTP server on loopback: it records each request and answers with the bytes that a test wrote."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import h11
import trio

Answer = bytes | Callable[[trio.abc.Stream], Awaitable[None]]


@dataclass
class Request:
    """`headers`: names in lower case."""

    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """`got`: the requests, oldest first. `connections`: how many there were, with or without a request."""

    port: int
    got: list[Request] = field(default_factory=list)
    connections: int = 0

    def url(self, rest: str = "/hook", scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}{rest}"


def head(status: int, *headers: str, body: bytes = b"") -> bytes:
    """One answer as bytes."""
    lines = [f"HTTP/1.1 {status} Word", *headers, f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def hang(stream: trio.abc.Stream) -> None:
    """Never answers."""
    await trio.sleep_forever()


async def abort(stream: trio.abc.Stream) -> None:
    """Closes without an answer."""


def drip(first: bytes, then: bytes = b"x") -> Answer:
    """`first` at once, and one more byte every 20 ms for good."""

    async def run(stream: trio.abc.Stream) -> None:
        await stream.send_all(first)
        while True:
            await trio.sleep(0.02)
            await stream.send_all(then)

    return run


def flood(first: bytes, then: bytes = b"x" * 65536) -> Answer:
    """`first`, and then as much as the other side takes."""

    async def run(stream: trio.abc.Stream) -> None:
        await stream.send_all(first)
        while True:
            await stream.send_all(then)

    return run


@asynccontextmanager
async def server(*answers: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """The n-th connection gets the n-th answer; the last one counts for all later ones too."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    made = Server(listener.socket.getsockname()[1])

    async def handle(raw: trio.SocketStream) -> None:
        made.connections += 1
        answer = answers[min(made.connections, len(answers)) - 1]
        async with trio.SSLStream(raw, tls, server_side=True, https_compatible=True) if tls else raw as stream:
            try:
                made.got.append(await _request(stream))
                await (stream.send_all(answer) if isinstance(answer, bytes) else answer(stream))
            except trio.BrokenResourceError:  # the client has had enough: what it is to do with floods and drips
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        yield made
        nursery.cancel_scope.cancel()


async def _request(stream: trio.abc.Stream) -> Request:
    connection = h11.Connection(h11.SERVER)
    request, body = None, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(65536))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            headers = {name.decode(): value.decode() for name, value in request.headers}
            return Request(request.target.decode(), headers, body)
        else:  # it went away before it said anything
            raise trio.BrokenResourceError

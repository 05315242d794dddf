"""One HTTP/1.1 request over a stream that is open, and what is read of its answer. h11 reads the bytes."""

from contextlib import suppress

import h11
import trio

MOST_ANSWER = 64 * 1024  # bytes of a head, and of a body, that are read


async def ask(stream: trio.abc.Stream, request: h11.Request, body: bytes) -> tuple[h11.Connection, h11.Response]:
    """The head of the answer, and the connection that its body can be read from.

    Raises h11.RemoteProtocolError for what is no answer, trio.BrokenResourceError where the connection broke.
    """
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_ANSWER)
    events = (request, h11.Data(data=body), h11.EndOfMessage()) if body else (request, h11.EndOfMessage())
    data = b"".join(connection.send(event) or b"" for event in events)
    with suppress(trio.BrokenResourceError):  # it may have refused before it read to the end
        await stream.send_all(data)
    while not isinstance(event := await _event(stream, connection), h11.Response):
        pass  # informational ones
    return connection, event


async def read_body(stream: trio.abc.Stream, connection: h11.Connection, body: bytearray) -> None:
    """Adds to `body` what comes, at most about MOST_ANSWER bytes, packed or not. What breaks it off only ends it."""
    with suppress(h11.RemoteProtocolError, trio.BrokenResourceError):
        while len(body) < MOST_ANSWER and isinstance(event := await _event(stream, connection), h11.Data):
            body += event.data


async def _event(stream: trio.abc.Stream, connection: h11.Connection) -> object:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(bytes(await stream.receive_some(65536)))
    return event

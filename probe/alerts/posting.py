"""One HTTP POST to a place, within a deadline. Shared by the webhooks; it knows no format.

On h11 and trio, not on a client library: redirects, cookies, logs of whole URLs and sockets left open must not happen
here (docs/dependencies.md).
"""

import ssl
from collections.abc import Awaitable, Callable, Mapping

import h11
import trio

import probe
from probe.alerts.base import DeliveryError, system_words
from probe.alerts.conversing import ask, read_body
from probe.alerts.place import Place
from probe.alerts.proxying import Proxy, environment_proxy, tunnel
from probe.alerts.refusing import Answer, retry_after

DEADLINE = 10.0  # seconds for the whole exchange

Post = Callable[[bytes, Mapping[str, str]], Awaitable[Answer]]


def poster(option: str, place: Place, deadline: float) -> Post:
    """A function that POSTs a body with more headers to `place`. Raises UserError for a proxy that cannot be used.

    What it returns raises DeliveryError where there was no answer.
    """
    context = None if place.plain else ssl.create_default_context()
    proxy = None if place.plain else environment_proxy(option, place.host)

    async def post(body: bytes, headers: Mapping[str, str]) -> Answer:
        request = h11.Request(method="POST", target=place.target, headers=_headers(place, body, headers))
        try:
            return await _exchange(place, proxy, context, request, body, deadline)
        except trio.TooSlowError:
            raise DeliveryError(f"no answer within {deadline:g} s", again=True) from None
        except h11.RemoteProtocolError:
            raise DeliveryError("it broke off, or what it answered is no HTTP", again=True) from None
        except (OSError, trio.BrokenResourceError) as error:
            raise DeliveryError(system_words(error), again=True) from None

    return post


def _headers(place: Place, body: bytes, more: Mapping[str, str]) -> list[tuple[str, str]]:
    return [
        ("Host", place.authority),
        ("User-Agent", f"egress-probe/{probe.__version__}"),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
        *([("Authorization", place.authorization)] if place.authorization else []),
        *more.items(),
    ]


async def _exchange(
    place: Place,
    proxy: Proxy | None,
    context: ssl.SSLContext | None,
    request: h11.Request,
    body: bytes,
    deadline: float,
) -> Answer:
    """The head decides, within the deadline; of a refusal's body some is read until then."""
    raw = None
    said = bytearray()
    try:
        with trio.fail_after(deadline) as scope:
            raw = await trio.open_tcp_stream(*((proxy.host, proxy.port) if proxy else (place.host, place.port)))
            if proxy:
                await tunnel(raw, proxy, place.host_and_port)
            stream = await _secured(raw, context, place.host) if context else raw
            connection, answer = await ask(stream, request, body)
        if not 200 <= answer.status_code < 300:
            with trio.move_on_at(scope.deadline):
                await read_body(stream, connection, said)
    finally:
        if raw is not None:
            await trio.aclose_forcefully(raw)
    headers = {name: value.decode("latin-1") for name, value in answer.headers}  # h11's names are in lower case
    after = retry_after(headers.get(b"retry-after", ""), headers.get(b"date", ""))
    return Answer(answer.status_code, after, bytes(said))


async def _secured(raw: trio.SocketStream, context: ssl.SSLContext, host: str) -> trio.abc.Stream:
    stream = trio.SSLStream(raw, context, server_hostname=host, https_compatible=True)
    await stream.do_handshake()
    return stream

"""The collector's API for controllers: register a run, read what arrived. HTTPS and JSON; one request per connection.

Who may do what is decided before anything else is looked at, by the same work whether a run is known or not.
"""

import hashlib
import hmac
import json
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import trio

from probe.codec import DecodeError, decode, encode, parse_json, to_line
from probe.collector import web
from probe.collector.house import House
from probe.collector.line import Line
from probe.collector.ratelimit import Limits, prefix
from probe.collector.store import StoreError
from probe.documents import Arrivals, Collector
from probe.errors import UserError

DEADLINE = 60.0  # seconds for a request and its answer: 100,000 arrivals are some 30 MB
SEATS = 256
SEATS_PER_SOURCE = 32
_JSON = "application/json"
_ROWS = 500  # arrivals that are written before the others get their turn
_ANSWERS = 8  # that are made and written at a time
_READERS = 2  # that read the database at a time
_WRITTEN = 30.0  # seconds for one to be written: who does not read does not hold it for longer
# TLS handshakes per second and at once: of one network, and of all.
_HANDSHAKES = ((20.0, 100.0), (100.0, 200.0))
_HANDSHAKE = b"\x16"  # the first byte of a TLS record that starts one
_MOST_KNOWN = 256
_KEY = re.compile(r"([0-9a-fA-F]{2}){16,64}")
_RUN = r"/v1/runs/([0-7][0-9A-HJKMNP-TV-Z]{25})"


@dataclass(frozen=True, slots=True)
class Registration:
    """What a controller says of its run. `key`: hex. `seconds`: how long its tokens are to be known."""

    key: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Secrets:
    """`bearer`: whoever holds it may register runs. `read`: what the tokens that read are made under."""

    bearer: str
    read: str

    def reader(self, run_id: str) -> str:
        """The token that reads this run's arrivals, and no other's."""
        return hmac.new(self.read.encode(), f"read|{run_id}".encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Reply:
    """A status, and a JSON value; or the arrivals, which are too many for one piece."""

    status: int
    value: Any
    arrivals: Arrivals | None = None


class Api:
    """Answers requests. `shown`: what the collector says of itself."""

    def __init__(self, house: House, secrets: Secrets, shown: Collector) -> None:
        self._house = house
        self.tally = house.tally
        self._secrets = secrets
        self._shown = shown
        self._answers = trio.CapacityLimiter(_ANSWERS)
        self._readers = trio.CapacityLimiter(_READERS)  # threads of their own: arrivals are not to wait for them
        # Buckets of their own: strangers, here or at the other ports, must not lock controllers out.
        self._handshakes = Limits(*_HANDSHAKES)
        self._known_handshakes = Limits(*_HANDSHAKES)
        self._known: dict[int, None] = {}  # networks that showed a valid token, the latest last

    async def serve(self, line: Line) -> None:
        """One connection: one request, one answer."""
        # Who says nothing costs nothing, and takes no place from those who do.
        line.ahead = await line.receive_some()
        if line.ahead[:1] == _HANDSHAKE and not self._admits(line.source):
            self.tally["api refused"] += 1
            return
        stream = trio.SSLStream(line, self._house.context, server_side=True)
        try:
            await stream.do_handshake()
            reading = web.Reading()
            while not reading.done:
                reading.feed(bytes(await stream.receive_some()))
            # A run's arrivals may be many: few of them are held at a time, until they are written.
            async with self._answers:
                reply = await self.reply(reading)
                self.tally[f"api {reply.status}"] += 1
                if reply.status in (200, 201):
                    self._remember(line.source)
                with trio.move_on_after(_WRITTEN):
                    async for part in _written(reply):
                        await stream.send_all(part)
            await stream.aclose()
        except trio.BrokenResourceError:
            self.tally["api broken"] += 1

    def _admits(self, source: str) -> bool:
        known = prefix(source) in self._known
        return (self._known_handshakes if known else self._handshakes).allow(source, self._house.clock())

    def _remember(self, source: str) -> None:
        self._known.pop(prefix(source), None)
        self._known[prefix(source)] = None
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]

    async def reply(self, reading: web.Reading) -> Reply:
        """What is answered to a request that has come."""
        request = reading.request
        if request is None or reading.broken:
            return Reply(400, _error("expected an HTTP request"))
        matches = [(route, found) for route in _ROUTES if (found := re.fullmatch(route.path, request.target))]
        if not matches:
            return Reply(404, _error("no such resource"))
        for route, found in matches:
            if route.method == request.method:
                run_id = "".join(found.groups())
                if not self._may(request, route.who, run_id):
                    return Reply(401, _error("a valid token is needed"))
                return await route.answer(self, run_id, bytes(reading.body))
        return Reply(405, _error("no such method here"))

    def _may(self, request: web.Request, who: Literal["controller", "reader"], run_id: str) -> bool:
        """Digests are compared, in constant time: neither their content nor the length of a token can be measured."""
        scheme, _, given = request.authorization.partition(" ")
        expected = self._secrets.bearer if who == "controller" else self._secrets.reader(run_id)
        shown = given.strip() if scheme.lower() == "bearer" else ""
        return hmac.compare_digest(_digest(shown), _digest(expected))

    async def _register(self, run_id: str, body: bytes) -> Reply:
        try:
            key, seconds = _registration(body)
        except (UserError, DecodeError) as error:
            return Reply(400, _error(str(error)))
        try:
            known = self._house.desk.register(run_id, key, seconds)
        except StoreError:
            return Reply(503, _error("it cannot be stored now"))
        if not known:
            return Reply(409, _error("the run is known with another key"))
        return Reply(201, {"read": self._secrets.reader(run_id)})

    async def _arrivals(self, run_id: str, _: bytes) -> Reply:
        try:
            said = await trio.to_thread.run_sync(self._house.desk.said, run_id, limiter=self._readers)
        except StoreError:
            return Reply(503, _error("it cannot be read now"))
        return Reply(200, encode(replace(said, arrivals=())), said)

    async def _info(self, _: str, __: bytes) -> Reply:
        return Reply(200, encode(self._shown))


@dataclass(frozen=True, slots=True)
class _Route:
    method: str
    path: str
    who: Literal["controller", "reader"]
    answer: Callable[[Api, str, bytes], Awaitable[Reply]]


_ROUTES = (
    _Route("PUT", _RUN, "controller", Api._register),
    _Route("GET", _RUN + "/arrivals", "reader", Api._arrivals),
    _Route("GET", "/v1/info", "controller", Api._info),
)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _error(text: str) -> dict[str, str]:
    return {"error": text}


def _registration(body: bytes) -> tuple[bytes, float]:
    """Raises UserError or DecodeError."""
    given = decode(Registration, parse_json(body.decode("utf-8", "replace"), "body"))
    if not _KEY.fullmatch(given.key):
        raise UserError("key: expected 16 to 64 bytes as hex")
    if not (math.isfinite(given.seconds) and given.seconds > 0):
        raise UserError("seconds: expected a number above 0")
    return bytes.fromhex(given.key), given.seconds


async def _written(reply: Reply) -> AsyncIterator[bytes]:
    """The answer's bytes, in pieces. Arrivals come as chunks (RFC 9112, section 7.1), so that no piece takes long."""
    if reply.arrivals is None:
        more = ("WWW-Authenticate: Bearer",) if reply.status == 401 else ()
        yield web.answer(reply.status, json.dumps(reply.value).encode() + b"\n", _JSON, *more)
        return
    fields = dict(reply.value)
    del fields["arrivals"]
    yield web.chunked(_JSON) + web.chunk(json.dumps(fields)[:-1].encode() + b', "arrivals": [')
    rows = reply.arrivals.arrivals
    for first in range(0, len(rows), _ROWS):
        text = to_line(rows[first : first + _ROWS])[1:-1]
        yield web.chunk((("," if first else "") + text).encode())
    yield web.chunk(b"]}\n") + web.chunk(b"")

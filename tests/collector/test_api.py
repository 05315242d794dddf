"""The API: who may do what, by the same work for everybody; and what is answered to whatever is asked."""

import hmac
import json
import math
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h11
import pytest
import trio

from probe import tokens
from probe.codec import decode
from probe.collector import api, certificate, listening, names, web
from probe.collector.api import Api, Secrets
from probe.collector.desk import Desk
from probe.collector.house import House
from probe.collector.ratelimit import prefix
from probe.collector.store import Store
from probe.collector.streams import Door, Seats
from probe.documents import Arrival, Arrivals, Collector
from tests.collector.house import KEY, RUN, ZONE

SECRETS = Secrets("b" * 43, "r" * 43)
OTHER = tokens.new_run_id(1_700_000_000_001, bytes(10))
SHOWN = Collector("https://127.0.0.1:8443", ZONE, ("127.0.0.1",), (53,), (53,))
GOOD = {"key": KEY.hex(), "seconds": 600}


@contextmanager
def opened(folder: Path, rows: int = 1000) -> Iterator[tuple[Api, Store]]:
    made = certificate.made(folder, ("127.0.0.1",))
    store = Store(folder / "arrivals.sqlite", rows=rows)
    house = House(Desk(store), names.make_zone(ZONE, ("127.0.0.1",)), made.context)
    yield Api(house, SECRETS, SHOWN), store
    store.close()


def reading(method: str, target: str, token: str | None = None, body: Any = None) -> web.Reading:
    text = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    more = "" if token is None else f"Authorization: {token}\r\n"
    found = web.Reading()
    found.feed(f"{method} {target} HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {len(text)}\r\n\r\n".encode() + text)
    assert found.done
    return found


def bearer(token: str = SECRETS.bearer) -> str:
    return f"Bearer {token}"


RUNS = f"/v1/runs/{RUN}"


async def test_a_run_is_registered_and_read(tmp_path: Path) -> None:
    with opened(tmp_path) as (door, _):
        made = await door.reply(reading("PUT", RUNS, bearer(), GOOD))
        assert (made.status, made.value) == (201, {"read": SECRETS.reader(RUN)})
        again = await door.reply(reading("PUT", RUNS, bearer(), GOOD))
        assert again.status == 201
        clash = await door.reply(reading("PUT", RUNS, bearer(), GOOD | {"key": "00" * 32}))
        assert clash.status == 409
        read = await door.reply(reading("GET", f"{RUNS}/arrivals", bearer(made.value["read"])))
        assert (read.status, read.value["run_id"]) == (200, RUN)
        info = await door.reply(reading("GET", "/v1/info", "bearer " + SECRETS.bearer))
        assert decode(Collector, info.value) == SHOWN


REFUSED = [
    None,
    "",
    "Bearer",
    "Bearer ",
    bearer("wrong"),
    bearer(SECRETS.bearer[:-1]),
    bearer(SECRETS.bearer + "x"),
    bearer(SECRETS.read),
    bearer("é" * 43),
    f"Basic {SECRETS.bearer}",
    SECRETS.bearer,
]


@pytest.mark.parametrize("token", REFUSED)
@pytest.mark.parametrize("known", [True, False])
async def test_every_refusal_is_the_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str | None, known: bool
) -> None:
    compared = []

    def counting(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return real(one, other)

    real = hmac.compare_digest
    with opened(tmp_path) as (door, _):
        if known:
            await door.reply(reading("PUT", RUNS, bearer(), GOOD))
        monkeypatch.setattr(hmac, "compare_digest", counting)
        wrong = {SECRETS.reader(OTHER), SECRETS.bearer} if token is None else {None}
        for method, path in (("PUT", RUNS), ("GET", f"{RUNS}/arrivals"), ("GET", "/v1/info")):
            reply = await door.reply(reading(method, path, token, b"no JSON"))
            assert (reply.status, reply.value) == (401, {"error": "a valid token is needed"})
        for each in filter(None, wrong):
            assert (await door.reply(reading("GET", f"{RUNS}/arrivals", bearer(each)))).status == 401
    # One comparison for each request, of digests: the work is the same for whatever was given.
    assert compared == [(32, 32)] * (5 if token is None else 3)


async def test_a_runs_token_reads_that_run_only(tmp_path: Path) -> None:
    with opened(tmp_path) as (door, _):
        for run in (RUN, OTHER):
            await door.reply(reading("PUT", f"/v1/runs/{run}", bearer(), GOOD))
        mine = bearer(SECRETS.reader(RUN))
        assert (await door.reply(reading("GET", f"{RUNS}/arrivals", mine))).status == 200
        assert (await door.reply(reading("GET", f"/v1/runs/{OTHER}/arrivals", mine))).status == 401
        assert (await door.reply(reading("PUT", RUNS, mine, GOOD))).status == 401
        assert (await door.reply(reading("GET", "/v1/info", mine))).status == 401


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "body:1: not JSON: Expecting value (column 1)"),
        (b"\xff", "body:1: not JSON: Expecting value (column 1)"),
        ([], "expected a table"),
        ({"key": KEY.hex()}, "seconds: missing"),
        (GOOD | {"more": 1}, "unknown key 'more'"),
        (GOOD | {"key": "xyz"}, "key: expected 16 to 64 bytes as hex"),
        (GOOD | {"key": "00"}, "key: expected 16 to 64 bytes as hex"),
        (GOOD | {"key": "0" * 31}, "key: expected 16 to 64 bytes as hex"),
        (GOOD | {"seconds": 0}, "seconds: expected a number above 0"),
        (GOOD | {"seconds": -math.pi}, "seconds: expected a number above 0"),
        (b'{"key": "%b", "seconds": 1e999}' % KEY.hex().encode(), "seconds: expected a number above 0"),
        (b'{"key": "%b", "seconds": NaN}' % KEY.hex().encode(), "body: not JSON: NaN is not a JSON number"),
        (GOOD | {"seconds": True}, "seconds: expected a number, got true"),
        (b"[" * 9000, "body: not JSON: nested too deeply"),
    ],
)
async def test_a_registration_that_is_none(tmp_path: Path, body: Any, error: str) -> None:
    with opened(tmp_path) as (door, _):
        reply = await door.reply(reading("PUT", RUNS, bearer(), body))
    assert (reply.status, reply.value) == (400, {"error": error})


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/runs/", 404),
        ("GET", f"/v1/runs/{RUN.lower()}/arrivals", 404),
        ("GET", f"/v1/runs/{'Z' * 26}/arrivals", 404),
        ("GET", f"/v1/runs/{RUN}/arrivals?x", 404),
        ("GET", f"/v1/runs/{RUN}/../../info", 404),
        ("POST", RUNS, 405),
        ("DELETE", RUNS, 405),
        ("PUT", "/v1/info", 405),
    ],
)
async def test_what_is_not_there(tmp_path: Path, method: str, target: str, status: int) -> None:
    with opened(tmp_path) as (door, _):
        assert (await door.reply(reading(method, target, bearer(), GOOD))).status == status


async def test_no_http_is_told_so(tmp_path: Path) -> None:
    broken = web.Reading()
    broken.feed(b"\0\0\r\n\r\n")
    with opened(tmp_path) as (door, _):
        assert (await door.reply(broken)).status == 400


async def asked(port: int, data: bytes) -> tuple[int, bytes]:
    """The status and the body that come back, over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    status, body = 0, b""
    async with trio.SSLStream(await trio.open_tcp_stream("127.0.0.1", port), context) as stream:
        await stream.send_all(data)
        while True:
            event = client.next_event()
            if event is h11.NEED_DATA:
                client.receive_data(bytes(await stream.receive_some()))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                return status, body


async def test_strangers_do_not_lock_controllers_out(tmp_path: Path) -> None:
    with opened(tmp_path) as (door, _):
        door._remember("203.0.113.7")
        assert not all(door._admits(f"{n % 200 + 1}.{n // 200}.1.1") for n in range(2000))
        assert door._admits("203.0.113.8")  # of the same network
        for n in range(300):
            door._remember(f"10.0.{n}.1" if n < 256 else f"10.1.{n - 256}.1")
        assert prefix("203.0.113.8") not in door._known
        assert len(door._known) == 256


async def test_many_arrivals_are_one_document(tmp_path: Path) -> None:
    made = [Arrival(n, float(n), "tcp", "tcp", "127.0.0.1", 1, 4444, syn="45") for n in range(1201)]
    (bound,) = listening.open_all([listening.Place("api", "127.0.0.1", 0)])
    with opened(tmp_path, rows=2000) as (door, store):
        async with trio.open_nursery() as nursery:
            entrance = Door(door.serve, nursery, Seats(api.SEATS, api.SEATS_PER_SOURCE, door.tally), api.DEADLINE)
            nursery.start_soon(entrance.accept, bound.sock)
            head = f"GET {RUNS}/arrivals HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer(SECRETS.reader(RUN))}\r\n\r\n".encode()
            await door.reply(reading("PUT", RUNS, bearer(), GOOD))
            status, body = await asked(bound.port, head)
            assert (status, decode(Arrivals, json.loads(body)).arrivals) == (200, ())
            assert all(store.append([(RUN, each) for each in made]))
            status, body = await asked(bound.port, head)
            assert (status, decode(Arrivals, json.loads(body)).arrivals) == (200, tuple(made))
            status, body = await asked(bound.port, b"GET /v1/info HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (status, json.loads(body)) == (401, {"error": "a valid token is needed"})
            with socket.create_connection(("127.0.0.1", bound.port)) as plain:
                plain.sendall(b"GET /v1/info HTTP/1.1\r\n\r\n")
                while not door.tally["api broken"]:
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    listening.close_all([bound])

"""Webhooks against real servers: what is posted, what an answer means, and what a hostile server cannot do."""

import json
import math
from pathlib import Path

import pytest
import trio

import probe
from probe.alert import Alert
from probe.alerts import CHANNELS, DeliveryError, webhook
from probe.alerts.deliver import Outcome, deliver
from probe.alerts.refusing import retry_after
from probe.codec import decode, encode
from tests.alerts.make import ALERT, hostile, private
from tests.alerts.web import Answer, abort, drip, flood, hang, head, server

# Long enough never to be what decides; where a server never ends its answer, short.
PLENTY = 60.0
SHORT = 0.4


async def failure(answer: Answer, deadline: float = PLENTY) -> DeliveryError:
    async with server(answer) as there:
        with pytest.raises(DeliveryError) as caught:
            await webhook.make(there.url(), deadline).send(ALERT)
        return caught.value


async def test_the_alert_arrives_as_it_is() -> None:
    async with server(head(200)) as there:
        channel = CHANNELS["webhook"](there.url("/hook?key=1"))
        await channel.send(ALERT)
        await channel.send(hostile())
    first, second = there.got
    assert channel.name == "webhook 127.0.0.1"
    assert first.target == "/hook?key=1"
    assert decode(Alert, json.loads(first.body)) == ALERT
    assert json.loads(second.body) == json.loads(json.dumps(encode(hostile())))
    told = {name: first.headers[name] for name in ("content-type", "idempotency-key", "user-agent")}
    assert told == {
        "content-type": "application/json",
        "idempotency-key": ALERT.id,
        "user-agent": f"egress-probe/{probe.__version__}",
    }
    assert "authorization" not in first.headers
    assert second.headers["idempotency-key"].startswith("a%22b%5Cc%5Dd%0A%3C!channel%3E")


ANSWERS: list[tuple[int, str | None, bool]] = [
    (200, None, False),
    (201, None, False),
    (204, None, False),
    (299, None, False),
    (301, "it answered with a redirect (301), which is not followed", True),
    (307, "it answered with a redirect (307), which is not followed", True),
    (400, "it answered 400 Bad Request", False),
    (401, "it answered 401 Unauthorized", True),
    (404, "it answered 404 Not Found", True),
    (410, "it answered 410 Gone", False),
    (429, "it answered 429 Too Many Requests", True),
    (499, "it answered 499", True),
    (500, "it answered 500 Internal Server Error", True),
    (503, "it answered 503 Service Unavailable", True),
    (599, "it answered 599", True),
]


@pytest.mark.parametrize(("status", "words", "again"), ANSWERS)
async def test_what_an_answer_means(status: int, words: str | None, again: bool) -> None:
    body = b"" if status == 204 else b"<b>secret of theirs</b>"
    async with server(head(status, body=body)) as there:
        outcomes = await deliver([(ALERT, webhook.make(there.url()))], tries=1)
    assert outcomes == [Outcome(words, again)]
    assert there.connections == 1


async def test_it_is_sent_again_after_a_500_with_the_same_key() -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with server(head(500), abort, head(200)) as there:
        outcomes = await deliver([(ALERT, webhook.make(there.url()))], sleep=sleep, random=lambda: 0.5)
    assert outcomes == [Outcome(None, False)]
    assert pauses == [0.5, 2.0]
    assert [request.headers["idempotency-key"] for request in there.got] == [ALERT.id] * 3
    assert len({request.body for request in there.got}) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_takes_nothing_elsewhere(status: int) -> None:
    async with server(head(200)) as elsewhere, server(head(status, f"Location: {elsewhere.url('/stolen')}")) as there:
        with pytest.raises(DeliveryError, match="redirect") as caught:
            await webhook.make(there.url()).send(ALERT)
        assert caught.value.again
        assert (there.connections, elsewhere.connections) == (1, 0)
        await webhook.make(elsewhere.url()).send(ALERT)  # it would have been seen
        assert elsewhere.connections == 1


# What never ends in time, however long the time is.
ENDLESS: list[tuple[str, Answer]] = [
    ("never answers", hang),
    ("drips its status line", drip(b"H", b"T")),
    ("drips headers", drip(b"HTTP/1.1 200 OK\r\nX: ", b"y")),
    ("sends 1xx for good", drip(b"HTTP/1.1 ", b"103 Early Hints\r\n\r\nHTTP/1.1 ")),
]


@pytest.mark.parametrize("answer", [answer for _, answer in ENDLESS], ids=[name for name, _ in ENDLESS])
async def test_the_whole_exchange_has_a_deadline(answer: Answer) -> None:
    error = await failure(answer, SHORT)
    assert (str(error), error.again) == ("no answer within 0.4 s", True)


async def test_once_the_head_is_there_the_body_decides_nothing() -> None:
    for answer in (drip(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"), flood(b"HTTP/1.1 200 OK\r\n\r\n")):
        async with server(answer) as there:
            with trio.fail_after(PLENTY):
                await webhook.make(there.url(), math.inf).send(ALERT)
    refused = await failure(drip(b"HTTP/1.1 404 Not Found\r\n\r\n"), SHORT)
    assert (str(refused), refused.again) == ("it answered 404 Not Found", True)
    cut = await failure(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 99\r\n\r\nhalf")
    assert (str(cut), cut.again) == ("it answered 400 Bad Request", False)
    broken = await failure(b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n")
    assert (str(broken), broken.again) == ("it answered 400 Bad Request", False)


async def test_a_huge_answer_is_read_in_part() -> None:
    refused = await failure(flood(b"HTTP/1.1 500 No\r\n\r\n"))  # for good: only a bound ends it before PLENTY
    assert (str(refused), refused.again) == ("it answered 500 Internal Server Error", True)
    packed = b"HTTP/1.1 400 No\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"
    assert str(await failure(packed)) == "it answered 400 Bad Request"


BROKEN: list[tuple[str, Answer, str]] = [
    ("closes at once", abort, "it broke off, or what it answered is no HTTP"),
    ("no HTTP", b"SSH-2.0-OpenSSH_9.2\r\n", "it broke off, or what it answered is no HTTP"),
    ("endless head", flood(b"HTTP/1.1 200 OK\r\nX: "), "it broke off, or what it answered is no HTTP"),
    ("upgrade", b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "it broke off, or what it answered is no HTTP"),
]


@pytest.mark.parametrize(("answer", "words"), [row[1:] for row in BROKEN], ids=[name for name, *_ in BROKEN])
async def test_answers_that_are_none(answer: Answer, words: str) -> None:
    assert str(await failure(answer)) == words


async def test_hostile_headers_do_nothing() -> None:
    headers = ("Location: http://[", "Set-Cookie: a=b; expires=\xff; domain=..", "Retry-After: \xff", "Date: ;")
    assert str(await failure(head(302, *headers))).startswith("it answered with a redirect (302)")
    assert str(await failure(head(503, *headers))) == "it answered 503 Service Unavailable"


async def test_nobody_listens() -> None:
    async with server(head(200)) as there:
        pass
    with pytest.raises(DeliveryError, match=r"\AConnection refused\Z") as caught:
        await webhook.make(there.url()).send(ALERT)
    assert caught.value.again
    with pytest.raises(DeliveryError, match="name") as caught:  # no resolver can be reached here
        await webhook.make("https://hooks.invalid/x").send(ALERT)
    assert caught.value.again


RETRY_AFTER: list[tuple[str, str, float | None]] = [
    ("7", "", 7.0),
    ("0", "", 0.0),
    ("9" * 5000, "", 999999999.0),
    ("Fri, 02 Jan 2026 03:04:25 GMT", "Fri, 02 Jan 2026 03:04:05 GMT", 20.0),
    ("Fri, 02 Jan 2026 03:04:05 GMT", "Fri, 02 Jan 2026 03:04:25 GMT", 0.0),
    ("Fri, 02 Jan 2026 03:04:25 GMT", "", None),
    ("Fri, 02 Jan 2026 03:04:25 -0000", "Fri, 02 Jan 2026 03:04:05 GMT", None),
    ("-7", "", None),
    ("1.5", "", None),
    ("٧", "", None),
    ("soon", "now", None),
    ("", "", None),
]


@pytest.mark.parametrize(("value", "date", "seconds"), RETRY_AFTER)
def test_retry_after(value: str, date: str, seconds: float | None) -> None:
    assert retry_after(value, date) == seconds


async def test_retry_after_reaches_the_delivery() -> None:
    assert (await failure(head(429, "Retry-After: 7"))).after == 7.0


async def test_authorization(tmp_path: Path) -> None:
    async with server(head(200)) as there:
        await webhook.make(f"@{private(tmp_path, there.url(), 'Bearer abc.DEF~1==')}").send(ALERT)
        await webhook.make(there.url().replace("//", "//us%3Aer:p%40ss@")).send(ALERT)
    assert there.got[0].headers["authorization"] == "Bearer abc.DEF~1=="
    assert there.got[1].headers["authorization"] == "Basic dXM6ZXI6cEBzcw=="  # us:er:p@ss
    assert {request.headers["host"] for request in there.got} == {f"127.0.0.1:{there.port}"}

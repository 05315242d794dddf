"""A secret is planted wherever a user can put one; no name, error, log, warning or output may hold it."""

import logging
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from probe.alerts import CHANNELS, Channel
from probe.alerts.deliver import deliver
from probe.errors import UserError
from tests.alerts.make import ALERT, private
from tests.alerts.web import Answer, abort, hang, head, server

SECRET = "S3cr3t"
# As it is, and as it goes into Basic credentials (its three alignments).
FORMS = (SECRET, "UzNjcjN0", "MzY3Izd", "TM2NyM3")


@pytest.fixture(autouse=True)
def nothing_said(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Every logger at its loudest; what was logged and printed is looked at afterwards."""
    caplog.set_level(logging.DEBUG)
    yield
    out, err = capfd.readouterr()
    clean(out, err, caplog.text)


def clean(*texts: str) -> None:
    for text in texts:
        assert not any(form in text for form in FORMS), text


async def no_pause(seconds: float) -> None:
    await trio.lowlevel.checkpoint()


async def said(channel: Channel) -> str:
    """Everything that is said of a channel and of one delivery; the outcome's words last."""
    (outcome,) = await deliver([(ALERT, channel)], tries=2, sleep=no_pause)
    try:
        await channel.send(ALERT)
        shown = ""
    except Exception as error:  # noqa: BLE001 - whatever it is, a traceback of it must be clean
        shown = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
    clean(channel.name, repr(channel), str(channel), shown, repr(outcome))
    return str(outcome.error)


LOCATIONS = [f"/services/{SECRET}", f"/?token={SECRET}", f"/#{SECRET}"]
# The server has the secret as well, and says it wherever it can.
ANSWERS: list[Answer] = [
    head(200, f"X-Echo: {SECRET}", body=SECRET.encode()),
    head(302, f"Location: https://{SECRET}.example/{SECRET}", body=SECRET.encode()),
    head(404, f"X-Echo: {SECRET}", body=SECRET.encode()),
    head(429, f"Retry-After: {SECRET}", f"Date: {SECRET}", body=SECRET.encode()),
    f"HTTP/1.1 500 {SECRET}\r\nContent-Length: 6\r\n\r\n{SECRET}".encode(),
    f"{SECRET} {SECRET}\r\n\r\n".encode(),
    abort,
    hang,
]


@pytest.mark.parametrize("channel", ["webhook", "slack"])
@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
async def test_in_a_url(channel: str, answer: Answer, tmp_path: Path) -> None:
    make = CHANNELS[channel] if answer is not hang else SHORT[channel]
    async with server(answer) as there:
        for location in LOCATIONS:
            await said(make(there.url(location)))
        await said(make(there.url("/").replace("//", f"//{SECRET}:{SECRET}@")))
        await said(make(f"@{private(tmp_path, there.url(f'/{SECRET}'), f'Bearer {SECRET}')}"))
        assert any(SECRET in request.target for request in there.got)  # it was there to be told
        assert any(SECRET in request.headers.get("authorization", "") for request in there.got)


def _short(name: str) -> object:
    from probe.alerts import slack, webhook

    return lambda value: {"webhook": webhook, "slack": slack}[name].make(value, 0.1)


SHORT = {name: _short(name) for name in ("webhook", "slack")}


async def test_where_nobody_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server(head(200)) as there:
        pass
    for channel in ("webhook", "slack"):
        assert await said(CHANNELS[channel](there.url(f"/{SECRET}"))) == "Connection refused"
        assert "name" in await said(CHANNELS[channel](f"https://hooks.invalid/{SECRET}"))
    async with server(head(407, f"Proxy-Authenticate: {SECRET}", body=SECRET.encode())) as there:
        monkeypatch.setenv("HTTPS_PROXY", there.url("").replace("//", f"//{SECRET}:{SECRET}@"))
        assert await said(CHANNELS["webhook"](f"https://hooks.invalid/{SECRET}")) == "the proxy answered 407"


VALUES = [
    f"http://hooks.example/{SECRET}", f"https://hooks.example:{SECRET}/", f"https://[{SECRET}]/", f"https://hooks.example/{SECRET} ",
    f"https://{SECRET}@/", f"{SECRET}://x.example/", SECRET, f"https://me:{SECRET}@hooks.example:0/", f"https://hooks.example/é{SECRET}",
]  # fmt: skip


@pytest.mark.parametrize("channel", ["webhook", "slack"])
@pytest.mark.parametrize("value", VALUES)
def test_in_a_value_that_is_refused(channel: str, value: str, tmp_path: Path) -> None:
    for given in (value, f"@{private(tmp_path, value)}", f"@{private(tmp_path, 'https://x.example/', SECRET)}"):
        with pytest.raises(UserError) as caught:
            CHANNELS[channel](given)
        clean(str(caught.value), "".join(traceback.format_exception(caught.value)))
        assert str(caught.value).startswith(f"--alert {channel}")


async def test_in_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = tmp_path / "hook"
    hook.write_text('#!/bin/sh\necho "$@"; echo "$@" >&2; env; cat; exit 1\n')
    hook.chmod(0o700)
    monkeypatch.setenv("EGRESS_PROBE_COLLECTOR_TOKEN", SECRET)
    channel = CHANNELS["command"](f"{hook} --password {SECRET}")
    assert channel.name == "command hook"
    assert await said(channel) == "it ended with status 1"
    for value in (f"{hook} '{SECRET}", f"PASSWORD={SECRET} {hook}", f"/none/such --password {SECRET}"):
        with pytest.raises(UserError) as caught:
            CHANNELS["command"](value)
        clean(str(caught.value), "".join(traceback.format_exception(caught.value)))


async def test_the_command_gets_no_secret_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EGRESS_PROBE_COLLECTOR_TOKEN", "EGRESS_PROBE_WEBHOOK", "EGRESS_PROBE_SLACK", "EGRESS_PROBE_ANYTHING"):
        monkeypatch.setenv(name, SECRET)
    out = tmp_path / "out"
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\nenv > {out}\ntr '\\0' '\\n' < /proc/self/environ >> {out}\ncat >> {out}\n")
    hook.chmod(0o700)
    await CHANNELS["command"](str(hook)).send(ALERT)
    assert "EGRESS_PROBE_RUN_ID" in out.read_text()
    clean(out.read_text())


def test_the_forms_that_are_looked_for() -> None:
    """The secret is found in each way that Basic credentials can align it."""
    from base64 import b64encode

    for before in range(3):
        assert any(form in b64encode(b"x" * before + SECRET.encode() + b":y").decode() for form in FORMS)
    assert os.environ.get("HTTPS_PROXY") is None

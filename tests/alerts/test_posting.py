"""The way to a webhook: TLS that is trusted or not, and the proxy of the environment."""

import json
import ssl
from pathlib import Path

import pytest
import trio
import trustme

from probe.alerts import DeliveryError, webhook
from tests.alerts.make import ALERT
from tests.alerts.web import head, server

PLENTY = 60.0
SHORT = 0.4


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """A CA that this system trusts."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return made


def context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(made)
    return made


async def test_tls(authority: trustme.CA) -> None:
    async with server(head(200), tls=context(authority, "127.0.0.1")) as there:
        await webhook.make(there.url(scheme="https")).send(ALERT)
    assert json.loads(there.got[0].body)["id"] == ALERT.id


@pytest.mark.parametrize(("issuer", "name"), [("ours", "other.test"), ("theirs", "127.0.0.1")])
async def test_a_wrong_certificate_gets_nothing(authority: trustme.CA, issuer: str, name: str) -> None:
    async with server(head(200), tls=context(authority if issuer == "ours" else trustme.CA(), name)) as there:
        with pytest.raises(DeliveryError, match=r"\Aits certificate: ") as caught:
            await webhook.make(there.url(scheme="https")).send(ALERT)
    assert caught.value.again
    assert there.got == []


async def test_tls_that_hangs_or_is_none(authority: trustme.CA) -> None:
    async def silent(stream: trio.SocketStream) -> None:
        async with stream:
            await trio.sleep_forever()

    async def other(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(b"220 mail.test ESMTP\r\n")
            await stream.receive_some()

    for handle, words, deadline in ((silent, "no answer within 0.4 s", SHORT), (other, "TLS failed", PLENTY)):
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, handle, [listener])
            with pytest.raises(DeliveryError) as caught:
                await webhook.make(f"https://127.0.0.1:{port}/x", deadline).send(ALERT)
            assert str(caught.value) == words
            nursery.cancel_scope.cancel()


async def test_the_proxy_of_the_environment(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees a CONNECT, with its own password and nothing of the URL; and never what goes to this host in the clear."""
    asked: list[bytes] = []
    async with server(head(200), tls=context(authority, "hooks.test")) as there:

        async def tunnel(stream: trio.SocketStream) -> None:
            async with stream:
                said = b""
                while b"\r\n\r\n" not in said:
                    said += await stream.receive_some()
                asked.append(said)
                async with await trio.open_tcp_stream("127.0.0.1", there.port) as on, trio.open_nursery() as nursery:
                    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
                    nursery.start_soon(copy, on, stream, nursery.cancel_scope)
                    await copy(stream, on, nursery.cancel_scope)

        async def copy(one: trio.SocketStream, other: trio.SocketStream, scope: trio.CancelScope) -> None:
            async for data in one:
                await other.send_all(data)
            scope.cancel()

        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, tunnel, [listener])
            monkeypatch.setenv("HTTPS_PROXY", f"http://me:pw@127.0.0.1:{listener.socket.getsockname()[1]}")
            monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
            await webhook.make("https://hooks.test/secret").send(ALERT)
            async with server(head(200)) as plain:
                await webhook.make(plain.url()).send(ALERT)
            nursery.cancel_scope.cancel()
    assert there.got[0].target == "/secret"
    assert plain.connections == 1
    assert len(asked) == 1
    assert asked[0].startswith(b"CONNECT hooks.test:443 HTTP/1.1\r\n")
    assert b"Basic bWU6cHc=" in asked[0]
    assert b"secret" not in asked[0]


async def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server(head(403, body=b"secret")) as there:
        monkeypatch.setenv("HTTPS_PROXY", there.url(""))
        with pytest.raises(DeliveryError, match=r"\Athe proxy answered 403\Z") as caught:
            await webhook.make("https://hooks.test/secret").send(ALERT)
    assert caught.value.again

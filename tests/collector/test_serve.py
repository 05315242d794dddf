"""The collector as a process: from its start over every way in, a restart and a kill, to SIGTERM."""

import os
import signal
import socket
import ssl
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import dns.message
import pytest

from probe import tokens
from probe.codec import decode
from probe.documents import Arrivals, Collector
from probe.farclient import parse_url
from tests.collector.house import KEY, RUN, ZONE, is_receipt, token
from tests.collector.process import PORTS, Running, command, running
from tests.collector.tcp_load import load

OTHER = tokens.new_run_id(1_700_000_000_001, bytes(10))


def say(port: int, data: bytes, name: str | None = None, protocols: tuple[str, ...] = ()) -> bytes:
    """Everything that comes back over TCP; in TLS where there is a `name`, which may be empty."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        sock: socket.socket = plain
        if name is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            if protocols:
                context.set_alpn_protocols(protocols)
            sock = context.wrap_socket(plain, server_hostname=name or None)
        sock.sendall(data)
        found = b""
        while not is_receipt(found, 1) and (part := sock.recv(4096)):
            found += part
        if name is not None:
            sock.close()
        return found


def query(check: int) -> bytes:
    return dns.message.make_query(f"{token(check)}.{ZONE}", "TXT").to_wire()


def ask_udp(port: int, data: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.sendto(data, ("127.0.0.1", port))
        return sock.recv(4096)


def text(reply: bytes) -> bytes:
    return str(dns.message.from_wire(reply).answer[0]).encode()


def framed(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def _every_way() -> None:
    assert is_receipt(say(4444, token().encode()))
    assert is_receipt(say(8080, f"GET /{token()} HTTP/1.1\r\nHost: x\r\n\r\n".encode()))
    assert is_receipt(say(8080, b"", f"{token()}.at.{ZONE}"))
    assert is_receipt(say(8853, f"GET /{token()} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), ""))
    doh = f"POST /dns-query HTTP/1.1\r\nHost: x\r\nContent-Type: application/dns-message\r\nContent-Length: {len(query(1))}\r\n\r\n"
    assert is_receipt(say(8080, doh.encode() + query(1), ""))
    assert is_receipt(say(8080, framed(query(1)), "", ("dot",)))
    assert is_receipt(say(5353, framed(query(1))))
    assert is_receipt(ask_udp(4444, token().encode()))
    assert is_receipt(text(ask_udp(5353, query(1))))


WAYS = [
    ("tcp", "tcp", 4444), ("http", "tcp", 8080), ("tls", "tls", 8080), ("http", "tls", 8853), ("dns", "https", 8080),
    ("dns", "tls", 8080), ("dns", "tcp", 53), ("udp", "udp", 4444), ("dns", "udp", 53),
]  # fmt: skip


def test_every_way_in_a_restart_and_the_end(tmp_path: Path) -> None:
    with running(tmp_path) as far:
        address, told = parse_url(far.url)
        assert decode(Collector, far.ask("GET", "/v1/info", far.bearer)[1]) == told
        read = far.register()
        _every_way()
        said = decode(Arrivals, far.arrivals(read))
        assert [(each.channel, each.over, each.at) for each in said.arrivals] == WAYS
        assert all((each.syn is not None) == (each.over != "udp") for each in said.arrivals)
        assert said.reachable == ()  # what comes from this very host shows nothing of the world
        assert said.lost == 0
        _refusals(far, read)
        code, log = far.stop()
    assert code == 0
    for secret in (far.bearer, read, token(), token()[-16:], KEY.hex()):
        assert secret not in log + far.url
    assert "http over tls 1" in log

    with running(tmp_path) as far:
        assert parse_url(far.url)[0] == address  # the same certificate
        assert far.register() == read
        again = decode(Arrivals, far.arrivals(read))
        assert again.arrivals == said.arrivals
        assert again.lost > 0  # what came in between is not known
        assert far.stop()[0] == 0


def _refusals(far: Running, read: str) -> None:
    runs = f"/v1/runs/{RUN}"
    same = {
        repr(far.ask(method, path, shown, {}))
        for shown in (None, "", "wrong", read[:-1])
        for method, path in (("GET", f"{runs}/arrivals"), ("GET", f"/v1/runs/{OTHER}/arrivals"), ("PUT", runs))
    }
    assert same == {repr((401, {"error": "a valid token is needed"}))}
    assert far.ask("GET", f"/v1/runs/{OTHER}/arrivals", read)[0] == 401
    assert far.ask("GET", f"{runs}/arrivals", far.bearer)[0] == 401


@pytest.mark.parametrize("after", [1, 700])
def test_a_kill_in_the_middle_loses_nothing_that_was_acknowledged(tmp_path: Path, after: int) -> None:
    """64 connections at a time are in flight, and what any of them was answered counts."""
    acknowledged: list[bytes] = []
    with running(tmp_path) as far:
        far.register()

        def heard(message: bytes) -> None:
            acknowledged.append(message)
            if len(acknowledged) == after:
                far.process.send_signal(signal.SIGKILL)

        load("127.0.0.1", 4444, [token(check).encode() + b"\n" for check in range(2000)], 64, 0, heard)
    assert after <= len(acknowledged) < 2000
    with running(tmp_path) as far:
        kept = {token(each["check"]).encode() + b"\n" for each in far.arrivals(far.register())["arrivals"]}
    assert kept.issuperset(acknowledged)


def test_what_is_in_flight_when_it_is_stopped_is_finished(tmp_path: Path) -> None:
    with running(tmp_path) as far:
        far.register()
        with socket.create_connection(("127.0.0.1", 4444), timeout=10) as early:
            early.sendall(token()[:20].encode())
            assert is_receipt(say(4444, token().encode()))  # so the early one was accepted
            far.process.send_signal(signal.SIGTERM)
            with suppress(OSError):  # until nobody accepts any more
                while True:
                    socket.create_connection(("127.0.0.1", 4444), timeout=10).close()
            far.process.send_signal(signal.SIGTERM)
            early.sendall(token()[20:].encode())
            assert is_receipt(early.recv(4096))
        assert far.process.wait(10) == 0


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--zone", "-"), "--zone -: expected a domain name"),
        (("--address", "nowhere"), "--address nowhere: expected an IPv4 or IPv6 address"),
        (("--api", "x"), "--api x: expected PORT, ADDRESS:PORT or [IPV6]:PORT"),
        (("--api", "::1:8443"), "--api ::1:8443: expected [IPV6]:PORT with brackets"),
        (("--tcp", "http"), "Invalid value for '--tcp': 'http': expected ports from 1 to 65535, such as 53,80,443."),
        (("--certificate", "x"), "--certificate and --key: expected both or none"),
        (("--listen", "192.0.2.77"), "cannot listen on tcp 192.0.2.77:8080: this host has no such address (--listen)"),
    ],
)
def test_what_is_refused_is_one_line(tmp_path: Path, options: tuple[str, ...], line: str) -> None:
    found = subprocess.run(
        command(tmp_path, *PORTS, *options),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env=dict(os.environ),
    )
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr.startswith(f"egress-probe: {line}")
    assert found.stderr.count("\n") == 1


def test_one_state_folder_serves_one_collector(tmp_path: Path) -> None:
    with running(tmp_path) as far:
        second = subprocess.run(
            command(tmp_path), capture_output=True, text=True, check=False, timeout=30, env=dict(os.environ)
        )
        assert second.returncode == 2
        assert second.stderr.count("\n") == 1
        assert far.stop()[0] == 0

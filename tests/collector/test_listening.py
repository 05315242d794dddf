"""Sockets: opened, refused, redirected to, handed over as systemd does it."""

import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from probe.collector import listening
from probe.collector.listening import Bound, Place
from probe.errors import UserError
from probe.lab.namespaces import in_isolation


def test_every_port_on_every_address() -> None:
    found = listening.places("tcp", ("127.0.0.1", "::1"), (0, 0))
    bound = listening.open_all(found)
    assert [each.sock.family for each in bound] == [socket.AF_INET, socket.AF_INET, socket.AF_INET6, socket.AF_INET6]
    assert all(each.port for each in bound)
    listening.close_all(bound)


def test_ipv6_does_not_take_ipv4s_place() -> None:
    (six,) = listening.open_all([Place("tcp", "::", 0)])
    (four,) = listening.open_all([Place("tcp", "0.0.0.0", six.port)])
    listening.close_all([six, four])


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_port_that_is_taken(kind: listening.Kind) -> None:
    bound = listening.open_all([Place(kind, "127.0.0.1", 0)])
    place = Place(kind, "127.0.0.1", bound[0].port)
    with pytest.raises(
        UserError, match=rf"^cannot listen on {kind} 127.0.0.1:{place.port}: another process listens there"
    ):
        listening.open_all([Place("tcp", "127.0.0.1", 0), place])
    listening.close_all(bound)


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(UserError, match=r"^cannot listen on tcp \[2001:db8::1\]:4444: this host has no such address"):
        listening.open_all([Place("tcp", "2001:db8::1", 4444)])


def test_a_port_that_needs_a_privilege() -> None:
    code = (
        "import os; from probe.collector.listening import *; os.setgroups([]); os.setuid(65534)\n"
        "try: open_all([Place('udp', '0.0.0.0', 53)])\n"
        "except Exception as error: print(error)"
    )

    def inside() -> str:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout

    if os.geteuid() != 0:
        pytest.skip("needs root to become nobody")
    assert "permission denied (ports below 1024" in inside()
    assert "net.ipv4.ip_unprivileged_port_start=53" in inside()


# --- systemd ----------------------------------------------------------------------------------------------------------

_CODE = """
import os, sys
from probe.collector.listening import inherited
environment = dict(os.environ, LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[1], LISTEN_FDNAMES=sys.argv[2])
try:
    for each in inherited(environment, os.getpid()):
        print(each.kind, each.port, os.get_inheritable(each.sock.fileno()))
    print(sorted(key for key in environment if key.startswith("LISTEN_")))
except Exception as error:
    print(type(error).__name__, error)
"""


def handed_over(count: str, names: str, *sockets: socket.socket) -> list[str]:
    """What a process that was started with these sockets from descriptor 3 on makes of them."""

    def place() -> None:
        for index, sock in enumerate(sockets):
            os.dup2(sock.fileno(), 100 + index)
        for index in range(len(sockets)):
            os.dup2(100 + index, 3 + index)

    return subprocess.run(
        [sys.executable, "-c", _CODE, count, names],
        capture_output=True,
        text=True,
        preexec_fn=place,
        close_fds=False,
        check=True,
    ).stdout.splitlines()


def test_sockets_of_systemd() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.create_server(("127.0.0.1", 0)) as api,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        udp.bind(("127.0.0.1", 0))
        found = handed_over("3", "tokens:api", tcp, api, udp)
        ports = [each.getsockname()[1] for each in (tcp, api, udp)]
    assert found == [f"tcp {ports[0]} False", f"api {ports[1]} False", f"udp {ports[2]} False", "[]"]


@pytest.mark.parametrize(
    ("count", "line"),
    [
        ("x", "UserError LISTEN_FDS: expected a number of sockets, got 'x'"),
        ("0", "UserError LISTEN_FDS: expected a number of sockets, got '0'"),
        ("99999", "UserError LISTEN_FDS: expected a number of sockets, got '99999'"),
    ],
)
def test_a_number_that_is_none(count: str, line: str) -> None:
    assert handed_over(count, "") == [line]


def test_descriptors_that_are_no_sockets() -> None:
    one, other = socket.socketpair()
    with one, other:
        (line,) = handed_over("1", "", one)
    assert line.startswith("UserError LISTEN_FDS: descriptor 3 is not of the Internet")


@pytest.mark.parametrize("environment", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "3"}, {"LISTEN_PID": "77"}])
def test_what_was_meant_for_another_process(environment: dict[str, str]) -> None:
    assert listening.inherited(environment, 77) == []
    assert environment == {}


# --- accepted ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("fe80::1%lo", "fe80::1"),
    ],
)
def test_addresses_have_one_form(given: str, found: str) -> None:
    assert listening.normal(given) == found


_RULES = """
table inet redirected {
  chain output {
    type nat hook output priority -100; policy accept;
    tcp dport 1-4443 redirect to :4444
  }
}
"""


def _redirected() -> list[Any]:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["nft", "-f", "-"], input=_RULES, text=True, check=True)
    bound = listening.open_all(listening.places("tcp", ("127.0.0.1", "::1"), (4444,)))
    pairs = zip(bound, ("127.0.0.1", "::1"), strict=True)
    return [_one(each, address, port) for each, address in pairs for port in (25, 4444)]


def _one(listener: Bound, address: str, port: int) -> Any:
    with socket.create_connection((address, port)):
        listener.sock.setblocking(True)
        accepted, _ = listener.sock.accept()
        with accepted:
            syn = listening.saved_syn(accepted)
            assert listening.saved_syn(accepted) is None
            return [listening.asked_port(accepted), (syn or "")[:1]]


@pytest.mark.real("nftables")
def test_the_port_that_was_asked_for_outlives_a_redirection() -> None:
    assert in_isolation(_redirected) == [[25, "4"], [4444, "4"], [25, "6"], [4444, "6"]]

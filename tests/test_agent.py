"""The agent's doors: it ends by itself whatever its starter does; and it answers where no event loop can start."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from probe import loopless
from probe.codec import decode, to_line
from probe.contradictions import contradicts
from probe.documents import Order, Orders, Record, Settings
from probe.lab.confine import cannot
from probe.model import Destination, DnsResolver, HttpRequest, Query, SelfTest, Transport
from probe.techniques import all_traits
from probe.techniques.names import Names
from tests.make import RUN_ID, check

AGENT = [sys.executable, "-I", "-m", "probe.agent"]
# Documentation addresses, in the namespace without an uplink that tests run in: one on loopback, one without a route.
HERE, AWAY = "203.0.113.200", "198.51.100.9"


def orders(*some: Order, seconds: float = 30.0) -> bytes:
    made = Orders("egress-probe.orders/1", RUN_ID, Settings(deadline=0.3, walk=False), 60, some, seconds=seconds)
    return (to_line(made) + "\n").encode()


def tcp(n: int, address: str, port: int = 9, **more: Any) -> Order:
    return Order(n, "tcp_connect", Destination(None, address, port), f"token-{n}", **more)


def evidence(done: "subprocess.CompletedProcess[bytes]") -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def confined(word: str, *some: Order) -> list[dict[str, Any]]:
    """Evidence of an agent under words of probe.lab.confine."""
    if (problem := cannot(word.split())) is not None:
        pytest.skip(problem)
    launcher = [sys.executable, "-I", "-m", "probe.lab.confine", *word.split(), "--"]
    return evidence(subprocess.run([*launcher, *AGENT], input=orders(*some), capture_output=True, check=False))


# --- ending ---


def test_it_leaves_when_nobody_reads_any_more() -> None:
    """Between two lines much time may pass: only the pipe tells."""
    silent = tuple(tcp(n, "192.0.2.1") for n in range(1))
    process = subprocess.Popen(AGENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(orders(*silent))
    process.stdin.close()
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) in (0, 1)
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


def test_it_leaves_at_its_deadline_and_says_that_it_was_not_done() -> None:
    # A resolver that does not answer: the look-up alone takes longer than there is.
    ask = Order(
        1, "dns_query", Destination(None, HERE, 9999), "token", query=Query("x.example", "TXT", DnsResolver.EXPLICIT)
    )
    lines = evidence(subprocess.run(AGENT, input=orders(ask, seconds=0.0), capture_output=True, check=False))
    assert (lines[-1]["kind"], lines[-1]["complete"]) == ("end", False)


def test_a_loop_that_does_not_turn_is_ended_by_force(tmp_path: Path) -> None:
    code = "import time\nfrom probe import agent\nagent._HARD = 1.0\nagent._end_by_force(0.0)\ntime.sleep(60)"
    begin = time.monotonic()
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 1
    assert time.monotonic() - begin < 50  # a bound against hanging, no measurement


@pytest.mark.real("namespaces")
def test_the_first_process_of_a_pid_namespace_is_ended_by_force_too() -> None:
    code = "import time\nfrom probe import agent\nagent._HARD = 1.0\nagent._end_by_force(0.0)\ntime.sleep(60)"
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", sys.executable, "-c", code]
    assert subprocess.run(command, check=False, timeout=50).returncode == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_what_was_done(number: int) -> None:
    process = subprocess.Popen(AGENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    waits = Order(
        1, "dns_query", Destination(None, "127.0.0.1", 9), "t", query=Query("x.example", "TXT", DnsResolver.EXPLICIT)
    )
    process.stdin.write(orders(waits, *(tcp(n, HERE, 9) for n in range(2, 4))))
    process.stdin.close()
    process.stdout.readline()
    os.kill(process.pid, number)
    rest = [json.loads(line) for line in process.stdout.read().splitlines()]
    process.stdout.close()
    assert process.wait(20) == 0
    assert rest[-1]["kind"] == "end"


def test_it_ends_where_no_orders_come() -> None:
    code = "from probe import agent\nagent._PATIENCE, agent._HARD = 0.5, 0.5\nimport sys; sys.exit(agent.main())"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.wait(50) == 1  # stdin is open all the time
    assert process.stdin is not None
    process.stdin.close()


def test_without_stdout_it_says_so_in_one_line() -> None:
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *AGENT], input=b"", capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        b"egress-probe agent: stdin and stdout are needed: orders in, evidence out\n",
    )


# --- without an event loop ---


def test_here_a_loop_can_start() -> None:
    assert loopless.problem() is None


CODEX = "seccomp-socket=EPERM seccomp-setsockopt=EPERM"
ALL = (
    tcp(1, "127.0.0.1", 0, self_test=SelfTest.OPEN),
    tcp(2, "127.0.0.1", 0, self_test=SelfTest.CLOSED),
    Order(3, "udp_datagram", Destination(None, "127.0.0.1", None), "token-3", self_test=SelfTest.OPEN),
    Order(4, "udp_datagram", Destination(None, "127.0.0.1", None), "token-4", self_test=SelfTest.CLOSED),
    tcp(5, HERE),
    tcp(6, AWAY),
    tcp(7, "2001:db8::9"),
    Order(8, "udp_datagram", Destination(None, HERE, 9), "token-8"),
    Order(9, "dns_query", Destination(None, HERE, 53), "t", query=Query("x.example", "TXT", DnsResolver.EXPLICIT)),
    Order(10, "dns_query", Destination(None, HERE, 53), "t", query=Query("x.example", "TXT", DnsResolver.EXPLICIT, Transport.TCP)),
    Order(11, "http_get", Destination("localhost", None, 9), "token-11", http=HttpRequest()),
    Order(12, "raw_syn", Destination(None, HERE, 9), "token-12"),
    Order(14, "udp_unconnected", Destination(None, HERE, 9), "token-14"),
    Order(15, "mptcp_connect", Destination(None, HERE, 9), "token-15"),
    Order(13, "dns_query", Destination(None, HERE, 53), "t", query=Query("x" * 70 + ".example", "TXT", DnsResolver.EXPLICIT)),
)  # fmt: skip


def told(record: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        tuple(attempt[key] for key in ("step", "result", "stage", "error") if attempt.get(key))
        for attempt in record["attempts"]
    ]


@pytest.mark.real("seccomp")
def test_sockets_that_work_while_setsockopt_is_refused() -> None:
    lines = confined("seccomp-setsockopt=EPERM", *ALL)
    start, records, end = lines[0], {line["check"]: line for line in lines[1:-1]}, lines[-1]
    assert (start["vantage"]["event_loop"], start["vantage"]["refused_sockets"]) == ("EPERM", [])
    assert (end["complete"], end["records"], len(records)) == (True, len(ALL), len(ALL))
    refused = ("error", "receive", "ECONNREFUSED")
    at_once = ("error", "connect", "ECONNREFUSED")
    assert told(records[1]) == [("connect", "connected"), ("talk", "answered")]
    assert records[1]["attempts"][1]["data"]["token_echoed"] is True
    assert told(records[2]) in ([("connect", *refused)], [("connect", *at_once)])
    assert told(records[3]) == [("send", "answered")]
    assert told(records[4]) == [("send", *refused)]
    assert told(records[5]) in ([("connect", *refused)], [("connect", *at_once)])
    assert told(records[6]) == [("connect", "error", "connect", "ENETUNREACH")]
    assert told(records[7])[0][:3] == ("connect", "error", "connect")
    assert told(records[8]) == [("send", *refused)]
    assert told(records[9]) == [("query", *refused)]
    assert told(records[10]) in ([("query", *refused)], [("query", *at_once)])
    assert told(records[11]) == [("resolve", "answered")]  # by the hosts file: this very host, where nothing is tried
    assert records[12]["not_run"] == "this sandbox refuses what an event loop needs"
    assert told(records[14]) == [("send", *refused)] or told(records[14]) == [("send", "silent")]
    assert records[15]["not_run"] == "this sandbox refuses what an event loop needs"
    assert told(records[13]) == [("query", "error", "socket", "ENAMETOOLONG")]


@pytest.mark.real("seccomp")
def test_what_it_says_without_a_loop_contradicts_nothing() -> None:
    """Every technique, to a port that accepts: no honest record may look like a lie."""
    made = [check(HERE, 4444, 1, technique=name, channel=traits.channel) for name, traits in all_traits().items()]
    rows = [one for one in made if not one.technique.startswith("dns_")]
    for one in made:
        over = (Transport.UDP, Transport.TCP) if one.technique == "dns_query" else (Transport.TCP,)
        over = over if one.technique.startswith("dns_") else ()
        rows += [replace(one, query=Query("x.example", "TXT", DnsResolver.EXPLICIT, each)) for each in over]
    asks = next(one for one in made if one.technique == "dns_query")
    rows.append(replace(asks, query=Query("x.example", "TXT", DnsResolver.EXPLICIT, hops=1)))
    rows = [replace(one, n=n + 1) for n, one in enumerate(rows)]
    some = [Order(one.n, one.technique, one.destination, f"token-{one.n}", query=one.query) for one in rows]
    with socket.create_server((HERE, 4444)):
        lines = confined("seccomp-setsockopt=EPERM", *some)
    assert len(lines) == len(rows) + 2
    for line in lines[1:-1]:
        row = rows[line["check"] - 1]
        assert contradicts(row, decode(Record, line)) is None, (row.technique, line)


def test_pace_and_packets_hold_without_a_loop() -> None:
    made = Orders("egress-probe.orders/1", RUN_ID, Settings(rate=100.0), 8, tuple(tcp(n, HERE) for n in range(1, 9)))
    asker = loopless._Asker(made, Names("", ""))
    begin = time.monotonic()
    errors = [asker.record(order).attempts[0].error for order in made.orders]
    assert errors == ["ECONNREFUSED"] * 4 + ["budget"] * 4
    assert time.monotonic() - begin >= 4 * 2 / 100  # never faster than its pace


@pytest.mark.real("seccomp")
def test_a_refused_socket_is_told_for_every_order() -> None:
    """As Codex's filter, which refuses both."""
    lines = confined(CODEX, *ALL)
    assert lines[0]["vantage"]["event_loop"] == "EPERM"
    refused = lines[0]["vantage"]["refused_sockets"]
    assert refused == ["tcp over IPv4: EPERM", "tcp over IPv6: EPERM", "udp over IPv4: EPERM", "udp over IPv6: EPERM"]
    for record in lines[1:-1]:
        for attempt in record.get("attempts", ()):
            assert record["check"] == 11 or attempt["error"] in ("EPERM", "ENAMETOOLONG"), record


@pytest.mark.real("seccomp")
@pytest.mark.parametrize("technique", ["tcp_fastopen", "source_port", "mptcp_connect", "icmp_echo"])
def test_a_way_whose_socket_is_refused_has_its_answer(technique: str) -> None:
    port = None if technique == "icmp_echo" else 443
    order = Order(1, technique, Destination(None, HERE, port), "token")
    (record,) = confined(CODEX, order)[1:-1]
    assert [told(record)[0][1:], record.get("not_run")] == [("error", "socket", "EPERM"), None]


def test_what_the_probe_lacks_itself_is_one_line() -> None:
    limited = ["sh", "-c", 'ulimit -n 8; exec "$@"', "sh", *AGENT]
    done = subprocess.run(limited, input=orders(*(tcp(n, HERE) for n in range(1, 9))), capture_output=True, check=False)
    assert done.stderr.count(b"\n") <= 1, done.stderr
    assert b"Traceback" not in done.stderr

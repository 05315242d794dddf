"""Every order's bare errno, without an event loop: where a filter refuses what trio's needs (Codex's: setsockopt).

One plain socket after the other: made, connected, and where that works the nonce is sent and an answer waited for.
There are no walks, no TLS and no second tries here; what needs those to be proven stays unproven.
"""

import errno
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from probe.annotate import annotated
from probe.documents import EVIDENCE_SCHEMA, Attempt, End, Order, Orders, Record, Start
from probe.model import DnsResolver, HttpRequest, Query, SelfTest, Transport
from probe.sockets import FAMILY, os_error, own_address, sockaddr, version
from probe.vantage import look

if TYPE_CHECKING:
    from probe.techniques.names import Names

Emit = Callable[[object], None]
Step = Literal["resolve", "connect", "send", "query"]
Stage = Literal["socket", "connect", "send", "receive"]

_PATIENCE = 1.0  # seconds for an answer
_TCP, _UDP = Transport.TCP, Transport.UDP
# What a technique comes down to, and its usual port; None: over what the order's question says.
_WAYS: dict[str, tuple[Step, Transport | None, int]] = {
    "tcp_connect": ("connect", _TCP, 0),
    "http_get": ("connect", _TCP, 80),
    "tls_hello": ("connect", _TCP, 443),
    "dns_over_tls": ("connect", _TCP, 853),
    "dns_over_https": ("connect", _TCP, 443),
    "udp_datagram": ("send", _UDP, 0),
    "udp_unconnected": ("send", _UDP, 0),
    "dns_query": ("query", None, 53),
}
# The others need what cannot be had here; but where already their socket is refused, that is their answer.
_SOCKETS: dict[str, tuple[Literal["connect", "send", "raw"], Transport, int, dict[int, int]]] = {
    "tcp_fastopen": ("connect", _TCP, socket.SOCK_STREAM, {4: 0, 6: 0}),
    "source_port": ("connect", _TCP, socket.SOCK_STREAM, {4: 0, 6: 0}),
    "mptcp_connect": ("connect", _TCP, socket.SOCK_STREAM, {4: 262, 6: 262}),
    "icmp_echo": ("send", Transport.ICMP, socket.SOCK_DGRAM, {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}),
    "raw_syn": ("raw", _TCP, socket.SOCK_RAW, {4: socket.IPPROTO_TCP, 6: socket.IPPROTO_TCP}),
}
_REFUSED = ("EPERM", "EACCES", "ENOSYS", "ENOTSUP")  # by a filter, and not because the kernel lacks it


def problem() -> str | None:
    """The errno for which no event loop can start here; None where one can. The same calls as trio's, and no packet."""
    try:
        with select.epoll() as epoll:
            one, other = socket.socketpair()
            with one, other:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
                one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                one.getsockname()
                epoll.register(other, select.EPOLLIN)
                one.send(b"\0")
                other.recv(1)
    except OSError as error:
        return os_error(error)
    return None


def run(orders: Orders, emit: Emit) -> None:
    """Every order, until the deadline or a signal. `emit` gets Start, Records and End."""
    from probe.techniques.names import Names

    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.default_int_handler)
    asker, records, complete = _Asker(orders, Names()), 0, False
    emit(Start(EVIDENCE_SCHEMA, orders.run_id, replace(look(), event_loop=problem())))
    try:
        for order in orders.orders:
            if asker.is_over():
                break
            emit(asker.record(order))
            records += 1
        complete = records == len(orders.orders)
    except KeyboardInterrupt:
        complete = False
    finally:
        emit(End(records, complete, round(asker.now(), 6)))


@dataclass(frozen=True, slots=True)
class _Ask:
    """What is done to one address. `answer`: our own end of a self-test speaks now."""

    step: Step
    transport: Transport
    port: int
    say: bytes
    connected: bool = True  # False: one datagram by sendto(), which a filter of connect() does not see
    answer: Callable[[], None] = lambda: None


class _Asker:
    """One run: its clock, its pace, and the names that were looked up."""

    def __init__(self, orders: Orders, names: "Names") -> None:
        self._begin = time.monotonic()
        self._seconds = orders.seconds
        self._gap = 2 / orders.settings.rate if orders.settings.rate else 0.0  # a connection, and what is said
        self._packets = orders.packets
        self._names = names
        self._known: dict[str, tuple[tuple[str, ...], list[Attempt]]] = {}

    def now(self) -> float:
        """Seconds since the start of the run."""
        return time.monotonic() - self._begin

    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self._seconds is not None and self.now() > self._seconds

    def _may_send(self) -> bool:
        """Waits for its turn. False: time or packets are spent."""
        if self.is_over() or self._packets < 2:
            return False
        self._packets -= 2
        time.sleep(self._gap)
        return True

    def record(self, order: Order) -> Record:
        if order.query is not None and order.query.hops is not None:
            return Record(order.n, (), not_run="this sandbox refuses to set a limit on hops")
        if order.technique not in _WAYS:
            return self._by_its_socket(order)
        attempts = self._self_test(order) if order.self_test else self._attempts(order)
        made = (annotated(attempt) for attempt in attempts)
        return Record(order.n, tuple(replace(a, t=round(a.t, 6), elapsed=round(a.elapsed, 6)) for a in made))

    def _by_its_socket(self, order: Order) -> Record:
        address = order.destination.address
        if order.technique in _SOCKETS and address is not None:
            step, transport, kind, protocols = _SOCKETS[order.technique]
            port = None if transport is Transport.ICMP else order.destination.port
            made = Attempt(round(self.now(), 6), 0.0, step, "error", transport, address, port, stage="socket")
            try:
                socket.socket(FAMILY[version(address)], kind, protocols[version(address)]).close()
            except OSError as error:
                # A raw socket is refused to whoever lacks the capability: that says nothing.
                if os_error(error) in _REFUSED and kind != socket.SOCK_RAW:
                    return Record(order.n, (replace(made, error=os_error(error)),))
        return Record(order.n, (), not_run="this sandbox refuses what an event loop needs")

    def _attempts(self, order: Order) -> list[Attempt]:
        addresses, attempts = self._addresses(order)
        for address in addresses:
            attempts = [*attempts, *self._one(order, address, _asked(order))]
        return attempts

    def _addresses(self, order: Order) -> tuple[tuple[str, ...], list[Attempt]]:
        if order.destination.address is not None:
            return (order.destination.address,), []
        if order.query is not None:
            return self._names.servers if order.query.resolver is DnsResolver.SYSTEM else (), []
        name = (order.destination.host or "").lower().removesuffix(".")
        if name not in self._known:
            self._known[name] = self._names.listed(name, self.now()) or self._look_up(name)
        return self._known[name]

    def _look_up(self, name: str) -> tuple[tuple[str, ...], list[Attempt]]:
        from probe.techniques.names import spread

        attempts: list[Attempt] = []
        for server in self._names.servers:
            attempts += [self._question("resolve", Query(name, kind), server, 53) for kind in ("A", "AAAA")]
        return spread(attempts), attempts

    def _one(self, order: Order, address: str, ask: _Ask) -> list[Attempt]:
        if order.query is not None and ask.step == "query":
            return [self._question("query", order.query, address, ask.port)]
        from probe.talk import ALERT, parse_answer, spoken

        made, data = self._exchange(address, ask)
        # A TLS alert says only that somebody speaks TLS.
        heard = None if data[:1] in (b"", bytes((ALERT,))) else parse_answer(data, order.token, "reply")
        if ask.transport is _UDP:
            return [replace(made, data=heard, result="answered" if heard else made.result)]
        if made.result != "connected" or order.query is not None:  # DNS inside TLS needs more than these words
            return [made]
        return [made, spoken(replace(made, step="talk"), heard, None)]

    def _question(self, step: Step, query: Query, server: str, port: int) -> Attempt:
        from probe.techniques.dns_query import build, framed, parse, unaskable, unframed

        question = build(query.name, query.type, query.klass)
        if question is None:
            return replace(unaskable(server, port, query.transport, self.now()), step=step)
        over_tcp = query.transport is _TCP
        wire = question.to_wire()
        made, data = self._exchange(server, _Ask(step, query.transport, port, framed(wire) if over_tcp else wire))
        message = unframed(data) if over_tcp else data
        answer = parse(question, message) if message else None
        return made if answer is None else replace(made, result="answered", dns=answer)

    def _self_test(self, order: Order) -> list[Attempt]:
        """The same path, to a port of our own on loopback: one that answers, or one that nobody listens on."""
        address, ask = order.destination.address or "127.0.0.1", _asked(order)
        try:
            own = _bound(address, ask.transport, listen=order.self_test is SelfTest.OPEN)
        except OSError as error:
            listen = Attempt(self.now(), 0.0, "listen", "error", address=address, error=os_error(error))
            return [listen, *self._one(order, address, replace(ask, port=9))]
        with own:
            ask = replace(ask, port=int(own.getsockname()[1]))
            if order.self_test is SelfTest.OPEN:
                ask = replace(ask, answer=lambda: _answer(own, order.token.encode()))
            elif ask.transport is _UDP:
                own.close()
            return self._one(order, address, ask)

    def _exchange(self, address: str, ask: _Ask) -> tuple[Attempt, bytes]:
        """One socket: the kernel's word on each call, and what came back. No option is set on it."""
        begin, data = time.monotonic(), b""
        made = Attempt(begin - self._begin, 0.0, ask.step, "silent", ask.transport, address, ask.port)
        if not self._may_send():
            return replace(made, result="error", stage="socket", error="budget"), b""
        begin = time.monotonic()
        made = replace(made, t=begin - self._begin)
        stage: Stage = "socket"
        try:
            with socket.socket(FAMILY[version(address)], _kind(ask.transport) | socket.SOCK_NONBLOCK) as sock:
                stage = "connect" if ask.connected else "send"
                where = sockaddr(address, ask.port)
                number: int | None = sock.connect_ex(where) if ask.connected else 0
                if number == errno.EINPROGRESS:
                    stage = "receive"
                    number = _pending(sock, mask) if (mask := _ready(sock, select.POLLOUT)) else None
                if number:
                    raise OSError(number, "")  # noqa: TRY301 - one place below turns every errno into evidence
                made = replace(made, source=own_address(sock))
                if number == 0:
                    made = replace(made, result="connected" if ask.transport is _TCP else "silent")
                    stage = "send"
                    _send(sock, ask.say, None if ask.connected else where)
                    stage = "receive"
                    ask.answer()
                    data = os.read(sock.fileno(), 65535) if _ready(sock, select.POLLIN) else b""
        except OSError as error:
            if made.result != "connected":  # what comes after a handshake says nothing of it
                made = replace(made, result="error", stage=stage, error=os_error(error))
        return replace(made, elapsed=time.monotonic() - begin), data


def _send(sock: socket.socket, data: bytes, where: tuple[str, int] | tuple[str, int, int, int] | None) -> None:
    """By send() or sendto(), or by the call beside it where a filter refuses only that: who sends out takes any."""
    try:
        if where is None:
            sock.send(data)
        else:
            sock.sendto(data, where)
    except OSError:
        if where is None:
            os.write(sock.fileno(), data)
        else:
            sock.sendmsg([data], (), 0, where)


def _asked(order: Order) -> _Ask:
    from probe.talk import http_request

    step, transport, port = _WAYS[order.technique]
    transport = transport or (order.query.transport if order.query else _UDP)
    host = order.destination.host or order.destination.address or ""
    say = order.token.encode() if transport is _UDP else http_request(HttpRequest(), order.token, host)
    return _Ask(step, transport, order.destination.port or port, say, order.technique != "udp_unconnected")


def _kind(transport: Transport) -> socket.SocketKind:
    return socket.SOCK_DGRAM if transport is _UDP else socket.SOCK_STREAM


def _bound(address: str, transport: Transport, listen: bool) -> socket.socket:
    """A socket on a free port of `address`. Raises OSError."""
    own = socket.socket(FAMILY[version(address)], _kind(transport))
    try:
        own.bind((address, 0))
        if listen and transport is _TCP:
            own.listen(8)
    except OSError:
        own.close()
        raise
    return own


def _answer(own: socket.socket, token: bytes) -> None:
    """The other end of a self-test says the token, when something has come."""
    own.settimeout(_PATIENCE)
    with suppress(OSError):
        if own.type == socket.SOCK_DGRAM:
            own.sendto(token, own.recvfrom(2048)[1])
        else:
            with own.accept()[0] as client:
                os.read(client.fileno(), 4096)
                os.write(client.fileno(), token)


def _ready(sock: socket.socket, events: int) -> int:
    """What poll says of it, in time; 0 for silence."""
    poll = select.poll()
    poll.register(sock, events)
    return next((mask for _, mask in poll.poll(_PATIENCE * 1000)), 0)


def _pending(sock: socket.socket, mask: int) -> int:
    """How a connect ended, as an errno. Where a filter refuses getsockopt(), a read brings the error."""
    with suppress(OSError):
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if not mask & select.POLLERR:
        return 0
    try:
        os.read(sock.fileno(), 1)
    except OSError as error:
        return error.errno or 0
    return errno.EIO

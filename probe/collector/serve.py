"""Puts the collector together and runs it until SIGTERM or SIGINT. What each part does, is told in its own room.

The safety latch has no say here: a collector sends nothing unasked, it answers whoever came to it.
"""

import functools
import os
import resource
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import closing, suppress
from datetime import UTC, datetime
from ipaddress import ip_address

import trio

from probe.collector import api, certificate, datagrams, halfopen, listening, names, settings, state
from probe.collector.conversation import converse, is_forged
from probe.collector.desk import Desk
from probe.collector.house import House
from probe.collector.listening import Bound
from probe.collector.settings import Settings
from probe.collector.store import Store
from probe.collector.streams import SEATS, SEATS_PER_SOURCE, Door, Seats

_GRACE = 1.0  # seconds for what is in flight when the collector is stopped
_LOG_EVERY = 60.0
_LOOK_EVERY = 1.0
_DAY = 86_400.0

Say = Callable[[str], object]


def serve(wanted: Settings, say: Say, log: Say) -> None:
    """Until it is stopped. `say` gets the lines for stdout: URL, token file, ready; `log` those for stderr.

    Raises UserError before anything is answered.
    """
    log = _never_failing(log)
    settings.check(wanted)
    zone = names.make_zone(wanted.zone, wanted.addresses)
    state.open_folder(wanted.state)
    secrets = api.Secrets(
        state.secret(wanted.state / state.BEARER),
        state.secret(wanted.state / state.READ_SECRET),
    )
    own = _certificate(wanted, zone.name)
    kept = Store(wanted.state / state.DATABASE, wanted.keep_days * _DAY, size=wanted.most_mb << 20, own=_own(wanted))
    with closing(kept) as store:
        sockets = _sockets(wanted)
        try:
            dns = frozenset((settings.DNS, wanted.dns_port))
            house = House(Desk(store), zone, own.context, dns)
            bound = (_ports(sockets, kind) for kind in ("tcp", "udp"))
            shown = settings.shown(wanted, zone.name, *bound, api=_api(sockets))
            greeting = (
                settings.url(shown, own.sha256),
                f"bearer token: {wanted.state / state.BEARER}",
                "ready",
            )
            trio.run(_main, house, api.Api(house, secrets, shown), sockets, greeting, say, log)
        finally:
            listening.close_all(sockets)


def _own(wanted: Settings) -> frozenset[str]:
    return frozenset(("127.0.0.1", "::1", *(str(ip_address(text)) for text in wanted.addresses)))


def _never_failing(log: Say) -> Say:
    """A full disk or a reader that left costs a line of the log, not the collector."""

    def write(line: str) -> None:
        with suppress(OSError):
            log(line)

    return write


def _certificate(wanted: Settings, zone: str) -> certificate.Certificate:
    if wanted.certificate is not None and wanted.key is not None:
        return certificate.given(wanted.certificate, wanted.key)
    # `at.ZONE`: names that carry a token and lead here.
    known_as = (zone, f"*.{zone}", f"*.at.{zone}", *wanted.addresses, *filter(None, (wanted.api_address,)))
    return certificate.made(wanted.state, tuple(dict.fromkeys(known_as)))


def _sockets(wanted: Settings) -> list[Bound]:
    """What systemd handed over; for each kind of which it handed over none, our own."""
    given = listening.inherited(os.environ, os.getpid())
    kinds = {bound.kind for bound in given}
    try:
        places = settings.wanted(wanted, listening.has_ipv6())
        return given + listening.open_all([place for place in places if place.kind not in kinds])
    except BaseException:
        listening.close_all(given)
        raise


def _ports(sockets: Iterable[Bound], kind: listening.Kind) -> tuple[int, ...]:
    return tuple(bound.port for bound in sockets if bound.kind == kind)


def _api(sockets: Iterable[Bound]) -> int:
    return _ports(sockets, "api")[0]


async def _main(house: House, door: api.Api, sockets: list[Bound], greeting: Iterable[str], say: Say, log: Say) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as floor:
            floor.start_soon(house.desk.run)
            floor.start_soon(_half_open, house, frozenset(_ports(sockets, "tcp")), log)
            floor.start_soon(_tell, house, log)
            async with trio.open_nursery() as conversations:
                async with trio.open_nursery() as listeners:
                    _listen(house, door, sockets, listeners, conversations)
                    for line in greeting:
                        say(line)
                    await anext(aiter(signals))
                    listeners.cancel_scope.cancel()
                listening.close_all(sockets)
                floor.start_soon(_swallow, signals)
                conversations.cancel_scope.deadline = trio.current_time() + _GRACE
            _log_changes(house, Counter(), log)
            floor.cancel_scope.cancel()


async def _swallow(signals: AsyncIterator[int]) -> None:
    """A second signal does not cut off what is in flight."""
    async for _ in signals:
        pass


def _listen(
    house: House, answering: api.Api, sockets: list[Bound], listeners: trio.Nursery, conversations: trio.Nursery
) -> None:
    most = min(SEATS, _open_files() * 3 // 4)
    seats = Seats(most, min(SEATS_PER_SOURCE, most), house.tally)
    handle, glance = functools.partial(converse, house=house), functools.partial(is_forged, house=house)
    tokens = Door(handle, conversations, seats, glance=glance)
    seats = Seats(api.SEATS, api.SEATS_PER_SOURCE, house.tally)
    controllers = Door(answering.serve, conversations, seats, api.DEADLINE)
    for bound in sockets:
        if bound.kind == "udp":
            zone = house.zone if bound.port in house.dns_ports else None
            listeners.start_soon(datagrams.serve, bound.sock, house.desk, zone)
        else:
            door = tokens if bound.kind == "tcp" else controllers
            listeners.start_soon(door.accept, bound.sock)


def _open_files() -> int:
    """Raise the soft limit to the hard one; the limit that then holds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        return soft
    return hard


async def _half_open(house: House, ports: frozenset[int], log: Say) -> None:
    watch = halfopen.Watch(ports, house.clock)
    try:
        await trio.to_thread.run_sync(halfopen.ask)
    except OSError as error:
        house.desk.sees_half_open = False
        log(f"half-open connections cannot be seen here (sock_diag: {error.strerror})")
        return
    if not halfopen.are_kept():
        house.desk.sees_half_open = False
        log("half-open connections cannot be seen here (net.ipv4.tcp_synack_retries is 0)")
        return
    while True:
        house.desk.half_open(await trio.to_thread.run_sync(watch.look))
        if watch.missed:
            house.desk.missed()
        await trio.sleep(_LOOK_EVERY)


async def _tell(house: House, log: Say) -> None:
    told = Counter[str]()
    while True:
        await trio.sleep(_LOG_EVERY)
        told = _log_changes(house, told, log)


def _log_changes(house: House, told: Counter[str], log: Say) -> Counter[str]:
    """One line, if anything changed; what is told by now. Counts only: a token or a key never stands in a log."""
    now = house.tally + Counter({f"unknown over {kind}": count for kind, count in house.desk.strangers.items()})
    if now != told:
        counts = ", ".join(f"{kind} {count}" for kind, count in sorted(now.items()))
        log(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {counts}")
    return now

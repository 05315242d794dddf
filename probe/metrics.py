"""A canary's figures as Prometheus metrics: a text file for node_exporter's collector, or a page of `watch`'s own.

Labels are the canary's name and words of closed sets: no path, no address, no run id, so the number of series is fixed.
What a history holds can become fewer, so it is a gauge. Source: prometheus.io/docs/practices/naming.
"""

import ipaddress
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, get_args
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from probe.alert import Kind
from probe.errors import UserError
from probe.model import Verdict
from probe.replacing import replace_whole

_PREFIX: Final = "egress_probe_"
_EXIT_CODES: Final = (0, 1, 2, 3)
_KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class LastRun:
    """The newest run, made or not. Times: seconds since 1970. `verdicts`: rows; what is missing is 0."""

    started: float
    finished: float
    exit_code: int
    complete: bool
    verdicts: Mapping[Verdict, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figures:
    """All that is shown of one canary.

    `made`: runs ever, it never goes down. `runs` by exit code, `alerts` by kind, `size` in bytes: of the history as it
    is. `undelivered`, `given_up`: deliveries of alerts. `good`: when the last known good run finished.
    """

    canary: str
    version: str
    last: LastRun | None = None
    good: float | None = None
    made: int = 0
    runs: Mapping[int, int] = field(default_factory=dict)
    alerts: Mapping[Kind, int] = field(default_factory=dict)
    undelivered: int = 0
    given_up: int = 0
    size: int = 0


class _Asking(Collector):
    """Asks for the figures each time that it is read. A UserError of theirs is told as `history_readable 0`."""

    def __init__(self, get: Callable[[], Figures]) -> None:
        self._get = get

    def collect(self) -> Iterator[Metric]:
        # Without a label: who it is, stands in the history. So it is only for a page, which has one canary.
        text = "Whether the history could be read."
        try:
            found = list(families(self._get()))
        except UserError:
            return iter([_gauge("history_readable", text, 0, {})])
        return iter([_gauge("history_readable", text, 1, {}), *found])


class _Given(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        return families(self._figures)


def registry(collector: Collector) -> CollectorRegistry:
    """One of its own: the client's default one has figures of the process."""
    made = CollectorRegistry()
    made.register(collector)
    return made


# --- figures → families -----------------------------------------------------------------------------------------------


def families(figures: Figures) -> Iterator[Metric]:
    """Every metric of one canary."""
    name = {"canary": figures.canary}
    yield _gauge("build_info", "The version that made these figures.", 1, name | {"version": figures.version})
    yield _counter("runs", "Runs since the history began, those it no longer holds included.", figures.made, name)
    if figures.last is not None:
        yield from _last(figures.last, name)
    if figures.good is not None:
        text = "When the last known good run finished: complete, no leak, no over-block."
        yield _gauge("last_good_run_timestamp_seconds", text, figures.good, name)
    by_code = {_code(code): 0 for code in (*_EXIT_CODES, None)}
    for code, number in figures.runs.items():
        by_code[_code(code)] += number
    yield _table("history_runs", "Runs that the history holds.", "exit_code", by_code, name)
    by_kind: dict[str, int] = {kind: figures.alerts.get(kind, 0) for kind in _KINDS}
    yield _table("history_alerts", "Alerts that the history holds.", "kind", by_kind, name)
    yield _gauge("alerts_undelivered", "Deliveries of alerts that are still to be made.", figures.undelivered, name)
    yield _gauge("alerts_given_up", "Deliveries of alerts that were given up: dead letters.", figures.given_up, name)
    yield _gauge("history_size_bytes", "Size of the history's file.", figures.size, name)


def _last(run: LastRun, name: Mapping[str, str]) -> Iterator[Metric]:
    yield _gauge("last_run_start_timestamp_seconds", "When the last run started.", run.started, name)
    yield _gauge("last_run_end_timestamp_seconds", "When the last run finished.", run.finished, name)
    text = "0 conforms, 1 a leak or an over-block, 2 it could not be made, 3 unproven."
    yield _gauge("last_run_exit_code", text, run.exit_code, name)
    yield _gauge("last_run_complete", "Whether all evidence of the last run came back.", run.complete, name)
    by_verdict = {verdict.value: run.verdicts.get(verdict, 0) for verdict in Verdict}
    yield _table("last_run_checks", "Checks of the last run.", "verdict", by_verdict, name)


def _code(code: int | None) -> str:
    return str(code) if code in _EXIT_CODES else "other"


def _gauge(name: str, text: str, value: float, labels: Mapping[str, str]) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, text, labels=list(labels))
    family.add_metric(list(labels.values()), float(value))
    return family


def _counter(name: str, text: str, value: float, labels: Mapping[str, str]) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, text, labels=list(labels))  # it adds `_total`
    family.add_metric(list(labels.values()), float(value))
    return family


def _table(name: str, text: str, label: str, values: Mapping[str, int], labels: Mapping[str, str]) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, text, labels=[*labels, label])
    for word, value in values.items():
        family.add_metric([*labels.values(), word], float(value))
    return family


# --- out --------------------------------------------------------------------------------------------------------------


def write_textfile(figures: Figures, path: str) -> None:
    """Replaces `path` as a whole, readable by everybody: node_exporter is another user. Raises UserError."""
    data = generate_latest(registry(_Given(figures)))
    try:
        replace_whole(Path(path), data, 0o644)
    except OSError as error:
        raise UserError(f"--metrics {path}: cannot be written: {error.strerror}") from None
    except ValueError as error:  # a NUL in the name
        raise UserError(f"--metrics {path}: {error}") from None


@dataclass(frozen=True, slots=True)
class Served:
    """A page that is served until close()."""

    host: str
    port: int
    _server: WSGIServer
    _thread: threading.Thread

    def close(self) -> None:
        """Returns when nothing listens any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingWSGIServer):
    """The client's own, without its question for the address's name: a canary sends no DNS query of its own."""

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    timeout = 10.0  # seconds for a client that says nothing

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        pass


def serve(listen: str, get: Callable[[], Figures]) -> Served:
    """Serves `/metrics` at `ADDRESS:PORT` (port 0: a free one), from a thread of its own. Raises UserError."""
    host, port = _place(listen)
    kind = _Server6 if ":" in host else _Server
    try:
        server = make_server(host, port, make_wsgi_app(registry(_Asking(get))), kind, _Quiet)
    except OSError as error:
        raise UserError(f"--listen {listen}: {error.strerror}") from None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    return Served(host, server.server_port, server, thread)


def _place(listen: str) -> tuple[str, int]:
    """An address, not a name: see _Server. An IPv6 address stands in brackets."""
    host, _, port = listen.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
        number = int(port) if port.isascii() and port.isdigit() else -1
    except ValueError:
        number = -1
    if not 0 <= number <= 65535 or bracketed != (address.version == 6):
        raise UserError(f"--listen {listen}: expected ADDRESS:PORT, as 127.0.0.1:9799 or [::1]:9799")
    return str(address), number

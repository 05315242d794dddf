"""The controller's side of the collector's API: register a run, and read what arrived. HTTPS, standard library only.

It runs outside of the sandbox, or where the sandbox lets the API through; nothing of it passes through the inside. The
API is described in docs/collector.md.
"""

import hashlib
import hmac
import http.client
import json
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, urlsplit

from probe.arrived import arrivals_problem
from probe.codec import DecodeError, decode
from probe.documents import FAR_END_SCHEMA, Arrivals, Collector, FarEnd
from probe.errors import UserError, one_line
from probe.policies.patterns import domain_pattern

OPTION = "--collector"
API_PORT = 8443
# DNS retries arrive late: resolvers ask again for some seconds after their client has given up.
GRACE = 5.0
_EVERY = 1.0
_TIMEOUT = 10.0
_PAUSES = (0.5, 1.5)  # before a request is made again
_LARGEST = 256 * 1024 * 1024
_MOST_PORTS = 32
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")
_KEYS = ("zone", "address", "tcp", "udp")


@dataclass(frozen=True, slots=True)
class Address:
    """Where the API is. `certificate`: the SHA-256 that its certificate must have; None: the system's trust decides."""

    host: str
    port: int
    certificate: str | None


def parse_url(text: str) -> tuple[Address, Collector | None]:
    """The URL that `collector serve` prints. None: it does not tell zone and addresses. Raises UserError."""
    where = f"{OPTION} {text}"
    try:
        parts = urlsplit(text)
        port = API_PORT if parts.port is None else parts.port
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    host = parts.hostname or ""
    if parts.scheme != "https" or not _HOST.fullmatch(host) or not port or parts.username is not None:
        raise UserError(f"{where}: expected https://HOST:PORT/?zone=…, as `egress-probe collector serve` prints it")
    pinned = parts.fragment.removeprefix("sha256=").lower() if parts.fragment else None
    if pinned is not None and not re.fullmatch(r"[0-9a-f]{64}", pinned):
        raise UserError(f"{where}: #{parts.fragment}: expected #sha256= and 64 hexadecimal digits")
    address = Address(host, port, pinned)
    given = parse_qs(parts.query, keep_blank_values=True)
    unknown = sorted(set(given) - set(_KEYS))
    if unknown:
        raise UserError(f"{where}: unknown key {unknown[0]!r} (known: {', '.join(_KEYS)})")
    if "zone" not in given:
        return address, None
    return address, Collector(
        url=f"https://{parts.netloc}",
        zone=_zone(given["zone"][-1], where),
        addresses=_addresses(given.get("address") or [host], where),
        tcp=_ports(given.get("tcp", []), where),
        udp=_ports(given.get("udp", []), where),
    )


def _zone(text: str, where: str) -> str:
    zone = domain_pattern(text, f"{where}: zone")
    if zone.startswith("*."):
        raise UserError(f"{where}: zone: name the zone itself, without *.")
    return zone


def _addresses(texts: list[str], where: str) -> tuple[str, ...]:
    try:
        found = tuple(dict.fromkeys(ip_address(text) for text in texts))
    except ValueError as error:
        raise UserError(f"{where}: address: {error} (a name is resolved by nobody here: give address=…)") from None
    if len({address.version for address in found}) < len(found):  # what is shown of one is not shown of the other
        raise UserError(f"{where}: address: two of one IP version (expected one for IPv4, one for IPv6)")
    return tuple(map(str, found))


def _ports(texts: list[str], where: str) -> tuple[int, ...]:
    words = [word for text in texts for word in text.split(",") if word]
    if not all(word.isascii() and word.isdigit() and 1 <= int(word) <= 65535 for word in words):
        raise UserError(f"{where}: tcp, udp: expected ports such as 53,80,443")
    if len(words) > _MOST_PORTS:
        raise UserError(f"{where}: tcp, udp: more than {_MOST_PORTS} ports")
    return tuple(dict.fromkeys(map(int, words)))


class UnreachableError(Exception):
    """The API did not answer, or not as it should. `str()` says how, in words for a reader."""


class _BrokenError(UnreachableError):
    """The connection failed: it may work again in a moment."""


class Client:
    """One collector, for one run."""

    def __init__(self, address: Address, bearer: str, sleep: Callable[[float], object] = time.sleep) -> None:
        self._sleep = sleep
        self._address = address
        self._bearer = bearer
        self._read = ""
        self._run_id = ""

    @property
    def run_id(self) -> str:
        """The run that was registered."""
        return self._run_id

    def info(self) -> Collector:
        """What the collector says of itself. Raises UserError."""
        try:
            told = self._ask("GET", "/v1/info", self._bearer)
            return decode(Collector, told)
        except (UnreachableError, DecodeError) as error:
            raise UserError(f"{self._where()}: {error}") from None

    def register(self, run_id: str, key: bytes, seconds: float, expected: Collector | None = None) -> None:
        """Make the run known. `expected`: what the plan goes by. Raises UserError: without it nothing can be told."""
        self._run_id = run_id
        told = self.info()
        if expected is not None and not _still(expected, told):
            raise UserError(f"{self._where()}: its zone, addresses or ports are not those of the URL: take the new one")
        try:
            answer = self._ask("PUT", f"/v1/runs/{run_id}", self._bearer, {"key": key.hex(), "seconds": seconds})
            self._read = str(answer["read"]) if isinstance(answer, dict) and "read" in answer else ""
        except UnreachableError as error:
            raise UserError(f"{self._where()}: {error}") from None

    def arrivals(self) -> Arrivals:
        """Everything of the registered run. Raises UnreachableError."""
        try:
            said = decode(Arrivals, self._ask("GET", f"/v1/runs/{self._run_id}/arrivals", self._read))
        except DecodeError as error:
            raise UnreachableError(f"its answer is none ({error})") from None
        problem = arrivals_problem(said)
        if problem is not None:
            raise UnreachableError(f"its answer is none ({problem})")
        if said.run_id != self._run_id:
            raise UnreachableError("its answer is of another run")
        return said

    def _where(self) -> str:
        return f"{OPTION} https://{self._address.host}:{self._address.port}"

    def _ask(self, method: str, path: str, token: str, body: Any = None) -> Any:
        """Asked again where the connection fails: a flood of strangers may have taken its place."""
        for pause in _PAUSES:
            try:
                return self._ask_once(method, path, token, body)
            except _BrokenError:
                self._sleep(pause)
        return self._ask_once(method, path, token, body)

    def _ask_once(self, method: str, path: str, token: str, body: Any) -> Any:
        connection = http.client.HTTPSConnection(
            self._address.host, self._address.port, timeout=_TIMEOUT, context=_context(self._address.certificate)
        )
        try:
            connection.connect()
            self._pin(connection)
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read(_LARGEST)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _BrokenError(f"it cannot be asked from here ({_words(error)})") from None
        finally:
            connection.close()
        if answer.status not in (200, 201):
            raise UnreachableError(_REFUSALS.get(answer.status, f"it answered with status {answer.status}"))
        try:
            return json.loads(text)
        except ValueError:
            raise UnreachableError("its answer is no JSON") from None

    def _pin(self, connection: http.client.HTTPSConnection) -> None:
        if self._address.certificate is None:
            return
        assert isinstance(connection.sock, ssl.SSLSocket)
        shown = hashlib.sha256(connection.sock.getpeercert(binary_form=True) or b"").hexdigest()
        if not hmac.compare_digest(shown, self._address.certificate):
            raise UnreachableError("its certificate is not the one that the URL names: somebody stands in between")


def _still(expected: Collector, told: Collector) -> bool:
    """Whether the collector still is what its URL says: a port where it no longer listens would look contained."""
    ports = set(expected.tcp) <= set(told.tcp) and set(expected.udp) <= set(told.udp)
    return ports and expected.zone == told.zone and set(expected.addresses) <= set(told.addresses)


_REFUSALS = {
    401: "it refuses the bearer token",
    409: "it knows this run with another key",
    503: "it cannot store anything now",
}


def _context(pinned: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if pinned is not None:  # the certificate itself is compared, before anything is said
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}; give its #sha256="
    return one_line(getattr(error, "strerror", None) or str(error) or type(error).__name__)[:200]


def wait_and_read(
    client: Client,
    key: bytes,
    grace: float = GRACE,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> FarEnd:
    """The collector's last word, when the grace is over: until then something may still arrive.

    It is asked meanwhile too, so that what it said is kept if it goes away.
    """
    far = FarEnd(FAR_END_SCHEMA, key.hex(), Arrivals(run_id=client.run_id))
    until = clock() + grace
    while True:
        last = clock() >= until
        try:
            far = replace(far, said=client.arrivals(), problem=None)
        except UnreachableError as error:
            far = replace(far, problem=str(error))
        if last:
            return far
        sleep(_EVERY)

"""HTTP as it arrives: requests are read, answers written, DNS questions taken out of DoH. Pure; total over any bytes.

RFC 9112 (by h11), RFC 8484 (DNS over HTTPS). What a request means for a token is decided elsewhere.
"""

import base64
import binascii
import re
from dataclasses import dataclass

import h11

# RFC 9110, section 9, and RFC 5789. An unknown word is no HTTP to us: its bytes are searched all the same.
METHODS = tuple(b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH".split())
MOST_HEAD = 16 * 1024
DOH_PATH = "/dns-query"
DNS_MESSAGE = "application/dns-message"
_LARGEST_QUESTION = 4096
_BASE64URL = re.compile(r"[A-Za-z0-9_-]{16,5462}")  # of that many bytes
_PHRASES = {
    200: "OK",
    201: "Created",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request. `target` as it was sent; `kind`: its Content-Type without parameters, lower case."""

    method: str
    target: str
    kind: str = ""
    authorization: str = ""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


def may_be(data: bytes) -> bool:
    """Whether these first bytes are a request's, or may become one."""
    word, blank, _ = data[:8].partition(b" ")
    return word in METHODS if blank else any(method.startswith(word) for method in METHODS)


class Reading:
    """A request as its bytes come in. `done`: all of it is here, or it turned out to be none (`broken`)."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD)
        self.request: Request | None = None
        self.body = bytearray()
        self.done = False
        self.broken = False

    def feed(self, data: bytes) -> None:
        """More bytes; none at the end."""
        if self.done:
            return
        try:
            self._http.receive_data(data)
            self._read()
        except h11.RemoteProtocolError:
            self.done = self.broken = True

    def _read(self) -> None:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            if isinstance(event, h11.Request):
                self.request = _request(event)
            elif isinstance(event, h11.Data):
                self.body += event.data
            else:  # the end of the message, or of the connection
                self.done = True
                return


def _request(event: h11.Request) -> Request:
    found = {bytes(name): bytes(value).decode("latin-1") for name, value in event.headers}
    kind = found.get(b"content-type", "").partition(";")[0].strip().lower()
    method, target = event.method.decode("latin-1"), event.target.decode("latin-1")
    return Request(method, target, kind, found.get(b"authorization", ""))


def is_dns(request: Request) -> bool:
    """Whether it was sent to where DNS is asked."""
    return request.target.partition("?")[0].endswith(DOH_PATH)


def dns_question(request: Request, body: bytes) -> bytes | None:
    """The DNS message that a DoH request carries (RFC 8484, section 4.1); None for a request that is none."""
    if not is_dns(request):
        return None
    query = request.target.partition("?")[2]
    if request.method == "POST" and request.kind == DNS_MESSAGE:
        return body if 12 <= len(body) <= _LARGEST_QUESTION else None
    values = [value for key, _, value in (part.partition("=") for part in query.split("&")) if key == "dns"]
    if request.method != "GET" or not values or not _BASE64URL.fullmatch(values[0]):
        return None
    try:
        return base64.urlsafe_b64decode(values[0] + "=" * (-len(values[0]) % 4))
    except binascii.Error:
        return None


def answer(status: int, body: bytes = b"", kind: str = "text/plain", *more: str) -> bytes:
    """A whole answer, after which the connection closes. `more`: further header lines."""
    lines = [f"HTTP/1.1 {status} {_PHRASES[status]}", *more, "Connection: close"]
    lines += [f"Content-Type: {kind}"] if body else []
    lines += [f"Content-Length: {len(body)}", "Cache-Control: no-store"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(kind: str) -> bytes:
    """The head of an answer whose body comes in chunks; an empty one ends it (RFC 9112, section 7.1)."""
    lines = ("HTTP/1.1 200 OK", "Connection: close", f"Content-Type: {kind}", "Transfer-Encoding: chunked")
    return "\r\n".join(lines).encode("latin-1") + b"\r\nCache-Control: no-store\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One of them."""
    return b"%x\r\n%b\r\n" % (len(data), data)

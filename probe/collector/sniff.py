"""Which protocol the first bytes of a connection speak. Pure; total over any bytes."""

from typing import Literal

from probe.collector import hello, web

FRAME = 2  # bytes of a DNS message's length over TCP (RFC 1035, section 4.2.2)


def sniff(data: bytes, dns: bool) -> Literal["tls", "http", "dns", "raw"] | None:
    """The protocol; None while it may still be several.

    `dns`: framed DNS may come here. A query holds one question, so it has zeros where text has none (RFC 1035, 4.1.1).
    """
    if data[:1] == b"\x16" and (len(data) == 1 or hello.looks_like(data)):
        return "tls" if len(data) > 1 else None
    if web.may_be(data):
        return "http" if b" " in data[:8] else None
    if dns and len(data) < FRAME + 6:
        return None
    if dns and not data[FRAME + 2] & 0x80 and data[FRAME + 4 : FRAME + 6] == b"\0\1":
        return "dns"
    return "raw"

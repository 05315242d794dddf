"""The lab's internet: one process that answers TCP, TLS, HTTP, UDP and DNS for every address there is.

Started by stage.py in the namespace `internet`; nftables redirects every port to it. It prints `ready` when it listens.
A gateway that answers in the internet's place runs the same server.
"""

import socket
import ssl
import struct
import sys
from collections.abc import Awaitable, Callable
from functools import partial

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import trio
import trustme

from probe.lab.rules import DNS_PORT, MUTE_PORT, RESET_PORT, TCP_PORT, UDP_PORT

Handler = Callable[[trio.SocketStream], Awaitable[None]]

# Names that exist, and the zone whose every name has a TXT record.
NAMES = {"A": "203.0.113.10", "AAAA": "2001:db8:10::10"}
NAME_SUFFIX = "lab.example."
ZONE_SUFFIX = "exfil.example."
# linux/in.h, linux/in6.h: the socket takes connections for any address (what TPROXY hands to it).
_TRANSPARENT = {socket.AF_INET: (socket.IPPROTO_IP, 19), socket.AF_INET6: (socket.IPPROTO_IPV6, 75)}
_BODY = b"egress-probe lab"
_HTTP = b"HTTP/1.1 200 OK\r\nServer: lab\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(_BODY), _BODY)


def answer(data: bytes) -> bytes | None:
    """The authoritative answer to a DNS message, or None for bytes that are none."""
    try:
        query = dns.message.from_wire(data)
        asked = query.question[0]
    except (dns.exception.DNSException, IndexError):
        return None
    reply = dns.message.make_response(query)
    reply.flags |= dns.flags.AA
    kind, name = dns.rdatatype.to_text(asked.rdtype), asked.name.to_text().lower()
    text = None
    if name.endswith(ZONE_SUFFIX):
        text = '"egress-probe"' if kind == "TXT" else None
    elif name.endswith(NAME_SUFFIX):
        text = NAMES.get(kind)
    else:
        reply.set_rcode(dns.rcode.NXDOMAIN)
    if text is not None:
        reply.answer.append(dns.rrset.from_text(asked.name, 60, "IN", kind, text))
    return reply.to_wire()


async def _tcp(stream: trio.SocketStream, context: ssl.SSLContext) -> None:
    """Wait for the client to speak: TLS by its first byte, HTTP by its words, anything else is echoed."""
    with trio.move_on_after(10):
        try:
            first = await stream.socket.recv(1, trio.socket.MSG_PEEK)
            talk: trio.abc.Stream = stream
            if first == b"\x16":
                talk = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
            data = await talk.receive_some(65536)
            if data:
                await talk.send_all(_HTTP if b"HTTP/1." in data else data)
            await talk.aclose()
        except (OSError, trio.BrokenResourceError, ssl.SSLError):
            return


async def _dns_tcp(stream: trio.SocketStream) -> None:
    with trio.move_on_after(10):
        try:
            data = await stream.receive_some(65537)
            reply = answer(bytes(data[2:]))
            if reply is not None:
                await stream.send_all(len(reply).to_bytes(2, "big") + reply)
        except (OSError, trio.BrokenResourceError):
            return


async def _mute(stream: trio.SocketStream) -> None:
    """Accept, take everything, say nothing."""
    with trio.move_on_after(10):
        try:
            while await stream.receive_some(65536):
                pass
            await trio.sleep_forever()
        except (OSError, trio.BrokenResourceError):
            return


async def _reset(stream: trio.SocketStream) -> None:
    """Accept, and reset the connection when the client speaks."""
    with trio.move_on_after(10):
        try:
            await stream.receive_some(65536)
        except (OSError, trio.BrokenResourceError):
            return
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _udp(family: int, port: int) -> None:
    with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as sock:
        if family == trio.socket.AF_INET6:
            sock.setsockopt(trio.socket.IPPROTO_IPV6, trio.socket.IPV6_V6ONLY, 1)
        await sock.bind(("", port))
        while True:
            data, peer = await sock.recvfrom(65535)
            if port in (MUTE_PORT, RESET_PORT):
                continue
            reply = answer(data) if port == DNS_PORT else data
            if reply is not None:
                await sock.sendto(reply, peer)


async def _handled(handler: Handler, stream: trio.SocketStream) -> None:
    async with stream:
        await handler(stream)


async def serve() -> None:
    """Listen until ended."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("lab.example").configure_cert(context)
    async with trio.open_nursery() as nursery:
        for family in (trio.socket.AF_INET, trio.socket.AF_INET6):
            for port in (UDP_PORT, DNS_PORT, MUTE_PORT, RESET_PORT):
                nursery.start_soon(_udp, family, port)
        handlers: dict[int, Handler] = {
            TCP_PORT: partial(_tcp, context=context),
            DNS_PORT: _dns_tcp,
            MUTE_PORT: _mute,
            RESET_PORT: _reset,
        }
        for port, handler in handlers.items():
            listeners = await trio.open_tcp_listeners(port, backlog=4096)
            for listener in listeners:
                listener.socket.setsockopt(*_TRANSPARENT[listener.socket.family], 1)
            nursery.start_soon(trio.serve_listeners, partial(_handled, handler), listeners)
        print("ready", flush=True)


if __name__ == "__main__":
    sys.exit(trio.run(serve))

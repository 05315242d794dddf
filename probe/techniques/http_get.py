"""`http_get`: the curl path. A name is resolved, connected to, and asked over HTTP, in TLS where ordered.

With method POST the body is the nonce and nothing else.
"""

from collections.abc import Sequence

from probe.documents import Attempt, Check, Order, Traits
from probe.model import Channel, HttpRequest
from probe.talk import Saying
from probe.techniques.base import Probe
from probe.techniques.tcp_connect import after_accept, connect_one


def _sends(check: Check) -> str:
    request = check.http or HttpRequest()
    return f"HTTP{'S' if request.tls else ''} {request.method} with the nonce"


TRAITS = Traits(channel=Channel.HTTP, packets=2 + 2 * 4 + 2, connects=2, sends=_sends)


async def run(orders: Sequence[Order], probe: Probe) -> None:
    """Every order, a bounded number together."""
    await probe.each(orders, attempt)


async def attempt(order: Order, probe: Probe) -> list[Attempt]:
    """All addresses of one order, one after the other."""
    request = order.http or HttpRequest()
    saying = Saying(order.token, order.destination.host, request.tls, request, listen=False)
    return await connect_and_say(order, saying, probe)


async def connect_and_say(order: Order, saying: Saying, probe: Probe) -> list[Attempt]:
    """Resolve, connect, and say `saying` to each address that accepts."""
    addresses: tuple[str, ...] = (order.destination.address,) if order.destination.address else ()
    attempts: list[Attempt] = []
    if not addresses:
        addresses, looked_up = await probe.names.lookup(order.destination.host or "", probe.pace, probe.started)
        attempts += looked_up
    port = order.destination.port or (443 if saying.tls else 80)
    for address in addresses:
        first = await connect_one(address, port, probe)
        attempts.append(first)
        if first.result == "connected":
            attempts += await after_accept(address, port, saying, probe)
    return attempts

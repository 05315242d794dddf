"""`tls_hello`: a TLS handshake with SNI and nothing inside. The certificate is the evidence of who answered."""

from collections.abc import Sequence

from probe.documents import Attempt, Order, Traits
from probe.model import Channel
from probe.talk import Saying
from probe.techniques.base import Probe
from probe.techniques.http_get import connect_and_say

TRAITS = Traits(
    channel=Channel.TLS,
    packets=2 + 2 * 3 + 2,
    connects=2,
    sends=lambda check: "TLS hello" + (f" for {check.destination.host}" if check.destination.host else ""),
)


async def run(orders: Sequence[Order], probe: Probe) -> None:
    """Every order, a bounded number together."""
    await probe.each(orders, attempt)


async def attempt(order: Order, probe: Probe) -> list[Attempt]:
    """All addresses of one order, one after the other."""
    saying = Saying(order.token, order.destination.host, tls=True, request=None, listen=False)
    return await connect_and_say(order, saying, probe)

"""What all conversations of one collector share: desk, zone, certificate, and the counters that the log tells."""

import ssl
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from probe.collector.desk import Desk
from probe.collector.names import Zone
from probe.collector.ratelimit import Limits

DEADLINE = 10.0  # seconds for a connection, whatever it does
# TLS handshakes with who has shown no token, per second and at once: of one network, and of all.
_HANDSHAKES = ((100.0, 1000.0), (400.0, 1000.0))


@dataclass(frozen=True, slots=True)
class House:
    """`dns_ports`: those that stand for 53, itself included. `tally`: what came. `clock`: seconds since 1970."""

    desk: Desk
    zone: Zone
    context: ssl.SSLContext
    dns_ports: frozenset[int] = frozenset((53,))
    tally: Counter[str] = field(default_factory=Counter)
    handshakes: Limits = field(default_factory=lambda: Limits(*_HANDSHAKES))
    clock: Callable[[], float] = time.time

"""Techniques: one file each, one attempt to one address. This file is the registry; a module is loaded when ordered.

A technique's module has `TRAITS` (what planning must know) and `run(orders, probe)`, which finishes every order.
"""

import importlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, cast

from probe.documents import Order, Traits
from probe.techniques.base import Probe

TECHNIQUES = (
    "tcp_connect",
    "dns_query",
    "dns_over_tls",
    "dns_over_https",
    "http_get",
    "tls_hello",
    "udp_datagram",
    "udp_unconnected",
    "tcp_fastopen",
    "mptcp_connect",
    "source_port",
    "icmp_echo",
    "raw_syn",
    "proxy_connect",
)


class Technique(Protocol):
    """The shape of a technique's module."""

    TRAITS: Traits
    run: Callable[[Sequence[Order], Probe], Awaitable[None]]


def load(name: str) -> Technique:
    """The technique's module. KeyError for a name that is not registered."""
    if name not in TECHNIQUES:
        raise KeyError(name)
    return cast("Technique", importlib.import_module(f"probe.techniques.{name}"))


def all_traits() -> dict[str, Traits]:
    """What planning needs."""
    return {name: load(name).TRAITS for name in TECHNIQUES}

"""How a row is named in words: its path, and what was observed there. Formats and changes use the same ones.

The words may hold what a stranger wrote: whoever prints them cleans them.
"""

from collections.abc import Iterable
from typing import Final

from probe.model import Outcome, Purpose
from probe.report import Observed, Result

# Techniques that take another way than a plain socket of their channel.
_WAYS: Final = {
    "udp_unconnected": "unconnected",
    "tcp_fastopen": "fast open",
    "mptcp_connect": "MPTCP",
    "source_port": "from port 53",
    "raw_syn": "raw SYN",
}


def path_of(result: Result) -> str:
    """`tcp 192.0.2.1:443`, with the question where there is one, and the way where it is no plain socket."""
    question = f" {result.query.type} over {result.query.transport.value}" if result.query else ""
    way = f" {_WAYS[result.technique]}" if result.technique in _WAYS else ""
    return f"{result.channel.value} {result.destination}{question}{way}".replace("{token}", "NONCE")


def observed(seen: Observed) -> str:
    """`rejected by router 10.0.0.1`."""
    word = seen.outcome.value
    if seen.enforcer is None or seen.outcome in (Outcome.REACHED, Outcome.NO_ROUTE):
        return word  # the word says it already
    if seen.enforcer.kind == "unknown":
        return f"{word} after hop {seen.enforcer.hop}" if seen.enforcer.hop and seen.outcome is Outcome.SILENT else word
    at = f" {seen.enforcer.address}" if seen.enforcer.address else ""
    at = at or (f" at hop {seen.enforcer.hop}" if seen.enforcer.hop else "")
    return f"{word} by {seen.enforcer.kind.value.replace('_', ' ')}{at}"


def shown(results: Iterable[Result]) -> list[Result]:
    """The rows without self-tests."""
    return [result for result in results if result.purpose is not Purpose.SELF_TEST]


def met_no_interception(result: Result) -> bool:
    """Whether it looked for an interception and met none: nobody wants a proof of that."""
    return result.purpose is Purpose.BOUNDARY and result.observed.outcome is not Outcome.INTERCEPTED

"""A collector's receipt: a MAC over what it saw, so that "connected" can be told from "arrived". Pure.

It is made under the run's key, which the inside never holds: whoever answers in the collector's place cannot make one.
Every DNS type carries it in a form of its own.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from ipaddress import IPv6Address

_PREFIX = "egress-probe-receipt="
# Where receipts under a name stand: `<mac>.r.ZONE`.
LABEL = "r"
FORM = re.compile(_PREFIX.encode() + rb"(v1,[a-z]{2,8},[0-9a-f.:]{2,45},[0-9]{1,5},[a-z2-7]{26})(?![a-z2-7])")

# Types that name a target, and what stands before it.
_TARGETS = {"CNAME": "", "MX": "10 ", "HTTPS": "1 ", "SVCB": "1 "}
TYPES = ("TXT", "NULL", "A", "AAAA", *_TARGETS)


def mac(key: bytes, token: str, channel: str, source: str, port: int) -> bytes:
    """128 bits over what was seen. `source`: an address as `ipaddress` writes it, a v4-mapped one as IPv4."""
    seen = "|".join(("receipt", token, channel, source, str(port)))
    return hmac.new(key, seen.encode(), hashlib.sha256).digest()[:16]


def write(key: bytes, token: str, channel: str, source: str, port: int) -> str:
    """The receipt in words: `egress-probe-receipt=v1,tcp,203.0.113.7,40312,MAC`."""
    return f"{_PREFIX}v1,{channel},{source},{port},{_text(mac(key, token, channel, source, port))}"


def find(data: bytes) -> str | None:
    """The first thing in `data` that looks like a receipt, without its prefix."""
    found = FORM.search(data)
    return found[1].decode() if found else None


def is_valid(receipt: str, key: bytes, token: str) -> bool:
    """Whether `receipt` (without its prefix) was made under `key` for `token`."""
    if not FORM.fullmatch((_PREFIX + receipt).encode("ascii", "replace")):
        return False
    _, channel, source, port, signed = receipt.split(",")
    return hmac.compare_digest(signed, _text(mac(key, token, channel, source, int(port))))


def records(kind: str, key: bytes, token: str, source: str, port: int, zone: str) -> list[str]:
    """The records of a DNS answer of type `kind`, in presentation format; none for a type that carries no receipt.

    A takes 41 bits of the MAC and AAAA 96, as addresses where nobody lives (RFC 5737, 2544, 3849).
    """
    made = mac(key, token, "dns", source, port)
    if kind in ("TXT", "NULL"):
        text = write(key, token, "dns", source, port)
        return [f'"{text}"'] if kind == "TXT" else [rf"\# {len(text)} {text.encode().hex()}"]
    if kind == "A":
        return [
            f"192.0.2.{made[0]}",
            f"198.51.100.{made[1]}",
            f"203.0.113.{made[2]}",
            f"198.{18 + made[3] % 2}.{made[4]}.{made[5]}",
        ]
    if kind == "AAAA":
        return [str(IPv6Address(b"\x20\x01\x0d\xb8" + made[:12]))]
    if kind in _TARGETS:
        return [f"{_TARGETS[kind]}{_text(made)}.{LABEL}.{zone}."]
    return []


def are_valid(
    kind: str, given: Iterable[str], key: bytes, token: str, seen: Iterable[tuple[str, int]], zone: str
) -> bool:
    """Whether the records of an answer are those that the collector gave to one of the sources that it saw."""
    answered = {_canonical(record) for record in given}
    for source, port in seen:
        wanted = {_canonical(record) for record in records(kind, key, token, source, port, zone)}
        if wanted and wanted <= answered:
            return True
    return False


def _canonical(record: str) -> str:
    # What writes a target or hex may differ in case, in a final dot, in spaces between blocks of hex.
    head, _, rest = record.lower().partition(" ")
    return f"{head} {rest.replace(' ', '')}".strip().rstrip(".")


def _text(made: bytes) -> str:
    return base64.b32encode(made).decode().lower().rstrip("=")

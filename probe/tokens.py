"""The nonce that a probe carries: run id ‖ check number ‖ truncated HMAC-SHA256 under the run's key.

An attacker cannot forge one and a collector keeps no state. It is one DNS label: lower case, at most 63 characters.
"""

import base64
import hashlib
import hmac
import os
import re

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MAC_CHARACTERS = 16  # 80 bits

TOKEN_LENGTH = 26 + 1 + 6 + 1 + _MAC_CHARACTERS
# Follows the token in a name that is asked for once more: no cache answers for it, and its arrival can be told apart.
AGAIN = "-again"
# What a token looks like, wherever it stands: run id, check number, MAC. Names arrive in any case (0x20).
FORM = re.compile(rb"([0-9a-hjkmnp-tv-z]{26})-([0-9a-f]{6})-([a-z2-7]{16})", re.IGNORECASE)


def new_run_id(milliseconds: int, entropy: bytes | None = None) -> str:
    """A ULID: 48 bits of Unix time in milliseconds, 80 random bits, 26 characters. https://github.com/ulid/spec"""
    value = milliseconds << 80 | int.from_bytes(os.urandom(10) if entropy is None else entropy, "big")
    return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))


def new_key() -> bytes:
    """A key for one run."""
    return os.urandom(32)


def token(run_id: str, check: int, key: bytes) -> str:
    """The token of one check."""
    body = f"{run_id.lower()}-{check:06x}"
    return f"{body}-{_mac(body, key)}"


def asked_again(name: str, token: str) -> str:
    """A name that carries `token`, as it is asked for at the end of a run."""
    return name.replace(token, token + AGAIN)


def verify(text: str, key: bytes) -> bool:
    """Whether `text` is a token made with `key`."""
    body, _, mac = text.rpartition("-")
    return hmac.compare_digest(mac.encode(), _mac(body, key).encode())


def _mac(body: str, key: bytes) -> str:
    digest = hmac.new(key, body.encode(), hashlib.sha256).digest()
    return base64.b32encode(digest).decode().lower()[:_MAC_CHARACTERS]

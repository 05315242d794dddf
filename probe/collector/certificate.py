"""The collector's certificate: made at the first start, or given. Its fingerprint is what controllers pin.

A self-signed certificate that is pinned needs no authority, and no name that an authority would publish.
"""

import datetime
import hashlib
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from probe.collector.state import read_private, write_new
from probe.errors import UserError

if TYPE_CHECKING:
    from cryptography import x509

MADE = "certificate.pem"  # certificate and key in one file, so that one never stands without the other
# Preferred first. `dot`: DNS over TLS (RFC 7858; IANA's ALPN registry). HTTP/2 is not spoken.
PROTOCOLS = ("http/1.1", "dot")
_DAYS = 3653


@dataclass(frozen=True, slots=True)
class Certificate:
    """`context` serves it. `sha256` is the fingerprint of its DER form, as hex."""

    context: ssl.SSLContext
    sha256: str


def given(certificate: Path, key: Path) -> Certificate:
    """The operator's own. Raises UserError."""
    read_private(key)
    try:
        text = certificate.read_text("ascii")
    except (OSError, ValueError) as error:
        raise UserError(f"--certificate {certificate}: cannot be read: {error}") from None
    return _load(certificate, key, text)


def made(folder: Path, names: Sequence[str]) -> Certificate:
    """The one in the state folder, made for `names` (addresses too) where there is none. Raises UserError."""
    path = folder / MADE
    if not path.exists():
        write_new(path, make(names))
    return _load(path, path, read_private(path).decode("ascii", "replace"))


def make(names: Sequence[str]) -> bytes:
    """A new self-signed certificate (EC P-256, ten years) and its key, as PEM."""
    # Here, because it costs 40 ms that no other command should pay.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "egress-probe collector")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return signed.public_bytes(serialization.Encoding.PEM) + key.private_bytes(serialization.Encoding.PEM, form, none)


def _general_name(name: str) -> "x509.GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _load(certificate: Path, key: Path, text: str) -> Certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(list(PROTOCOLS))
    try:
        # An encrypted key would make OpenSSL ask on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
        # Of a chain, the first is the server's own.
        end = "-----END CERTIFICATE-----"
        der = ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERT") : text.index(end) + len(end)] + "\n")
    except (ssl.SSLError, ValueError, OSError) as error:
        raise UserError(f"{certificate}: no certificate in PEM with a plain key beside it: {error}") from None
    return Certificate(context, hashlib.sha256(der).hexdigest())

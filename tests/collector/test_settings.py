"""What an operator may ask for, what is refused in one line, and the URL; private files."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from probe.collector import certificate, settings, state
from probe.collector.settings import Settings
from probe.errors import UserError
from probe.farclient import parse_url

PLAIN = Settings("exfil.example", ("203.0.113.53", "2001:db8:53::53"), Path("/nowhere"))


def test_the_url_of_the_design_note() -> None:
    shown = settings.shown(PLAIN, PLAIN.zone)
    url = settings.url(shown, "ab" * 32)
    assert url == (
        "https://203.0.113.53:8443/?zone=exfil.example&address=203.0.113.53&address=2001:db8:53::53"
        "&tcp=53,80,443,853,4444&udp=53,443,4444#sha256=" + "ab" * 32
    )
    address, told = parse_url(url)
    assert told == shown
    assert (address.host, address.port, address.certificate) == ("203.0.113.53", 8443, "ab" * 32)


@pytest.mark.parametrize(
    ("changes", "url", "tcp", "udp"),
    [
        ({"dns_port": 5353}, "https://203.0.113.53:8443", (53, 80, 443, 853, 4444), (53, 443, 4444)),
        ({"all_tcp": 9999}, "https://203.0.113.53:8443", (53, 80, 443, 853, 4444), (53, 443, 4444)),
        ({"tcp": (25,), "says_tcp": (25, 53)}, "https://203.0.113.53:8443", (25, 53), (53, 443, 4444)),
        ({"udp": (25,), "says_udp": (1,)}, "https://203.0.113.53:8443", (53, 80, 443, 853, 4444), (1,)),
        ({"api_address": "::1", "api_port": 1}, "https://[::1]:1", (53, 80, 443, 853, 4444), (53, 443, 4444)),
        ({"api_address": "::"}, "https://203.0.113.53:8443", (53, 80, 443, 853, 4444), (53, 443, 4444)),
        ({"addresses": ("2001:DB8::1",)}, "https://[2001:db8::1]:8443", (53, 80, 443, 853, 4444), (53, 443, 4444)),
    ],
)
def test_what_controllers_are_told(
    changes: dict[str, Any], url: str, tcp: tuple[int, ...], udp: tuple[int, ...]
) -> None:
    told = settings.shown(replace(PLAIN, **changes), PLAIN.zone)
    assert (told.url, told.tcp, told.udp) == (url, tcp, udp)


def test_what_is_listened_on() -> None:
    found = settings.wanted(replace(PLAIN, dns_port=5353, tcp=(53, 80), udp=(53,), all_tcp=9999), ipv6=False)
    assert list(map(str, found)) == [
        "tcp 0.0.0.0:5353", "tcp 0.0.0.0:80", "tcp 0.0.0.0:9999", "udp 0.0.0.0:5353", "tcp 0.0.0.0:8443",
    ]  # fmt: skip
    assert {place.address for place in settings.wanted(PLAIN, ipv6=True)} == {"0.0.0.0", "::"}
    only = settings.wanted(replace(PLAIN, listen=("::1",), api_address="127.0.0.1"), ipv6=True)
    assert {(place.kind, place.address) for place in only} == {("tcp", "::1"), ("udp", "::1"), ("api", "127.0.0.1")}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"addresses": ()}, "--address: expected the address that clients reach this collector at"),
        ({"addresses": ("nowhere",)}, "--address nowhere: expected an IPv4 or IPv6 address"),
        ({"addresses": ("::",)}, "--address ::: expected the address that clients reach, not what is listened on"),
        (
            {"addresses": ("203.0.113.53", "203.0.113.54")},
            "--address: two of one IP version (expected one for IPv4, one for IPv6)",
        ),
        ({"listen": ("x\ny",)}, r"--listen x\ny: expected an IPv4 or IPv6 address"),
        ({"api_address": "x"}, "--api x: expected an IPv4 or IPv6 address"),
        ({"api_port": 443}, "--api: port 443 is one of those that tokens go to: choose another"),
        ({"key": Path("k")}, "--certificate and --key: expected both or none"),
        ({"tcp": tuple(range(1, 40))}, "--says-tcp: expected at most 32 ports for the URL to tell"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], line: str) -> None:
    settings.check(PLAIN)
    with pytest.raises(UserError) as error:
        settings.check(replace(PLAIN, **changes))
    assert str(error.value) == line


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    state.open_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    made = state.secret(folder / "s")
    assert len(made) == 43
    assert state.secret(folder / "s") == made
    assert [path.name for path in folder.iterdir()] == ["s"]
    assert (folder / "s").stat().st_mode & 0o777 == 0o600


def test_what_others_may_open_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with pytest.raises(UserError, match=rf"others may open it \(mode 750\): chmod 700 {tmp_path}"):
        state.open_folder(tmp_path)
    state.secret(tmp_path / "s")
    (tmp_path / "s").chmod(0o640)
    with pytest.raises(UserError, match=rf"others may open it \(mode 640\): chmod 600 {tmp_path}/s"):
        state.secret(tmp_path / "s")


def test_what_is_no_secret_and_no_folder(tmp_path: Path) -> None:
    (tmp_path / "s").touch(0o600)
    with pytest.raises(UserError, match="expected a secret of at least 32 characters"):
        state.secret(tmp_path / "s")
    with pytest.raises(UserError, match=f"--state {tmp_path}/s: is not a folder"):
        state.open_folder(tmp_path / "s")
    with pytest.raises(UserError, match=r"--state .*: Not a directory"):
        state.open_folder(tmp_path / "s" / "t")
    with pytest.raises(UserError, match="cannot be written"):
        state.secret(tmp_path / "nowhere" / "s")


def test_a_certificate_is_made_once_or_given(tmp_path: Path) -> None:
    made = certificate.made(tmp_path, ("exfil.example", "203.0.113.53", "2001:db8::1"))
    assert certificate.made(tmp_path, ("another.example",)).sha256 == made.sha256
    path = tmp_path / certificate.MADE
    assert path.stat().st_mode & 0o777 == 0o600
    assert certificate.given(path, path).sha256 == made.sha256
    for name, text in (("empty", b""), ("half", path.read_bytes()[:300])):
        (tmp_path / name).write_bytes(text)
        os.chmod(tmp_path / name, 0o600)
        with pytest.raises(UserError, match="no certificate in PEM with a plain key beside it"):
            certificate.given(tmp_path / name, path)
        with pytest.raises(UserError, match="no certificate in PEM with a plain key beside it"):
            certificate.given(path, tmp_path / name)
    with pytest.raises(UserError, match=r"--certificate .*nowhere: cannot be read"):
        certificate.given(tmp_path / "nowhere", path)
    path.chmod(0o644)
    with pytest.raises(UserError, match="others may open it"):
        certificate.given(path, path)

"""Values of options that are secrets: what is taken, and that what is refused is told without the secret."""

import os
from pathlib import Path

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.alerts.place import exposed, place
from probe.alerts.posting import poster
from probe.errors import UserError
from tests.alerts.make import private

SECRET = "s3cr3t"

# value → scheme, host, port, target, authority
TAKEN: list[tuple[str, tuple[str, str, int, str, str]]] = [
    ("https://hooks.example.com/T0/B0/x", ("https", "hooks.example.com", 443, "/T0/B0/x", "hooks.example.com")),
    ("https://HOOKS.example.com:443", ("https", "hooks.example.com", 443, "/", "hooks.example.com")),
    ("https://a_b.example:8443/?k=v&w#part", ("https", "a_b.example", 8443, "/?k=v&w", "a_b.example:8443")),
    ("https://me:pw@192.0.2.1/x", ("https", "192.0.2.1", 443, "/x", "192.0.2.1")),
    ("https://[2001:db8::1]:444/x", ("https", "2001:db8::1", 444, "/x", "[2001:db8::1]:444")),
    ("http://127.0.0.1:8080/x", ("http", "127.0.0.1", 8080, "/x", "127.0.0.1:8080")),
    ("http://127.9.9.9/x", ("http", "127.9.9.9", 80, "/x", "127.9.9.9")),
    ("http://[::1]/x", ("http", "::1", 80, "/x", "[::1]")),
]


@pytest.mark.parametrize(("value", "parts"), TAKEN, ids=[value for value, _ in TAKEN])
def test_what_is_taken(value: str, parts: tuple[str, str, int, str, str]) -> None:
    made = place("--alert webhook", value)
    assert (made.scheme, made.host, made.port, made.target, made.authority) == parts
    assert made.plain == value.startswith("http:")


REFUSED: list[tuple[str, str]] = [
    ("", "expected https://… in printable ASCII, or @FILE with that as its first line"),
    (f"https://x.example/{SECRET} y", "expected https://… in printable ASCII, or @FILE with that as its first line"),
    (f"https://x.example/{SECRET}\n", "expected https://… in printable ASCII, or @FILE with that as its first line"),
    (f"https://ü.example/{SECRET}", "expected https://… in printable ASCII, or @FILE with that as its first line"),
    (
        "https://x.example/" + SECRET * 1000,
        "expected https://… in printable ASCII, or @FILE with that as its first line",
    ),
    (f"http://x.example/{SECRET}", "http:// would show the alert and its secret on the way: expected https://…"),
    (f"http://localhost/{SECRET}", "http:// would show the alert and its secret on the way: expected https://…"),
    (f"http://127.1/{SECRET}", "http:// would show the alert and its secret on the way: expected https://…"),
    (
        f"http://[::ffff:192.0.2.1]/{SECRET}",
        "http:// would show the alert and its secret on the way: expected https://…",
    ),
    (f"ftp://x.example/{SECRET}", "not a URL that can be posted to (expected https://…, or @FILE)"),
    (f"x.example/{SECRET}", "not a URL that can be posted to (expected https://…, or @FILE)"),
    (f"https:///{SECRET}", "not a URL that can be posted to (expected https://…, or @FILE)"),
    (f"https://a..b/{SECRET}", "not a URL that can be posted to (expected https://…, or @FILE)"),
    (f"https://{'a' * 64}.example/{SECRET}", "not a URL that can be posted to (expected https://…, or @FILE)"),
    (f"https://x.example:0/{SECRET}", "not a URL that can be posted to (expected https://…, or @FILE)"),
    (f"https://x.example:{SECRET}/", "not a URL (expected https://…, or @FILE)"),
    (f"https://[{SECRET}/", "not a URL (expected https://…, or @FILE)"),
]


@pytest.mark.parametrize(("value", "words"), REFUSED)
def test_what_is_refused(value: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        place("--alert webhook", value)
    assert str(caught.value) == f"--alert webhook: {words}"


URLS = st.from_regex(r"(https|http|ftp)://[!-~]{0,60}", fullmatch=True) | st.text(max_size=80)


@settings(max_examples=300, deadline=None)
@given(URLS)
def test_whatever_is_taken_can_be_posted_to(value: str) -> None:
    try:
        made = place("--alert webhook", value)
    except UserError:  # anything else that is raised is a bug
        return
    assert made.host.encode("idna")  # what Python's TLS does with it
    assert h11.Request(method="POST", target=made.target, headers=[("Host", made.authority)])
    assert str(made) == object.__repr__(made)
    poster("--alert webhook", made, 1.0)


def test_files(tmp_path: Path) -> None:
    url = f"https://hooks.example.com/{SECRET}"
    assert place("--alert slack", f"@{private(tmp_path, url)}").target == f"/{SECRET}"
    made = place("--alert slack", f"@{private(tmp_path, f'  {url}  ', 'Bearer t0ken', 'whatever')}")
    assert (made.target, made.authorization) == (f"/{SECRET}", "Bearer t0ken")
    assert place("--alert slack", f"@{private(tmp_path, url, '')}").authorization is None


FILES: list[tuple[list[str], int, str]] = [
    (["https://x.example/s3cr3t"], 0o640, "others may open it (mode 640): chmod 600"),
    (["https://x.example/s3cr3t"], 0o604, "others may open it (mode 604): chmod 600"),
    (["https://x.example/s3cr3t", "s3cr3t"], 0o600, "line 2: expected `Bearer TOKEN`, or nothing"),
    (["https://x.example/s3cr3t", "Bearer s3 cr3t"], 0o600, "line 2: expected `Bearer TOKEN`, or nothing"),
    (["https://me:s3cr3t@x.example/", "Bearer s3cr3t"], 0o600, "has a user in its URL and a Bearer token as well: expected one of them"),
    ([], 0o600, "expected https://… in printable ASCII, or @FILE with that as its first line"),
    (["# the URL"], 0o600, "expected https://… in printable ASCII, or @FILE with that as its first line"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "mode", "words"), FILES)
def test_files_that_are_refused(tmp_path: Path, lines: list[str], mode: int, words: str) -> None:
    path = private(tmp_path, *lines, mode=mode)
    if os.stat(path).st_gid == 0 and mode == 0o640:  # root's own group may read it
        os.chmod(path, 0o660)
        words = words.replace("640", "660")
    with pytest.raises(UserError) as caught:
        place("--alert webhook", f"@{path}")
    assert str(caught.value) == f"--alert webhook @{path}: {words}"


@pytest.mark.parametrize(("name", "words"), [
    ("none", "cannot be read: No such file or directory"),
    ("", "cannot be read: Is a directory"),
    ("a\0b", "cannot be read: no file name"),
])  # fmt: skip
def test_files_that_cannot_be_read(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        place("--alert webhook", f"@{tmp_path}/{name}")


def test_who_may_read_a_private_file() -> None:
    own = os.geteuid()
    table = [
        ((own, 5, 0o100600), None),
        ((own, 5, 0o100400), None),
        ((0, 0, 0o100440), None),  # a credential that systemd handed over
        ((own, 0, 0o100640), None),
        ((own, 5, 0o100640), "others may open it (mode 640): chmod 600"),
        ((own, 0, 0o100660), "others may open it (mode 660): chmod 600"),
        ((own, 0, 0o100644), "others may open it (mode 644): chmod 600"),
        ((own, 5, 0o100602), "others may open it (mode 602): chmod 600"),
        ((own + 1, 5, 0o100600), f"belongs to user {own + 1}, expected {own}, who runs this"),
    ]
    assert [exposed(*row) for row, _ in table] == [words for _, words in table]


PROXIES: list[str] = [
    "socks5://s3cr3t@p.example",
    "s3cr3t://p.example",
    "http://p.example:s3cr3t",
    "http://me:s3cr3t@",
    "http://é.s3cr3t",
]


@pytest.mark.parametrize("proxy", PROXIES)
def test_proxies_that_are_refused(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = place("--alert webhook", "https://x.example/")
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(UserError) as caught:
        poster("--alert webhook", made, 1.0)
    assert (
        str(caught.value)
        == "--alert webhook: the proxy of HTTPS_PROXY or ALL_PROXY cannot be used (expected http://HOST:PORT)"
    )
    monkeypatch.setenv("NO_PROXY", "x.example")
    poster("--alert webhook", made, 1.0)
    monkeypatch.delenv("NO_PROXY")
    poster("--alert webhook", place("--alert webhook", "http://127.0.0.1/"), 1.0)  # never through a proxy

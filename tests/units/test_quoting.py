"""Command lines come back as they were: through systemd itself, and through cron's reading and sh."""

import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.errors import UserError
from probe.units.quoting import cron_command, systemd_command, systemd_word
from tests.units.manager import cannot, start

HARD = [
    "", " ", "a b", "\t", '"', "'", "\\", "\\\\", "\\\\\\", "a\\", "\\n", "\\x41", "\\%", "\\\\%", "%", "%%", "%n", "%h/x", "100%", "$", "$$", "$HOME",
    "${HOME}", "$$HOME", "a$", "$(id)", "`id`", ";", "\\;", "a;b", "&&", "|", "#", "# x", "*", "?", "~", "!", "-", "--", "@", "+", ":", "=", "a=b",
    "'\"'", "it's", '"quoted"', "'\\''", "é", "日本", "\u202e", "{}", "<", ">", "(", "[", "\x7f", "\x01", "\x1b[2J", "\\'%\"", "'%'", "%\\%\\\\%",
]  # fmt: skip
BREAKS = ["\n", "a\nb", "\r\n", "\\\n", "x\\"]

words = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from("\\\"'%$;{} \n")),
    min_size=1,
    max_size=8,
)


def through_systemd(given_words: list[str]) -> list[str]:
    """The words that a program gets which systemd starts: each ended by a NUL."""
    line = systemd_command(["/usr/bin/printf", "%s\\0", *given_words])
    files = {"t.service": f"[Service]\nType=oneshot\nExecStart={line}\nEnvironment=HOME=/wrong\n"}
    ended = start(files, "t.service")
    assert ended.status == 0, ended
    return ended.out.split("\0")[:-1]


def cron_reads(command: str, collapses: bool) -> str:
    """What cron hands to sh: Vixie's do_command.c. Some versions also make one backslash of two (`collapses`)."""
    read, escaped = "", False
    for c in command:
        if escaped and (c == "%" or (collapses and c == "\\")):
            read = read[:-1] + c
        elif c == "%":
            return read  # the rest would be its standard input
        else:
            read += c
        escaped = c == "\\" and not escaped
    return read


def through_cron(given_words: list[str], collapses: bool) -> list[str]:
    line = cron_command(["/usr/bin/printf", "%s\\0", *given_words])
    assert "\n" not in line
    read = cron_reads(line, collapses)
    done = subprocess.run(["/bin/sh", "-c", read], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.real("systemd")
@pytest.mark.skipif(cannot() is not None, reason=str(cannot()))
def test_systemd_reads_hard_words_back() -> None:
    assert through_systemd(HARD + BREAKS) == HARD + BREAKS


@pytest.mark.real("systemd")
@pytest.mark.skipif(cannot() is not None, reason=str(cannot()))
@settings(max_examples=20, deadline=None)
@given(words)
def test_systemd_reads_any_words_back(given_words: list[str]) -> None:
    assert through_systemd(given_words) == given_words


@pytest.mark.parametrize("collapses", [False, True])
def test_cron_reads_hard_words_back(collapses: bool) -> None:
    assert through_cron(HARD, collapses) == HARD


@settings(max_examples=100, deadline=None)
@given(words, st.booleans())
def test_cron_reads_any_words_back(given_words: list[str], collapses: bool) -> None:
    if any(c in word for word in given_words for c in "\n\r"):
        with pytest.raises(UserError, match="line break"):
            cron_command(given_words)
    else:
        assert through_cron(given_words, collapses) == given_words


def test_the_model_of_cron_tells_bad_quoting() -> None:
    assert cron_reads("echo 50%", False) == "echo 50"
    assert cron_reads(r"echo '\\%'", False) != cron_reads(r"echo '\\%'", True)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("plain-1.0_x/y:z=,@+", "plain-1.0_x/y:z=,@+"),
        ("a b", '"a b"'),
        ("", '""'),
        (";", '";"'),
        ("50%", "50%%"),
        ('a"b\\', '"a\\"b\\\\"'),
        ("a\nb\x7f", '"a\\x0ab\\x7f"'),
    ],
)
def test_systemd_words(word: str, text: str) -> None:
    assert systemd_word(word) == text


@pytest.mark.parametrize("program", ["/a$b", "/a%b", '/a"b', "/a\\b", "/a\nb", "/"])
def test_a_program_that_systemd_cannot_start_is_refused(program: str) -> None:
    with pytest.raises(UserError, match=re.escape("systemd cannot start a program by such a path")):
        systemd_command([program])

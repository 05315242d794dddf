"""Slack's body: nothing in it can mention, link or format; bounded; and what Slack says of a refusal."""

import html
import json
import re

import pytest
from hypothesis import given, settings

from probe.alert import Alert
from probe.alerts import CHANNELS, slack
from probe.alerts.deliver import Outcome, deliver
from tests.alerts.make import ALERT, ALERTS, RUN_ID, alert, hostile
from tests.alerts.web import head, server

GAP = "\u200b"

ESCAPED: list[tuple[str, str]] = [
    ("plain text, 100 %", "plain text, 100 %"),
    ("&", "&amp;"),
    ("<", "&lt;"),
    (">", "&gt;"),
    ("&lt;", "&amp;lt;"),
    ("<!channel>", "&lt;!channel&gt;"),
    ("<!here|here>", "&lt;!here|here&gt;"),
    ("<@U024BE7LH>", f"&lt;@{GAP}U024BE7LH&gt;"),
    ("<!subteam^SAZ94GDB8>", "&lt;!subteam^SAZ94GDB8&gt;"),
    ("<https://evil.example|click>", "&lt;https://evil.example|click&gt;"),
    ("![x](https://evil.example)", f"![x]{GAP}(https://evil.example)"),
    ("@here @channel @everyone", f"@{GAP}here @{GAP}channel @{GAP}everyone"),
]


@pytest.mark.parametrize(("text", "shown"), ESCAPED)
def test_the_escaping(text: str, shown: str) -> None:
    assert slack.escape(text) == shown
    assert html.unescape(shown).replace(GAP, "") == text  # nothing is lost


def test_what_it_says() -> None:
    assert json.loads(slack.body(ALERT)) == {
        "text": "CRITICAL: canary nightly: tcp 192.0.2.1:443 leaked: declared deny, and it got out\n"
        "was: closed\nis: open\nblocks: 192.0.2.0/24\n"
        f"egress_path_validation · run {RUN_ID} · 2026-01-02T03:04:05.678Z · alert 0f3a9c",
        "mrkdwn": False, "parse": "none", "link_names": False, "unfurl_links": False, "unfurl_media": False,
    }  # fmt: skip
    bare = alert(
        run_id=None, kind="failed", severity="warning", line="no run", paths=(), cidrs=(), before=None, after=None
    )
    assert json.loads(slack.body(bare))["text"] == (
        "WARNING: canary nightly: no run\negress_path_validation · run none · 2026-01-02T03:04:05.678Z · alert 0f3a9c"
    )
    many = alert(paths=tuple(f"row {n}" for n in range(12)))
    assert (
        "paths: row 0, row 1, row 2, row 3, row 4, row 5, row 6, row 7, row 8, row 9 and 2 more"
        in json.loads(slack.body(many))["text"]
    )


@settings(max_examples=200, deadline=None)
@given(ALERTS)
def test_no_text_forges_anything(made: Alert) -> None:
    body = slack.body(made)
    assert body.isascii()
    text = json.loads(body)["text"]
    assert len(html.unescape(text).replace(GAP, "")) <= 4000
    assert len(text) < 40_000
    assert not re.search(r"[<>]|@(?!\u200b)|\]\(|&(?!(amp|lt|gt);)", text)
    lines = text.split("\n")
    assert all(line.replace(GAP, "").isprintable() for line in lines)
    assert lines[0].startswith(f"{made.severity.upper()}: canary ")
    assert lines[-1].startswith("egress_path_validation · run ")
    assert len(lines) <= 6


async def test_it_is_posted() -> None:
    async with server(head(200, body=b"ok")) as there:
        channel = CHANNELS["slack"](there.url("/services/T0/B0/x"))
        await channel.send(hostile())
    assert channel.name == "slack 127.0.0.1"
    assert there.got[0].body == slack.body(hostile())
    assert there.got[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize(("status", "body", "words"), [
    (404, b"no_service", "it answered 404 Not Found: no service"),
    (403, b"invalid_token\n", "it answered 403 Forbidden: invalid token"),
    (404, b"no_service at https://hooks.slack.com/secret", "it answered 404 Not Found"),
    (500, b"", "it answered 500 Internal Server Error"),
])  # fmt: skip
async def test_what_slack_says_of_a_refusal(status: int, body: bytes, words: str) -> None:
    async with server(head(status, body=body)) as there:
        assert await deliver([(ALERT, slack.make(there.url()))], tries=1) == [Outcome(words, True)]

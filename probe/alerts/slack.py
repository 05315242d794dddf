"""Channel `slack`: an incoming webhook of Slack's, or of what takes the same (Mattermost, Discord's `/slack`).

Value: `https://…`, or `@FILE` (private). Nothing in the text can mention somebody or hide a link.
"""

import json

from probe.alert import Alert
from probe.alerts.base import Channel
from probe.alerts.place import place
from probe.alerts.posting import DEADLINE, poster
from probe.alerts.refusing import refusal
from probe.alerts.words import message, short

OPTION = "--alert slack"
_MOST_NAMED = 10

# What Slack says in the body of a refusal, and nothing else that stands there, is told on.
_REFUSALS = {
    word: word.replace("_", " ")
    for word in (
        "action_prohibited", "channel_is_archived", "channel_not_found", "invalid_payload", "invalid_token",
        "no_active_hooks", "no_service", "no_service_id", "no_team", "no_text",
        "posting_to_general_channel_denied", "team_disabled",
    )
}  # fmt: skip


def make(value: str, deadline: float = DEADLINE) -> Channel:
    """The channel; `deadline` in seconds, for one whole exchange. Raises UserError."""
    to = place(OPTION, value)
    post = poster(OPTION, to, deadline)

    async def send(alert: Alert) -> None:
        problem = refusal(await post(body(alert), {}), _REFUSALS)
        if problem is not None:
            raise problem

    return Channel(f"slack {to.host}", send)


def body(alert: Alert) -> bytes:
    """The JSON that Slack takes.

    No blocks: only Slack knows them, and plain text needs none. Nothing is unfurled: Slack would fetch what a hostile
    name looks like.
    """
    plain = {"mrkdwn": False, "parse": "none", "link_names": False, "unfurl_links": False, "unfurl_media": False}
    return json.dumps({"text": escape(_text(alert)), **plain}).encode("ascii")


def escape(text: str) -> str:
    """`text` as it is shown, and nothing is meant by it: Slack's three entities, and two gaps of no width.

    Mattermost and Discord take a bare @here for a mention, and [text](URL) for a link. Slack takes neither.
    """
    entities = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return entities.replace("@", "@\u200b").replace("](", "]\u200b(")


def _text(alert: Alert) -> str:
    """Bounded in every part: 4,000 characters before they are escaped. Slack cuts at 40,000."""
    change = alert.change
    run = short(alert.run_id or "none", 64)
    lines = [
        f"{alert.severity.upper()}: {message(alert)}",
        *([f"was: {short(change.before, 300)}"] if change.before else []),
        *([f"is: {short(change.after, 300)}"] if change.after else []),
        *([f"paths: {_some(change.paths)}"] if len(change.paths) > 1 else []),
        *([f"blocks: {_some(change.cidrs)}"] if change.cidrs else []),
        f"{alert.probe_type} · run {run} · {short(alert.time, 40)} · alert {short(alert.id, 64)}",
    ]
    return "\n".join(lines)


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(short(name, 60) for name in names[:_MOST_NAMED]) + more

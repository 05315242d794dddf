"""Channel `webhook`: a POST of the alert as JSON, `egress-probe.alert/1`. Value: `https://…`, or `@FILE` (private).

The file's first line is the URL; its second may be `Bearer TOKEN`.
"""

from urllib.parse import quote

from probe.alert import Alert
from probe.alerts.base import Channel
from probe.alerts.place import place
from probe.alerts.posting import DEADLINE, poster
from probe.alerts.refusing import refusal
from probe.codec import to_line

OPTION = "--alert webhook"


def make(value: str, deadline: float = DEADLINE) -> Channel:
    """The channel; `deadline` in seconds, for one whole exchange. Raises UserError."""
    to = place(OPTION, value)
    post = poster(OPTION, to, deadline)

    async def send(alert: Alert) -> None:
        # The same whenever it is sent again, so that a receiver can tell. Any text: a header holds printable ASCII.
        headers = {"Idempotency-Key": quote(alert.id[:256].encode("utf-8", "replace"), safe="!$&'()*+,-./:;=?@_~")}
        problem = refusal(await post(to_line(alert).encode("ascii"), headers))
        if problem is not None:
            raise problem

    return Channel(f"webhook {to.host}", send)

"""What the channels tell of an alert in common: its message, and the fields that a log is searched by. Pure."""

from probe.alert import Alert
from probe.errors import one_line

APPLICATION = "egress-probe"
MOST_LINE = 1000  # characters

# syslog's and the journal's severities (RFC 5424, 6.2.1).
PRIORITY = {"critical": 2, "warning": 4, "notice": 5}


def short(text: str, most: int) -> str:
    """One printable line of at most `most` characters."""
    line = one_line(text[: most + 1])  # what is cut off anyway need not be made visible
    return line if len(line) <= most else line[: most - 1] + "…"


def message(alert: Alert) -> str:
    """One printable line, of at most MOST_LINE characters: `canary nightly: LEAK: …`. The line starts with its kind."""
    return short(f"canary {short(alert.canary, 64)}: {alert.change.line}", MOST_LINE)


def single_fields(alert: Alert) -> tuple[tuple[str, str], ...]:
    """The fields that stand once, by the names that the reports have; as they are, so hostile text is in them."""
    return (
        ("probe_type", alert.probe_type),
        *([("run_id", alert.run_id)] if alert.run_id is not None else []),
        ("kind", alert.change.kind),
        ("canary", alert.canary),
        ("alert", alert.id),
    )


def repeated_fields(alert: Alert) -> tuple[tuple[str, str], ...]:
    """The fields that may stand many times: blocks first, because a filter for all of our probes goes by them."""
    return (*(("cidr", block) for block in alert.change.cidrs), *(("path", path) for path in alert.change.paths))

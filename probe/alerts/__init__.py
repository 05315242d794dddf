"""Channels that carry a scheduled run's alerts: one file each, alert → the other side. This file is the registry.

A channel's module has `make(value)`: from its option's value to a Channel. It raises UserError and sends nothing.
"""

from collections.abc import Callable

from probe.alerts import command, journald, slack, syslog, webhook
from probe.alerts.base import Channel, DeliveryError

__all__ = ["CHANNELS", "Channel", "DeliveryError"]

CHANNELS: dict[str, Callable[[str], Channel]] = {
    "webhook": webhook.make,
    "slack": slack.make,
    "syslog": syslog.make,
    "journald": journald.make,
    "command": command.make,
}

"""Schedules for the canary: one file each, a job → the files that make a scheduler run it. This file is the registry.

Each takes a Job and returns {file name: text}; it raises UserError for what cannot stand there.
"""

from collections.abc import Callable
from typing import Final

from probe.units import cron, systemd
from probe.units.job import Job

__all__ = ["SCHEDULERS", "Job"]

SCHEDULERS: Final[dict[str, Callable[[Job], dict[str, str]]]] = {
    "systemd": systemd.units,
    "cron": cron.table,
}

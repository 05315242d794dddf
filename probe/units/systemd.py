"""`systemd`: a service and its timer. How strict the service is, depends on how the agent is started (hardening.py).

Sources: systemd.service(5), systemd.exec(5), systemd.timer(5), systemd.time(7).
"""

from typing import Final

from probe.units.hardening import hardening
from probe.units.job import MARKER, Checked, Job, checked
from probe.units.quoting import systemd_command, systemd_raw

_SERVICE: Final = """\
{marker}
# Changes belong in a drop-in: systemctl {manager}edit egress-probe-{name}.service
# (for all canaries: a file in egress-probe-.service.d/).
[Unit]
Description=Egress canary {name}: is the declared egress policy true
{network}
[Service]
Type=oneshot
# Exit codes: 0 conforms, 1 a leak or an over-block, 2 usage or environment, 3 unproven. All but 0 are failures: what is
# not proven is not fine. OnFailure= in a drop-in says what happens then; SuccessExitStatus=3 would let unproven pass.
ExecStart={command}
WorkingDirectory={folder}
TimeoutStartSec={limit}
{who}
# The environment is empty here. Proxy variables that the agents have, and secrets (EGRESS_PROBE_COLLECTOR_TOKEN=…),
# belong in this file, mode 0600: a unit and a command line can be read by everybody. An option that takes a secret's
# file can be given a credential: LoadCredential= and the whole ExecStart= again, with ${{CREDENTIALS_DIRECTORY}}.
EnvironmentFile=-%E/egress-probe/{name}.env

{hardening}
"""

_ONLINE: Final = """\
# A run before the network is up would call every allowed path over-blocked.
Wants=network-online.target
After=network-online.target
"""
# The folders are each canary's own: systemd gives them to User=, which may differ between canaries.
_WHO: Final = """\
# Who runs it decides what a firewall sees (meta skuid, socket cgroupv2): User=, Group=, Slice= should be the agents'.
{user}
# The history: /var/lib/egress-probe/{name}/egress-probe/canary/{name}.sqlite, unless --history says otherwise.
StateDirectory=egress-probe/{name}
StateDirectoryMode=0700
CacheDirectory=egress-probe/{name}
CacheDirectoryMode=0700
Environment=XDG_STATE_HOME=%S/egress-probe/{name} XDG_CACHE_HOME=%C/egress-probe/{name}"""
# A user's own manager knows neither the system's target nor User=, and the folders are the user's.
_OWN: Final = "# It runs while you are logged in; always after: loginctl enable-linger"

_TIMER: Final = """\
{marker}
[Unit]
Description=Egress canary {name}, every {every}

[Timer]
{when}
# Not all at the same time, and not at times that a sandbox could learn: it is drawn anew for each run.
RandomizedDelaySec={splay}
AccuracySec={accuracy}

[Install]
WantedBy=timers.target
"""


def units(job: Job) -> dict[str, str]:
    """`egress-probe-NAME.service` and `.timer`. Raises UserError."""
    wanted = checked(job)
    name = f"egress-probe-{wanted.name}"
    return {f"{name}.service": _service(wanted), f"{name}.timer": _timer(wanted)}


def _service(job: Checked) -> str:
    user = f"User={job.user}" if job.user else "#User="
    return _SERVICE.format(
        marker=MARKER,
        manager="--user " if job.own else "",
        name=job.name,
        network="" if job.own else _ONLINE,
        command=systemd_command(job.words),
        folder=systemd_raw(job.folder),
        limit=job.limit,
        who=_OWN if job.own else _WHO.format(name=job.name, user=user),
        hardening="\n".join(hardening(job)),
    )


def _timer(job: Checked) -> str:
    return _TIMER.format(
        marker=MARKER,
        name=job.name,
        every=_span(job.every),
        when=_when(job.every),
        splay=job.splay,
        accuracy=1 if job.every < 600 else 60,
    )


def _span(seconds: int) -> str:
    """`90min`: exactly, in the largest unit that fits."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _when(every: int) -> str:
    calendar = _calendar(every)
    if calendar is None:
        head = "# No times of day are so far apart: it counts from the last start."
        return f"{head}\nOnActiveSec=1min\nOnUnitActiveSec={_span(every)}"
    lines = ["# UTC: no hour is there twice, or missing.", f"OnCalendar={calendar} UTC"]
    if every >= 3600:
        lines += ["# What was missed while the machine was off is made up for.", "Persistent=true"]
    return "\n".join(lines)


def _calendar(every: int) -> str | None:
    """The calendar event that comes every so many seconds, at midnight too. None where there is none."""
    if every == 7 * 86400:
        return "Mon *-*-* 00:00:00"
    if every % 3600 == 0 and 86400 % every == 0:
        return f"*-*-* 00/{every // 3600}:00:00" if every < 86400 else "*-*-* 00:00:00"
    if every % 60 == 0 and 3600 % every == 0:
        return f"*-*-* *:00/{every // 60}:00"
    return None

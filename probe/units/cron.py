"""`cron`: one line for a user's crontab, or a file for /etc/cron.d where it names the user.

cron neither keeps runs apart nor ends them: timeout(1) does, and the canary's own lock. Source: crontab(5), cron(8).
"""

from typing import Final

from probe.errors import UserError
from probe.units.job import MARKER, Checked, Job, checked
from probe.units.quoting import cron_command

# Vixie cron's MAX_COMMAND, with its end; newer crons take more.
_LONGEST: Final = 998

_TABLE: Final = """\
{marker}
# Egress canary {name}, every {minutes} min. {where}
# cron's environment is small: proxy variables that the agents have are not there. Secrets belong in files that
# options name (--collector-token-file): every command line can be read by everybody.
# The report is in the history; what goes wrong is written to standard error, which cron mails.
{when} {user}{command}
"""


def table(job: Job) -> dict[str, str]:
    """`egress-probe-NAME` for /etc/cron.d where a user is named, else `egress-probe-NAME.crontab`. Raises UserError."""
    wanted = checked(job)
    if wanted.own:
        raise UserError("cron has no units of a user's own: install the line in that user's crontab")
    if wanted.user is not None and "." in wanted.name:
        raise UserError(f"--name {wanted.name}: cron leaves out files of /etc/cron.d with a dot in their name")
    command = _command(wanted)
    if len(command.encode()) > _LONGEST:
        raise UserError(f"a command of {len(command.encode())} bytes: cron takes {_LONGEST}; use systemd's units")
    text = _TABLE.format(
        marker=MARKER,
        name=wanted.name,
        minutes=wanted.every // 60,
        where="For /etc/cron.d." if wanted.user else "Add the line to your crontab: crontab(1) replaces all of it.",
        when=_when(wanted.every),
        user=f"{wanted.user} " if wanted.user else "",
        command=command,
    )
    return {f"egress-probe-{wanted.name}" + ("" if wanted.user else ".crontab"): text}


def _command(job: Checked) -> str:
    # SIGKILL a minute after SIGTERM, at which a run stores what it has. The delay is no part of the run.
    words = ("timeout", "-k", "60", str(job.limit + job.splay), *_splayed(job))
    return f"cd {cron_command([job.folder])} && umask 077 && exec {cron_command(words)} >/dev/null"


def _splayed(job: Checked) -> tuple[str, ...]:
    """cron starts at the minute: the delay is the command's own option, before a launcher's words."""
    if not job.splay:
        return job.words
    end = job.words.index("--") if "--" in job.words else len(job.words)
    return (*job.words[:end], "--splay", str(job.splay), *job.words[end:])


def _when(every: int) -> str:
    """Minute, hour, day, month, day of the week. Raises UserError for an interval that cron cannot keep."""
    minutes, rest = divmod(every, 60)
    if not rest and 60 % minutes == 0:
        return "0 * * * *" if minutes == 60 else f"*/{minutes} * * * *"
    hours, rest = divmod(every, 3600)
    if not rest and 24 % hours == 0:
        return "0 0 * * *" if hours == 24 else f"0 */{hours} * * *"
    if every == 7 * 86400:
        return "0 0 * * 1"
    raise UserError(f"--every {every} s: cron keeps minutes that divide an hour, hours that divide a day, and 7 days")

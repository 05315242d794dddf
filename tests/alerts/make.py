"""Values for the tests of alerts: an alert, hostile text, and the texts that hypothesis makes of it."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from probe.alert import ALERT_SCHEMA, SEVERITY, Alert, Change

RUN_ID = "01J00000000000000000000000"
LINE = "tcp 192.0.2.1:443 leaked: declared deny, and it got out"
HOSTILE = 'a"b\\c]d\n<!channel> <@U1> @here @everyone & `x` *b* \x1b[2J\u202e\0 é€🎈 \udcff'

ALERT = Alert(
    schema=ALERT_SCHEMA,
    probe_type="egress_path_validation",
    id="0f3a9c",
    canary="nightly",
    run_id=RUN_ID,
    time="2026-01-02T03:04:05.678Z",
    severity="critical",
    change=Change("leak", LINE, ("s/tcp/192.0.2.1:443",), "closed", "open", ("192.0.2.0/24",)),
)


def alert(**more: Any) -> Alert:
    """The alert, with `more` of its own or of its change's fields."""
    own = {name: value for name, value in more.items() if name in Alert.__slots__}
    change = replace(ALERT.change, **{name: value for name, value in more.items() if name not in own})
    return replace(ALERT, change=change, **own)


def hostile() -> Alert:
    """Hostile text in every field that can hold it."""
    return alert(
        id=HOSTILE, canary=HOSTILE, run_id=HOSTILE, time=HOSTILE, line=HOSTILE, before=HOSTILE, after=HOSTILE,
        paths=(HOSTILE, "two\nlines"), cidrs=(HOSTILE,),
    )  # fmt: skip


# Lone surrogates too: what a file name or the environment brings in may hold them.
TEXTS = st.text(max_size=300) | st.text(alphabet='"\\]=\n\r\0\x1b\udcff\ufeffé🎈a ', max_size=3000)
MANY = st.lists(TEXTS, max_size=60).map(tuple)
ALERTS = st.builds(
    alert,
    id=TEXTS, canary=TEXTS, run_id=st.none() | TEXTS, time=TEXTS | st.just(ALERT.time), line=TEXTS,
    severity=st.sampled_from(sorted(set(SEVERITY.values()))), kind=st.sampled_from(sorted(SEVERITY)),
    before=st.none() | TEXTS, after=st.none() | TEXTS, paths=MANY, cidrs=MANY,
)  # fmt: skip


def private(folder: Path, *lines: str, mode: int = 0o600) -> Path:
    """A file with these lines."""
    path = folder / "secret"
    path.write_text("".join(line + "\n" for line in lines))
    os.chmod(path, mode)
    return path

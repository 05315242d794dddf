"""`openclaw:AGENT`: inside the container that OpenClaw keeps for an agent, which is found by its labels.

OpenClaw writes `openclaw.sandbox=1` and `openclaw.sessionKey=…` on it: `agent:ID` (scope agent), `agent:ID:…` (scope
session) or `shared`. Source: createSandboxContainer in OpenClaw's agents/sandbox/docker.ts.
"""

import json
import subprocess
from collections.abc import Callable, Sequence

from probe.errors import UserError, one_line
from probe.targets.base import Launch

PLACE = "AGENT"
_ENGINES = ("docker", "podman")
_KEY = "openclaw.sessionKey"
_SECONDS = 20

Run = Callable[[Sequence[str]], str | None]


def launch(place: str, options: Sequence[str]) -> Launch:
    """`options` go to `docker exec`."""
    return find(place, options, _run)


def find(agent: str, options: Sequence[str], run: Run) -> Launch:
    """The launcher for the one container that fits. `run`: a command's output, None where it failed.

    Raises UserError.
    """
    found: list[tuple[str, str, str]] = []
    asked = False
    for engine in _ENGINES:
        listed = run((engine, "ps", "--filter", "label=openclaw.sandbox=1", "--format", "{{json .}}"))
        asked = asked or listed is not None
        found += [(engine, name, key) for name, key in _containers(listed or "") if _is_of(agent, key)]
    where = f"--via openclaw:{agent}"
    if not asked:
        raise UserError(f"{where}: neither docker nor podman can be asked for its container")
    if not found:
        raise UserError(f"{where}: no container of OpenClaw's runs for it (it is made when the agent first works)")
    exact = [one for one in found if one[2] in (f"agent:{agent}", agent)] or found
    if len(exact) > 1:
        names = ", ".join(f"{engine}:{name}" for engine, name, _ in exact)
        raise UserError(f"{where}: several containers fit: choose one of them with --via ({names})")
    engine, name, _ = exact[0]
    return Launch((engine, "exec", "-i", *options, name))


def _is_of(agent: str, key: str) -> bool:
    return key in (f"agent:{agent}", agent, "shared") or key.startswith(f"agent:{agent}:")


def _containers(text: str) -> list[tuple[str, str]]:
    """Name and session key of each. Docker gives labels as `a=b,c=d`, podman as a table, and names in a list."""
    found = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
            names, labels = row["Names"], row["Labels"]
        except (ValueError, KeyError, TypeError):
            continue
        name = names[0] if isinstance(names, list) and names else str(names).partition(",")[0]
        if isinstance(labels, str):
            labels = dict(pair.partition("=")[::2] for pair in labels.split(","))
        key = labels.get(_KEY) if isinstance(labels, dict) else None
        if name and not name.startswith("-") and isinstance(key, str):
            found.append((one_line(name), key))
    return found


def _run(words: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_SECONDS, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None

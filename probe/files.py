"""Reading the user's files, with every failure as one line; and finding policies and scenarios."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path

from probe.codec import has_half
from probe.destinations import GENERATORS
from probe.errors import UserError
from probe.model import Policy
from probe.policies import Context, parse_policy
from probe.scenario import Scenario, parse_scenario
from probe.techniques import TECHNIQUES

_LARGEST_CONFIG = 1024 * 1024
_LARGEST_EVIDENCE = 512 * 1024 * 1024


def read_text(path: str, largest: int = _LARGEST_CONFIG) -> str:
    """The file's text. Raises UserError: missing, unreadable, a folder, too large, not UTF-8."""
    if has_half(path):
        raise UserError(f"{path}: a file's name that is no text (UTF-8)")
    try:
        with open(path, "rb") as file:
            data = file.read(largest + 1)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL in the name
        raise UserError(f"{path}: {error}") from None
    if len(data) > largest:
        raise UserError(f"{path}: larger than {largest // 1024 // 1024} MiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None


def read_evidence_text(path: str) -> str:
    """A stored evidence or plan file."""
    return read_text(path, _LARGEST_EVIDENCE)


def write_text(path: str, text: str, private: bool = False) -> None:
    """Write through a temporary file, so that a full disk or a stop never leaves half a report.

    `private`: only its owner may read it.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial")
    try:
        if private:
            partial.touch(mode=0o600)
            partial.chmod(0o600)
        partial.write_text(text, encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


# --- policies ---------------------------------------------------------------------------------------------------------


def usual_places(environment: Mapping[str, str]) -> list[str]:
    """Where a policy is looked for when none is named."""
    home = environment.get("HOME", "")
    places = ["egress-policy.toml", environment.get("OPENCLAW_CONFIG_PATH", "")]
    places += [f"{home}/.openclaw/openclaw.json"] if home else []
    return [place for place in dict.fromkeys(places) if place and os.path.exists(place)]


def read_policies(
    paths: Sequence[str], environment: Mapping[str, str], dialect: str | None = None, agent: str | None = None
) -> tuple[Policy, ...]:
    """Every layer, in the order in which it was named."""
    found: list[Policy] = []
    for path in paths:
        context = Context(_beside(path), dict(environment), agent)
        found += parse_policy(path, read_text(path), context, dialect)
    return tuple(found)


def _beside(top: str) -> Callable[[str], str]:
    """Reads what `top` includes, and nothing outside its folder: not through a symbolic link either."""
    folder = os.path.realpath(os.path.dirname(top) or ".")

    def read(path: str) -> str:
        if os.path.commonpath([folder, os.path.realpath(path)]) != folder:
            raise UserError(f"{top}: $include: {path} leads outside the configuration's folder")
        return read_text(path)

    return read


# --- scenarios --------------------------------------------------------------------------------------------------------


def parse_scenario_file(path: str, text: str) -> Scenario:
    """A scenario of the user's or of ours."""
    return parse_scenario(path, text, frozenset(TECHNIQUES), frozenset(GENERATORS))


def scenario_names() -> list[str]:
    """The ids of the scenarios that come with us, sorted."""
    files = resources.files("scenarios").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def scenario_text(name: str) -> str:
    """The text of one of our scenarios. Raises UserError for one that we do not have."""
    if name not in scenario_names():
        raise UserError(f"--scenario {name}: unknown scenario (egress-probe scenarios list)")
    return resources.files("scenarios").joinpath(f"{name}.toml").read_text(encoding="utf-8")


def load_scenarios(names: Sequence[str]) -> tuple[Scenario, ...]:
    """The named scenarios, or all of them."""
    return tuple(parse_scenario_file(f"{name}.toml", scenario_text(name)) for name in names or scenario_names())

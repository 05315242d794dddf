"""OpenClaw's sandbox keys: which exist, their defaults, what the product refuses, and how an agent's merge.

Source: openclaw src/config/zod-schema.agent-runtime.ts, src/agents/sandbox/config.ts, network-mode.ts. Every table
under `sandbox` is strict there: an unknown key stops the gateway, so it is refused here too.
"""

from dataclasses import dataclass
from typing import Any

from probe.errors import UserError

# Keys that only an openclaw.json has at its top. Words that any file may have (env, tools, hooks, …) are left out.
TOP_LEVEL = frozenset(
    "agents bindings channels gateway meta wizard nodeHost surfaces systemAgent cloudWorkers acp".split()
)

SANDBOX = frozenset(
    "mode backend scope perSession workspaceAccess sessionToolsVisibility workspaceRoot docker ssh "
    "browser prune".split()
)
DOCKER = frozenset(
    "image containerPrefix workdir readOnlyRoot tmpfs network user capDrop env setupCommand pidsLimit memory "
    "memorySwap cpus gpus ulimits seccompProfile apparmorProfile dns extraHosts binds "
    "dangerouslyAllowReservedContainerTargets "
    "dangerouslyAllowExternalBindSources dangerouslyAllowContainerNamespaceJoin".split()
)

_CHOICES = {"mode": ("off", "non-main", "all"), "scope": ("session", "agent", "shared")}
_DEFAULTS = {"mode": "off", "scope": "agent", "backend": "docker", "docker.network": "none"}
_JOIN = "docker.dangerouslyAllowContainerNamespaceJoin"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The keys of one sandbox table that bear on the network: dotted key → (value, where it stands)."""

    keys: dict[str, tuple[Any, str]]
    where: str

    @classmethod
    def read(cls, table: dict[str, Any], path: str, where: str, docker_keys: frozenset[str]) -> "Sandbox":
        """The table, checked. Raises UserError that names the key and what was expected."""
        docker = checked_table(table.get("docker", {}), path, f"{where}.docker", docker_keys)
        browser = checked_table(table.get("browser", {}), path, f"{where}.browser")
        flat: dict[str, Any] = {key: table[key] for key in ("mode", "scope", "backend") if key in table}
        if "scope" not in table and isinstance(table.get("perSession"), bool):
            flat["scope"] = "session" if table["perSession"] else "shared"
        flat |= {f"docker.{key}": value for key, value in docker.items()}
        flat |= {f"browser.{key}": value for key, value in browser.items()}
        _check(flat, path, where)
        return cls({key: (value, f'{where}.{key} = "{value}"') for key, value in flat.items()}, where)

    def get(self, key: str) -> tuple[Any, str]:
        """The value, and `place = "value"` or `place (absent: "default")`."""
        default = _DEFAULTS.get(key)
        return self.keys.get(key) or (default, f'{self.where}.{key} (absent: "{default}")')


def effective(defaults: Sandbox, entry: Sandbox | None) -> Sandbox:
    """An agent's sandbox: its own key, else the default's. Scope `shared` ignores its docker and browser tables."""
    if entry is None:
        return defaults
    scope = entry.keys.get("scope", defaults.get("scope"))[0]
    own = {key: value for key, value in entry.keys.items() if scope != "shared" or "." not in key}
    return Sandbox(defaults.keys | own | _joined_binds(defaults, own), defaults.where)


def _joined_binds(defaults: Sandbox, own: dict[str, tuple[Any, str]]) -> dict[str, tuple[Any, str]]:
    both = [keys["docker.binds"] for keys in (defaults.keys, own) if "docker.binds" in keys]
    if not both:
        return {}
    return {"docker.binds": ([bind for value, _ in both for bind in value], both[-1][1])}


def checked_table(value: Any, path: str, where: str, known: frozenset[str] | None = None) -> dict[str, Any]:
    """`value` as a table with only `known` keys. Raises UserError that names the place."""
    if not isinstance(value, dict):
        raise UserError(f"{path}: {where}: expected a table")
    if known is not None and value.keys() - known:
        unknown = min(value.keys() - known)
        raise UserError(f"{path}: {where}.{unknown}: unknown key (OpenClaw refuses to start with it)")
    return value


def _check(flat: dict[str, Any], path: str, where: str) -> None:
    for key in ("mode", "scope", "backend", "docker.network", "browser.network"):
        if key in flat and not isinstance(flat[key], str):
            raise UserError(f"{path}: {where}.{key}: expected a string")
    for key, choices in _CHOICES.items():
        if key in flat and flat[key] not in choices:
            raise UserError(f"{path}: {where}.{key}: expected one of {', '.join(choices)}, got {flat[key]!r}")
    binds = flat.get("docker.binds", [])
    if not isinstance(binds, list) or not all(isinstance(bind, str) for bind in binds):
        raise UserError(f"{path}: {where}.docker.binds: expected a list of strings")
    for key in ("docker.network", "browser.network"):
        if key in flat:
            flat[key] = flat[key].strip().lower() or _DEFAULTS["docker.network"]
            _check_network(flat, key, path, where)


def _check_network(flat: dict[str, Any], key: str, path: str, where: str) -> None:
    if flat[key] == "host":
        raise UserError(f'{path}: {where}.{key}: "host" is refused by OpenClaw (expected none, bridge or a network)')
    if flat[key].startswith("container:") and flat.get(_JOIN) is not True:
        raise UserError(f"{path}: {where}.{key}: {flat[key]!r} is refused by OpenClaw without {_JOIN}")

"""What the host's own commands printed: the input of CHK-NET-009. Recorded outputs are its tests."""

from dataclasses import dataclass, field

# Name → argument list. All are read-only.
COMMANDS: dict[str, dict[str, tuple[str, ...]]] = {
    "linux": {
        "nft": ("nft", "-j", "list", "ruleset"),
        "iptables": ("iptables", "-S"),
        "ip6tables": ("ip6tables", "-S"),
        "docker": ("docker", "network", "ls", "--format", "{{json .}}"),
    },
    "darwin": {
        "pf": ("pfctl", "-s", "rules"),
        "pf-info": ("pfctl", "-s", "info"),
        "docker": ("docker", "network", "ls", "--format", "{{json .}}"),
    },
}

# Path → product. A `*` matches within one path part.
PRODUCTS: dict[str, dict[str, str]] = {
    "linux": {},
    "darwin": {
        "/Applications/LuLu.app": "LuLu",
        "/Applications/Little Snitch.app": "Little Snitch",
        "/Library/Extensions/LittleSnitch*": "Little Snitch",
    },
}


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command did. `status` None: it is not installed, or did not end in time (then `stderr` says so)."""

    status: int | None
    stdout: str = ""
    stderr: str = ""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """`platform` is `linux` or `darwin`; `commands` by the names above; `products` the ones that are installed."""

    platform: str
    commands: dict[str, CommandResult] = field(default_factory=dict)
    products: tuple[str, ...] = ()

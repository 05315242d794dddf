"""Findings about an OpenClaw declaration: where it is weaker than it looks. Ids are immutable once released."""

from collections.abc import Iterable
from typing import Any

from probe.model import Action, Finding, Severity
from probe.policies.openclaw_schema import Sandbox

REAL_KEYS = "agents.defaults.sandbox.mode and agents.defaults.sandbox.docker.network"


def main_session(mode: str) -> str:
    """What mode `non-main` leaves out, to be added to the place of a rule."""
    return " (not the main session: it runs on the host)" if mode == "non-main" else ""


def seed(name: str, keys: list[str]) -> Iterable[Finding]:
    """EGP-001: keys of a scanner's proposal that OpenClaw never had."""
    if keys:
        yield Finding(
            id="EGP-001",
            severity=Severity.WARN,
            title="The configuration holds keys that OpenClaw does not know",
            description="OpenClaw enforces none of these keys, and refuses to start with an unknown key. "
            "They declare an intention only.",
            evidence=f"{name}: {', '.join(keys)}",
            remediation=f"Remove them. What OpenClaw enforces is {REAL_KEYS}.",
        )


def sandbox(name: str, chosen: Sandbox, tree: dict[str, Any]) -> Iterable[Finding]:
    """EGP-003 to EGP-006: ways out beside the container's network."""
    mode = chosen.get("mode")[0]
    if mode == "off":
        return
    binds = [bind for bind in chosen.get("docker.binds")[0] or [] if "docker.sock" in bind or "podman.sock" in bind]
    if binds:
        yield Finding(
            id="EGP-003",
            severity=Severity.CRITICAL,
            title="The container engine's socket is bound into the sandbox",
            description="Who can talk to the engine can start a container on any network: full egress.",
            evidence=f"{name}: {chosen.where}.docker.binds: {', '.join(binds)}",
            remediation="Remove the bind.",
        )
    if chosen.get("browser.enabled")[0] is True and chosen.get("browser.network")[0] != "none":
        yield Finding(
            id="EGP-004",
            severity=Severity.INFO,
            title="The sandbox browser has a network of its own",
            description="docker.network does not govern the browser container; a skill that drives it has egress.",
            evidence=f"{name}: {chosen.where}.browser.enabled = true",
            remediation="Disable the browser where skills need no web.",
        )
    if mode == "non-main":
        yield Finding(
            id="EGP-005",
            severity=Severity.WARN,
            title="The main session runs outside the sandbox",
            description='With mode "non-main" the main session and its skills use the host\'s network.',
            evidence=f"{name}: {chosen.get('mode')[1]}",
            remediation='Set agents.defaults.sandbox.mode to "all".',
        )
    escapes = list(_escapes(tree))
    if escapes:
        yield Finding(
            id="EGP-006",
            severity=Severity.WARN,
            title="Tools may run outside the sandbox",
            description="These settings let commands run on the gateway or a node, with that machine's network.",
            evidence=f"{name}: {', '.join(escapes)}",
            remediation="Remove them, or probe that machine's egress as well.",
        )


def _escapes(tree: dict[str, Any]) -> Iterable[str]:
    tools = tree.get("tools")
    tools = tools if isinstance(tools, dict) else {}
    execute, elevated = tools.get("exec"), tools.get("elevated")
    if isinstance(execute, dict) and execute.get("host") in ("gateway", "node"):
        yield f'tools.exec.host = "{execute["host"]}"'
    if isinstance(elevated, dict) and elevated.get("enabled") is True:
        yield "tools.elevated.enabled = true"


def agents(name: str, chosen: Sandbox, declared: dict[str, Action], default: Action) -> Iterable[Finding]:
    """EGP-007: agents whose effective sandbox denies less than the one that is judged here."""
    wider = sorted(agent for agent, action in declared.items() if default is Action.DENY and action is not Action.DENY)
    if wider:
        yield Finding(
            id="EGP-007",
            severity=Severity.WARN,
            title="Some agents have a wider sandbox",
            description="The policy judged here denies the network; these agents' own keys do not.",
            evidence=f"{name}: {', '.join(wider)} (against {chosen.get('docker.network')[1]})",
            remediation="Run the probe inside each of them, with --agent ID.",
        )


def shared(name: str, chosen: Sandbox, entries: dict[str, Sandbox]) -> Iterable[Finding]:
    """EGP-002: scope `shared` ignores the docker tables of single agents."""
    if chosen.get("scope")[0] != "shared":
        return
    ignored = sorted(agent for agent, entry in entries.items() if any(key.startswith("docker.") for key in entry.keys))
    if ignored:
        yield Finding(
            id="EGP-002",
            severity=Severity.WARN,
            title="Per-agent docker settings are ignored",
            description='With scope "shared" all agents share one container: their own docker tables have no effect.',
            evidence=f"{name}: {chosen.get('scope')[1]}; ignored for: {', '.join(ignored)}",
            remediation='Set the scope to "agent", or remove the per-agent docker tables.',
        )

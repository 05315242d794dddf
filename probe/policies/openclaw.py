"""Dialect `openclaw`: the product's real sandbox keys in openclaw.json.

OpenClaw has no domain allow-list for skills: the sandbox's container network is the whole policy. Keys, defaults and
the per-agent merge follow openclaw's src/config/zod-schema.agent-runtime.ts and src/agents/sandbox/config.ts.
"""

from typing import TYPE_CHECKING, Any

from probe.errors import UserError
from probe.model import Action, Policy, Source
from probe.policies import openclaw_lints as lints
from probe.policies.clawpinch import seed_keys
from probe.policies.includes import substitute
from probe.policies.openclaw_schema import DOCKER, SANDBOX, TOP_LEVEL, Sandbox, checked_table, effective
from probe.policies.text import Document

if TYPE_CHECKING:
    from probe.policies import Context

_DEFAULTS = "agents.defaults.sandbox"
# The container's network as a declaration. Any other name is a network whose own rules decide.
_NETWORK = {"none": Action.DENY, "bridge": Action.ALLOW}
_CONTAINERS = ("docker", "podman")


def recognises(document: Document) -> bool:
    """An `agents` table or another of the product's own top-level keys; or the product's file name."""
    return document.syntax == "json5" and (bool(TOP_LEVEL & document.tree.keys()) or document.name == "openclaw.json")


def parse(document: Document, context: "Context") -> Policy:
    """The effective sandbox network of the defaults, or of `context.agent`. Raises UserError that names the key."""
    tree = document.tree
    agents = checked_table(tree.get("agents", {}), document.path, "agents")
    defaults = _sandbox(document, agents.get("defaults", {}), _DEFAULTS, context)
    entries = {
        name: _sandbox(document, entry, f"{where}.sandbox", context)
        for name, (where, entry) in _entries(document, agents).items()
    }
    if context.agent is not None and context.agent not in entries:
        known = ", ".join(entries) or "none"
        raise UserError(f"{document.path}: agents: no agent {context.agent!r} (agents: {known})")
    chosen = effective(defaults, entries[context.agent] if context.agent else None)
    default, by = _declares(document, chosen)
    every = {name: effective(defaults, entry) for name, entry in entries.items()}
    return Policy(
        source=Source(document.path, "openclaw"),
        default=default,
        default_by=by,
        findings=(
            *lints.seed(document.name, seed_keys(tree)),
            *lints.sandbox(document.name, chosen, tree),
            *lints.agents(document.name, chosen, {n: _declares(document, s)[0] for n, s in every.items()}, default),
            *lints.shared(document.name, chosen, entries),
        ),
    )


def _entries(document: Document, agents: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Agent id → (where, entry), from `agents.entries` and the older `agents.list`."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, entry in checked_table(agents.get("entries", {}), document.path, "agents.entries").items():
        where = f"agents.entries.{name}"
        found[name] = (where, checked_table(entry, document.path, where))
    listed = agents.get("list", [])
    if not isinstance(listed, list):
        raise UserError(f"{document.path}: agents.list: expected a list")
    for index, entry in enumerate(listed):
        where = f"agents.list[{index}]"
        table = checked_table(entry, document.path, where)
        if not isinstance(table.get("id"), str):
            raise UserError(f"{document.path}: {where}.id: expected a string")
        found[table["id"]] = (where, table)
    return found


def _sandbox(document: Document, owner: Any, where: str, context: "Context") -> Sandbox:
    table = checked_table(owner, document.path, where.removesuffix(".sandbox")).get("sandbox", {})
    table = substitute(table, context.environment, f"{document.path}: {where}")
    return Sandbox.read(checked_table(table, document.path, where, SANDBOX), document.path, where, DOCKER)


def _declares(document: Document, sandbox: Sandbox) -> tuple[Action, str]:
    """What an effective sandbox declares of the network, and by which key."""
    mode, where = sandbox.get("mode")
    if mode == "off":
        return Action.ALLOW, f"{document.name}: {where}: no sandbox, skills use the host's network"
    backend, where = sandbox.get("backend")
    if backend not in _CONTAINERS:
        return Action.UNDECLARED, f"{document.name}: {where}: the network is the {backend} host's own"
    network, where = sandbox.get("docker.network")
    return _NETWORK.get(network, Action.UNDECLARED), f"{document.name}: {where}{lints.main_session(mode)}"

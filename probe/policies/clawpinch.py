"""Dialect `clawpinch`: the keys of a scanner's proposal, `skills.networkPolicy` and its like.

OpenClaw does not know these keys and refuses to start with them. They are a declared intention: the policy's mode is
`inert`, a finding names the keys that are enforced, and the proposal's own `auto_fix` is never repeated.
"""

from typing import TYPE_CHECKING, Any

from probe.errors import UserError
from probe.model import Action, DnsRules, Mode, Policy, Rule, Source
from probe.policies import openclaw_lints
from probe.policies.patterns import domain_pattern
from probe.policies.text import Document

if TYPE_CHECKING:
    from probe.policies import Context

_KEYS = ("skills.networkPolicy", "skills.allowedDomains", "sandbox.networkAccess", "sandbox.dnsPolicy")
_POLICY = {"deny": Action.DENY, "allowlist": Action.DENY, "allow": Action.ALLOW}
_ACCESS = {"restricted": Action.DENY, "none": Action.DENY, "unrestricted": Action.ALLOW, "full": Action.ALLOW}
_DNS = {"restricted": "restricted", "none": "none", "open": "open", "unrestricted": "open"}


def recognises(document: Document) -> bool:
    """One of the four keys is there."""
    return document.syntax == "json5" and bool(seed_keys(document.tree))


def seed_keys(tree: Any) -> list[str]:
    """Which of the four keys a tree holds, by full path (the same words are other products' keys elsewhere)."""
    return [key for key in _KEYS if _at(tree, key) is not None]


def _at(tree: Any, key: str) -> Any:
    table, leaf = key.split(".")
    inner = tree.get(table) if isinstance(tree, dict) else None
    return inner.get(leaf) if isinstance(inner, dict) else None


def parse(document: Document, context: "Context") -> Policy:  # noqa: ARG001 - every dialect has this shape
    """The intention as an inert policy. Raises UserError that names the key and what was expected."""
    policy = _choice(document, "skills.networkPolicy", _POLICY)
    access = _choice(document, "sandbox.networkAccess", _ACCESS)
    rules = _domains(document, "skills.allowedDomains")
    said = {"skills.networkPolicy": policy, "sandbox.networkAccess": access, "skills.allowedDomains": rules or None}
    place = next((key for key, value in said.items() if value is not None), None)
    actions = {policy, access} | ({Action.DENY} if rules else set())
    default = next((action for action in (Action.DENY, Action.ALLOW) if action in actions), Action.UNDECLARED)
    return Policy(
        source=Source(document.path, "clawpinch", Mode.INERT),
        default=default,
        default_by=f"{document.name}: {place or 'nothing'} (inert: OpenClaw does not know this key)",
        rules=rules,
        dns=_dns(document),
        findings=tuple(openclaw_lints.seed(document.name, seed_keys(document.tree))),
    )


def _choice(document: Document, key: str, table: dict[str, Action]) -> Action | None:
    value = _at(document.tree, key)
    if value is None:
        return None
    if not isinstance(value, str) or value not in table:
        raise UserError(f"{document.path}: {key}: expected one of {', '.join(table)}, got {value!r}")
    return table[value]


def _domains(document: Document, key: str) -> tuple[Rule, ...]:
    value = _at(document.tree, key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UserError(f"{document.path}: {key}: expected a list of domains")
    return tuple(
        Rule(Action.ALLOW, f"{document.name}: {key}[{index}] {item} (inert)",
             domain=domain_pattern(item, f"{document.path}: {key}[{index}]"))
        for index, item in enumerate(value)
    )  # fmt: skip


def _dns(document: Document) -> DnsRules | None:
    key = "sandbox.dnsPolicy"
    value = _at(document.tree, key)
    by = f"{document.name}: {key} (inert)"
    if value is None:
        return None
    if isinstance(value, list):
        return DnsRules("restricted", by, allow=tuple(rule.domain or "" for rule in _domains(document, key)))
    if not isinstance(value, str) or value not in _DNS:
        raise UserError(f"{document.path}: {key}: expected one of {', '.join(_DNS)}, or a list of domains")
    return DnsRules(_DNS[value], by)

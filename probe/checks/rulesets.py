"""Firewall listings → does anything restrict what leaves? One reader per listing, each total over bad input."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from probe.checks.facts import CommandResult

_LEAVING = ("output", "forward", "egress")
# What a rule of an nft ruleset may end in that stops a packet.
_STOPS = ("drop", "reject")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one listing says. `families` are the IP versions that something restricts; None = it could not be read."""

    families: frozenset[int] | None
    says: str


def read(name: str, result: CommandResult | None) -> Reading:
    """The listing of one command, or why there is none."""
    if result is None or result.status is None:
        return Reading(None, f"{name}: {result.stderr if result and result.stderr else 'not installed'}")
    if result.status != 0:
        return Reading(None, f"{name}: {_failure(result)}")
    return _READERS[name](result.stdout)


def _failure(result: CommandResult) -> str:
    line = next((line.strip() for line in result.stderr.splitlines() if line.strip()), "")
    if re.search(r"permission denied|not permitted|must be root|you must be root", line, re.IGNORECASE):
        return f"needs root ({line[:80]})"
    return f"failed with status {result.status}" + (f" ({line[:80]})" if line else "")


# --- nftables ---------------------------------------------------------------------------------------------------------


def _nft(text: str) -> Reading:
    try:
        items = json.loads(text)["nftables"]
        chains = [item["chain"] for item in items if "chain" in item]
        rules = [item["rule"] for item in items if "rule" in item]
        hooked = [chain for chain in chains if chain.get("hook") in _LEAVING]
        stopping = _stopping_chains(rules)
        found = [c for c in hooked if c.get("policy") == "drop" or _place(c) in stopping]
        families = frozenset(version for chain in found for version in _versions(chain["family"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Reading(None, "nft: its output was not understood")
    if not found:
        return Reading(families, "nft: no chain restricts output or forward")
    names = ", ".join(f"{c['family']} {c['table']} {c['name']} ({c.get('policy', 'accept')})" for c in found[:4])
    return Reading(families, f"nft: {names}")


def _place(chain: dict[str, Any]) -> tuple[str, str, str]:
    return chain["family"], chain["table"], chain["name"]


def _stopping_chains(rules: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """Chains with a rule that drops or rejects, or that jump to one."""
    stopping: set[tuple[str, str, str]] = set()
    for _ in range(len(rules) + 1):
        before = len(stopping)
        for rule in rules:
            if any(_stops(part, rule, stopping) for part in rule.get("expr", [])):
                stopping.add((rule["family"], rule["table"], rule["chain"]))
        if len(stopping) == before:
            break
    return stopping


def _stops(part: dict[str, Any], rule: dict[str, Any], stopping: set[tuple[str, str, str]]) -> bool:
    if any(word in part for word in _STOPS):
        return True
    return any(
        (rule["family"], rule["table"], part[jump]["target"]) in stopping for jump in ("jump", "goto") if jump in part
    )


def _versions(family: str) -> tuple[int, ...]:
    return {"ip": (4,), "ip6": (6,), "inet": (4, 6), "netdev": (4, 6), "bridge": (4, 6)}.get(family, ())


# --- iptables, ip6tables ----------------------------------------------------------------------------------------------


def _iptables(name: str, version: int) -> Callable[[str], Reading]:
    def reader(text: str) -> Reading:
        lines = text.splitlines()
        if not any(line.startswith("-P ") for line in lines):
            return Reading(None, f"{name}: its output was not understood")
        policies = dict(re.findall(r"^-P (\S+) (\S+)", text, re.MULTILINE))
        stopping = _stopping_iptables(lines)
        found = [chain for chain in ("OUTPUT", "FORWARD") if policies.get(chain) == "DROP" or chain in stopping]
        says = ", ".join(f"{chain} {policies.get(chain, '?')}" for chain in ("OUTPUT", "FORWARD"))
        rules = f"; rules that drop in {', '.join(found)}" if found else "; no rule drops"
        return Reading(frozenset({version} if found else ()), f"{name}: {says}{rules}")

    return reader


def _stopping_iptables(lines: list[str]) -> set[str]:
    edges = [match.groups() for line in lines if (match := re.match(r"-A (\S+).* -[jg] (\S+)", line))]
    stopping: set[str] = set()
    for _ in range(len(edges) + 1):
        stopping |= {chain for chain, target in edges if target in ("DROP", "REJECT") or target in stopping}
    return stopping


# --- pf, Docker -------------------------------------------------------------------------------------------------------


def _pf(text: str) -> Reading:
    blocks = [line for line in text.splitlines() if re.match(r"\s*block\b", line) and not re.search(r"\bin\b", line)]
    other = {4: r"\binet6\b", 6: r"\binet\b"}  # a rule that names one family leaves the other open
    families = frozenset(version for line in blocks for version in (4, 6) if not re.search(other[version], line))
    return Reading(families, f"pf: {len(blocks)} rules block out" if blocks else "pf: no rule blocks out")


def _pf_info(text: str) -> Reading:
    state = re.search(r"^Status: (\w+)", text, re.MULTILINE)
    return Reading(frozenset(), f"pf status: {state[1] if state else 'unknown'}")


def _docker(text: str) -> Reading:
    """Docker networks restrict containers, not the host: they are evidence, and never count as egress filtering."""
    try:
        networks = [json.loads(line) for line in text.splitlines() if line.strip()]
        internal = [str(net["Name"]) for net in networks if str(net.get("Internal")) == "true"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Reading(None, "docker: its output was not understood")
    named = f" ({', '.join(internal[:4])})" if internal else ""
    return Reading(frozenset(), f"docker: {len(networks)} networks, {len(internal)} internal{named}")


_READERS: dict[str, Callable[[str], Reading]] = {
    "nft": _nft,
    "iptables": _iptables("iptables", 4),
    "ip6tables": _iptables("ip6tables", 6),
    "pf": _pf,
    "pf-info": _pf_info,
    "docker": _docker,
}

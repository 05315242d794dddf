"""Firewall listings → does this host deny what leaves it by default? One reader per listing, total over bad input.

Only the output hook counts: forwarding rules (Docker sets FORWARD to DROP wherever it runs) are about other machines
and containers. A chain denies by default where its policy is drop, or a rule without a condition drops or rejects.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from probe.checks.facts import CommandResult

_LEAVING = ("output", "egress")
_STOPS = ("drop", "reject")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one listing says. `families`: the IP versions that are denied by default; None = it could not be read.

    `some`: there are rules that stop something, but they are no default.
    """

    families: frozenset[int] | None
    says: str
    some: bool = False


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

_Place = tuple[str, str, str]  # family, table, chain


def _nft(text: str) -> Reading:
    try:
        items = json.loads(text)["nftables"]
        hooked = [item["chain"] for item in items if "chain" in item and item["chain"].get("hook") in _LEAVING]
        rules = [item["rule"] for item in items if "rule" in item]
        always, ever = _stopping(rules, conditional=False), _stopping(rules, conditional=True)
        closed = [c for c in hooked if c.get("policy") == "drop" or _place(c, "name") in always]
        partly = [c for c in hooked if c not in closed and _place(c, "name") in ever]
        families = frozenset(version for chain in closed for version in _versions(chain["family"]))
        named = ", ".join(f"{c['family']} {c['table']} {c['name']} ({c.get('policy', 'accept')})" for c in closed[:4])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Reading(None, "nft: its output was not understood")
    if closed:
        return Reading(families, f"nft: denied by default in {named}", bool(partly))
    says = "some rules stop output, none by default" if partly else "no chain restricts output"
    return Reading(families, f"nft: {says}", bool(partly))


def _place(item: dict[str, Any], name: str) -> _Place:
    return item["family"], item["table"], item[name]


def _stopping(rules: list[dict[str, Any]], conditional: bool) -> set[_Place]:
    """Chains with a rule that drops or rejects, or jumps to such a chain. `conditional`: rules with a match count."""
    considered = [rule for rule in rules if conditional or not any("match" in part for part in rule["expr"])]
    stopping: set[_Place] = set()
    for _ in range(len(considered) + 1):
        stopping |= {
            _place(rule, "chain") for rule in considered if any(_stops(p, rule, stopping) for p in rule["expr"])
        }
    return stopping


def _stops(part: dict[str, Any], rule: dict[str, Any], stopping: set[_Place]) -> bool:
    if any(word in part for word in _STOPS):
        return True
    return any((rule["family"], rule["table"], part[j]["target"]) in stopping for j in ("jump", "goto") if j in part)


def _versions(family: str) -> tuple[int, ...]:
    return {"ip": (4,), "ip6": (6,), "inet": (4, 6), "netdev": (4, 6), "bridge": (4, 6)}.get(family, ())


# --- iptables, ip6tables ----------------------------------------------------------------------------------------------


def _iptables(name: str, version: int) -> Callable[[str], Reading]:
    def reader(text: str) -> Reading:
        policies = dict(re.findall(r"^-P (\S+) (\S+)", text, re.MULTILINE))
        if "OUTPUT" not in policies:
            return Reading(None, f"{name}: its output was not understood")
        rules = re.findall(r"^-A (\S+)(.*) -[jg] (\S+)", text, re.MULTILINE)
        closed = policies["OUTPUT"] == "DROP" or "OUTPUT" in _closed(rule for rule in rules if not rule[1].strip())
        some = "OUTPUT" in _closed(rules)
        word = "denied by default" if closed else "some rules stop, none by default" if some else "no rule stops"
        said = ", ".join(f"{chain} {policies[chain]}" for chain in ("OUTPUT", "FORWARD") if chain in policies)
        return Reading(frozenset({version} if closed else ()), f"{name}: {said}; {word}", some and not closed)

    return reader


def _closed(rules: Iterable[tuple[str, str, str]]) -> set[str]:
    """Chains that one of `rules` (chain, condition, target) ends in DROP or REJECT, or sends to such a chain."""
    listed = list(rules)
    found: set[str] = set()
    for _ in range(len(listed) + 1):
        found |= {chain for chain, _, target in listed if target in ("DROP", "REJECT") or target in found}
    return found


# --- pf, Docker -------------------------------------------------------------------------------------------------------


def _pf(text: str) -> Reading:
    blocks = [line for line in text.splitlines() if re.match(r"\s*block\b", line) and not re.search(r"\bin\b", line)]
    # `block … all`, with at most a direction, an interface class or a family: everything that leaves.
    default = [line for line in blocks if not re.search(r"\b(from|to|proto|port|on)\b", line)]
    other = {4: r"\binet6\b", 6: r"\binet\b"}  # a rule that names one family leaves the other open
    families = frozenset(version for line in default for version in (4, 6) if not re.search(other[version], line))
    says = f"{len(blocks)} rules block out, {len(default)} of them by default" if blocks else "no rule blocks out"
    return Reading(families, f"pf: {says}", len(blocks) > len(default))


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

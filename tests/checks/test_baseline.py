"""The config baseline on recorded listings: Linux as root and as a user, macOS, and listings that are none."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from probe.checks import CHECKS, findings
from probe.checks.facts import COMMANDS, PRODUCTS, CommandResult, HostFacts
from probe.checks.rulesets import read
from probe.hostfacts import gather, run_command
from probe.model import Finding, Policy
from probe.policies import Context, parse_policy

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str, status: int | None = 0, stderr: str = "") -> CommandResult:
    return CommandResult(status, (RECORDED / name).read_text() if name else "", stderr)


ROOT_ONLY = recorded(
    "",
    1,
    "Operation not permitted (you must be root)\nnetlink: Error: cache initialization failed: Operation not permitted",
)
IPT_ROOT_ONLY = recorded(
    "", 4, "iptables v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)"
)
MISSING = CommandResult(None)

# what the host printed → severity, title, and words of the evidence
HOSTS: list[tuple[str, HostFacts, str, str, str]] = [
    (
        "nothing is set up",
        HostFacts("linux", {"nft": recorded("nft-empty.json"), "iptables": recorded("iptables-empty.txt"), "ip6tables": recorded("iptables-empty.txt"), "docker": MISSING}),
        "warn", "No outbound network egress restrictions detected",
        "nft: no chain restricts output; iptables: OUTPUT ACCEPT, FORWARD ACCEPT; no rule stops; ip6tables: OUTPUT ACCEPT, FORWARD ACCEPT; no rule stops; docker: not installed",
    ),
    (
        "nftables, inet, default drop",
        HostFacts("linux", {"nft": recorded("nft-inet-drop.json"), "iptables": MISSING, "ip6tables": MISSING, "docker": recorded("docker-networks.txt")}),
        "ok", "Outbound traffic is denied by default, for IPv4 and IPv6",
        "nft: denied by default in inet filter output (drop); iptables: not installed; ip6tables: not installed; docker: 3 networks, 1 internal (fenced)",
    ),
    (
        "nftables for IPv4 only, through a jump",
        HostFacts("linux", {"nft": recorded("nft-ip-jump.json"), "iptables": MISSING, "ip6tables": MISSING, "docker": MISSING}),
        "warn", "Outbound traffic is denied by default, but not for IPv6", "nft: denied by default in ip filter output (accept)",
    ),
    (
        "iptables for both",
        HostFacts("linux", {"nft": MISSING, "iptables": recorded("iptables-drop.txt"), "ip6tables": recorded("iptables-drop.txt"), "docker": MISSING}),
        "ok", "Outbound traffic is denied by default, for IPv4 and IPv6", "iptables: OUTPUT ACCEPT, FORWARD DROP; denied by default",
    ),
    (
        "ip6tables only",
        HostFacts("linux", {"nft": MISSING, "iptables": recorded("iptables-empty.txt"), "ip6tables": recorded("iptables-drop.txt"), "docker": MISSING}),
        "warn", "Outbound traffic is denied by default, but not for IPv4", "",
    ),
    (
        "a plain user",
        HostFacts("linux", {"nft": ROOT_ONLY, "iptables": IPT_ROOT_ONLY, "ip6tables": IPT_ROOT_ONLY, "docker": recorded("", 1, "permission denied while trying to connect")}),
        "info", "Host egress filtering could not be read",
        "needs root (Operation not permitted (you must be root))",
    ),
    (
        "one listing is empty and another needs root",
        HostFacts("linux", {"nft": recorded("nft-empty.json"), "iptables": IPT_ROOT_ONLY, "ip6tables": MISSING, "docker": MISSING}),
        "info", "Host egress filtering could not be read", "",
    ),
    (
        "no tool at all",
        HostFacts("linux", dict.fromkeys(COMMANDS["linux"], MISSING)),
        "info", "Host egress filtering could not be read", "nft: not installed",
    ),
    (
        "a listing that is none",
        HostFacts("linux", {"nft": CommandResult(0, '{"nftables": 3}'), "iptables": CommandResult(0, "hello"), "ip6tables": CommandResult(3), "docker": CommandResult(0, "hello")}),
        "info", "Host egress filtering could not be read",
        "nft: its output was not understood; iptables: its output was not understood; ip6tables: failed with status 3; docker: its output was not understood",
    ),
    (
        "a tool that hangs",
        HostFacts("linux", {"nft": CommandResult(None, stderr="no answer within 10 s"), "iptables": MISSING, "ip6tables": MISSING, "docker": MISSING}),
        "info", "Host egress filtering could not be read", "nft: no answer within 10 s",
    ),
    (
        "macOS with LuLu",
        HostFacts("darwin", {"pf": recorded("pfctl-default.txt"), "pf-info": recorded("pfctl-info.txt"), "docker": MISSING}, ("LuLu",)),
        "ok", "An outbound firewall is installed", "pf: no rule blocks out; pf status: Disabled; docker: not installed; LuLu: installed",
    ),
    (
        "macOS, as it comes",
        HostFacts("darwin", {"pf": recorded("pfctl-default.txt"), "pf-info": recorded("pfctl-info.txt"), "docker": MISSING}),
        "warn", "No outbound network egress restrictions detected", "no LuLu or Little Snitch",
    ),
    (
        "macOS with pf rules",
        HostFacts("darwin", {"pf": recorded("pfctl-block.txt"), "pf-info": recorded("pfctl-info.txt"), "docker": MISSING}),
        "ok", "Outbound traffic is denied by default, for IPv4 and IPv6", "pf: 2 rules block out, 1 of them by default",
    ),
    (
        "macOS, a plain user",
        HostFacts("darwin", {"pf": CommandResult(1, stderr="pfctl: /dev/pf: Permission denied"), "pf-info": CommandResult(1, stderr="pfctl: /dev/pf: Permission denied"), "docker": MISSING}),
        "info", "Host egress filtering could not be read", "needs root (pfctl: /dev/pf: Permission denied)",
    ),
    ("another system", HostFacts("freebsd14"), "info", "Host egress filtering could not be read", "no known firewall command for freebsd14"),
]  # fmt: skip


def net009(facts: HostFacts) -> Finding:
    return CHECKS["CHK-NET-009"](facts, ())


@pytest.mark.parametrize(
    ("facts", "severity", "title", "evidence"), [row[1:] for row in HOSTS], ids=[row[0] for row in HOSTS]
)
def test_hosts(facts: HostFacts, severity: str, title: str, evidence: str) -> None:
    found = net009(facts)
    assert (found.severity, found.title) == (severity, title)
    assert evidence in found.evidence
    assert found.auto_fix == ""
    assert bool(found.remediation) == (severity != "ok")


def test_dockers_own_rules_are_no_egress_filter() -> None:
    docker = CommandResult(0, "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n-A FORWARD -j DOCKER-USER\n")
    made = HostFacts("linux", {"nft": MISSING, "iptables": docker, "ip6tables": docker, "docker": MISSING})
    assert (net009(made).severity, net009(made).title) == ("warn", "No outbound network egress restrictions detected")


def test_one_rule_is_no_default() -> None:
    one = CommandResult(0, "-P OUTPUT ACCEPT\n-A OUTPUT -d 10.1.2.3/32 -j DROP\n")
    made = HostFacts("linux", {"nft": MISSING, "iptables": one, "ip6tables": one, "docker": MISSING})
    assert (net009(made).severity, net009(made).title) == (
        "warn",
        "Some outbound rules exist, but nothing is denied by default",
    )
    rule = {"family": "inet", "table": "t", "chain": "o", "expr": [{"match": {}}, {"drop": None}]}
    items = [
        {"chain": {"family": "inet", "table": "t", "name": "o", "hook": "output", "policy": "accept"}},
        {"rule": rule},
    ]
    seen = read("nft", CommandResult(0, json.dumps({"nftables": items})))
    assert (seen.families, seen.some, seen.says) == (frozenset(), True, "nft: some rules stop output, none by default")


def test_a_pf_rule_for_one_family_leaves_the_other_open() -> None:
    assert read("pf", CommandResult(0, "block drop out inet all\n")).families == {4}
    assert read("pf", CommandResult(0, "block drop out from any to 203.0.113.0/24\n")).families == set()
    assert read("pf", CommandResult(0, "block drop in all\n")).families == set()


def test_an_nft_chain_that_drops_only_input_restricts_nothing() -> None:
    rules = [{"chain": {"family": "inet", "table": "t", "name": "in", "hook": "input", "policy": "drop"}}]
    assert read("nft", CommandResult(0, json.dumps({"nftables": rules}))).families == frozenset()


# --- policies ---


def policies(*texts: tuple[str, str]) -> tuple[Policy, ...]:
    return tuple(p for name, text in texts for p in parse_policy(name, text, Context(lambda path: "", {})))


DENY, ALLOW = ("p.toml", 'default = "deny"'), ("p.toml", 'default = "allow"')
OFF, NONE = ("openclaw.json", "{}"), ("openclaw.json", '{"agents": {"defaults": {"sandbox": {"mode": "all"}}}}')
CUSTOM = ("openclaw.json", '{"agents": {"defaults": {"sandbox": {"mode": "all", "docker": {"network": "x"}}}}}')
SEED = ("c.json", '{"skills": {"networkPolicy": "deny"}}')

DECLARED = [
    ((), "warn", "warn"),
    ((DENY,), "ok", "ok"),
    ((ALLOW,), "warn", "critical"),
    ((OFF,), "warn", "critical"),
    ((NONE,), "ok", "ok"),
    ((CUSTOM,), "warn", "warn"),
    ((OFF, DENY), "ok", "ok"),
    # Keys that nothing enforces count as absent.
    ((SEED,), "warn", "critical"),
    ((SEED, NONE), "ok", "ok"),
]


@pytest.mark.parametrize(("texts", "dns", "outbound"), DECLARED)
def test_severities_follow_what_is_enforced(texts: tuple[tuple[str, str], ...], dns: str, outbound: str) -> None:
    found = {finding.id: finding for finding in findings(HostFacts("linux"), policies(*texts))}
    assert (found["CHK-NET-010"].severity, found["CHK-NET-011"].severity) == (dns, outbound)


def test_the_seeds_keys_are_named_once_and_never_fixed() -> None:
    both = policies(("openclaw.json", SEED[1]))
    found = findings(HostFacts("linux"), both)
    assert [finding.id for finding in found] == ["CHK-NET-009", "CHK-NET-010", "CHK-NET-011", "EGP-001"]
    assert "jq" not in str(found)


# --- the seam ---


def test_gather_runs_read_only_commands_only() -> None:
    ran: list[Sequence[str]] = []

    def run(command: Sequence[str]) -> CommandResult:
        ran.append(command)
        return MISSING

    for platform in ("linux", "darwin", "plan9"):
        gather(run, lambda pattern: False, platform)
    words = {word for command in ran for word in command}
    assert not words & {
        "add",
        "delete",
        "flush",
        "-f",
        "-F",
        "-A",
        "-I",
        "-D",
        "-X",
        "-P",
        "create",
        "rm",
        "apply",
        "-e",
        "-d",
    }
    assert gather(run, lambda pattern: "LuLu" in pattern, "darwin").products == ("LuLu",)
    assert gather(run, lambda pattern: True, "darwin").products == ("LuLu", "Little Snitch")
    assert set(PRODUCTS) == set(COMMANDS)


def test_commands_that_fail_are_values(tmp_path: Path) -> None:
    assert run_command(["no-such-command-here"]).status is None
    assert run_command(["sh", "-c", "echo out; echo err >&2; exit 3"]) == CommandResult(3, "out\n", "err\n")
    script = tmp_path / "x"
    script.write_text("")
    assert run_command([str(script)]) == CommandResult(126, stderr="permission denied")


def test_only_the_local_docker_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.9:2375")
    monkeypatch.setenv("DOCKER_CONTEXT", "elsewhere")
    seen = run_command(["sh", "-c", "env | grep ^DOCKER"])
    assert seen.stdout == "DOCKER_HOST=unix:///var/run/docker.sock\n"


@pytest.mark.real("nftables")
def test_a_real_ruleset_is_understood() -> None:
    seen = gather(platform="linux").commands["nft"]
    assert seen.status == 0, seen.stderr
    assert read("nft", seen).families == frozenset()

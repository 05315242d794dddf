"""OpenClaw's real keys: defaults, per-agent merge, includes, variables, traps; and the seed's keys as an intention."""

import json
from typing import Any

import pytest

from probe.errors import UserError
from probe.model import Action, Channel, Destination, Mode, Policy, Query
from probe.policies import Context, parse_policy
from probe.policies.decide import decide
from probe.policies.includes import merge

PLACE = "agents.defaults.sandbox"


def policies(
    tree: Any, files: dict[str, str] | None = None, agent: str | None = None, **environment: str
) -> tuple[Policy, ...]:
    def read(path: str) -> str:
        try:
            return (files or {})[path]
        except KeyError:
            raise UserError(f"{path}: no such file") from None

    text = tree if isinstance(tree, str) else json.dumps(tree)
    return parse_policy("/c/openclaw.json", text, Context(read, environment, agent))


def sandbox(**keys: Any) -> dict[str, Any]:
    return {"agents": {"defaults": {"sandbox": keys}}}


def ids(policy: Policy) -> list[str]:
    return [finding.id for finding in policy.findings]


MEANINGS = [
    ("nothing said: the sandbox is off", {}, "allow", f'openclaw.json: {PLACE}.mode (absent: "off"): no sandbox, skills use the host\'s network'),
    ("off", sandbox(mode="off", docker={"network": "none"}), "allow", f'openclaw.json: {PLACE}.mode = "off": no sandbox, skills use the host\'s network'),
    ("on, and no network by default", sandbox(mode="all"), "deny", f'openclaw.json: {PLACE}.docker.network (absent: "none")'),
    ("bridge", sandbox(mode="all", docker={"network": "bridge"}), "allow", f'openclaw.json: {PLACE}.docker.network = "bridge"'),
    ("none", sandbox(mode="all", docker={"network": " None "}), "deny", f'openclaw.json: {PLACE}.docker.network = "none"'),
    ("a network of its own", sandbox(mode="all", docker={"network": "fenced"}), "undeclared", f'openclaw.json: {PLACE}.docker.network = "fenced"'),
    ("another container's", sandbox(mode="all", docker={"network": "container:x", "dangerouslyAllowContainerNamespaceJoin": True}), "undeclared", f'openclaw.json: {PLACE}.docker.network = "container:x"'),
    ("podman", sandbox(mode="all", backend="podman"), "deny", f'openclaw.json: {PLACE}.docker.network (absent: "none")'),
    ("ssh", sandbox(mode="all", backend="ssh"), "undeclared", f"openclaw.json: {PLACE}.backend = \"ssh\": the network is the ssh host's own"),
    ("non-main", sandbox(mode="non-main"), "deny", f'openclaw.json: {PLACE}.docker.network (absent: "none") (not the main session: it runs on the host)'),
]  # fmt: skip


@pytest.mark.parametrize(("tree", "action", "by"), [row[1:] for row in MEANINGS], ids=[row[0] for row in MEANINGS])
def test_meanings(tree: Any, action: str, by: str) -> None:
    (made,) = policies(tree)
    assert (made.default, made.default_by, made.source.mode) == (action, by, Mode.ENFORCE)


def test_json5() -> None:
    (made,) = policies("// c\n{agents: {defaults: {sandbox: {mode: 'all',},},},}")
    assert made.default is Action.DENY


# --- agents ---


def two(scope: str = "agent", **own: Any) -> dict[str, Any]:
    return {
        "agents": {
            "defaults": {"sandbox": {"mode": "all", "scope": scope, "docker": {"binds": ["/a:/a"]}}},
            "entries": {"web": {"sandbox": own}, "plain": {}},
        }
    }


def test_an_agents_own_key_wins() -> None:
    (made,) = policies(two(docker={"network": "bridge", "binds": ["/var/run/docker.sock:/s"]}), agent="web")
    assert (made.default, made.default_by) == (
        Action.ALLOW,
        'openclaw.json: agents.entries.web.sandbox.docker.network = "bridge"',
    )
    assert "EGP-003" in ids(made)  # binds are joined


def test_an_agent_without_keys_has_the_defaults() -> None:
    (made,) = policies(two(docker={"network": "bridge"}), agent="plain")
    assert made.default is Action.DENY


def test_scope_shared_ignores_per_agent_docker() -> None:
    (made,) = policies(two("shared", docker={"network": "bridge"}), agent="web")
    assert made.default is Action.DENY
    assert ids(made) == ["EGP-002"]


def test_scope_shared_without_per_agent_docker_is_no_finding() -> None:
    assert ids(policies(two("shared"))[0]) == []


def test_per_session_is_the_older_word_for_scope() -> None:
    tree = two(docker={"network": "bridge"})
    del tree["agents"]["defaults"]["sandbox"]["scope"]
    tree["agents"]["defaults"]["sandbox"]["perSession"] = False
    assert policies(tree, agent="web")[0].default is Action.DENY
    tree["agents"]["defaults"]["sandbox"]["perSession"] = True
    assert policies(tree, agent="web")[0].default is Action.ALLOW


def test_agents_with_a_wider_sandbox_are_named() -> None:
    (made,) = policies(two(mode="off"))
    assert ids(made) == ["EGP-007"]
    assert "web" in made.findings[0].evidence


def test_the_older_list_of_agents() -> None:
    tree = sandbox(mode="all") | {}
    tree["agents"]["list"] = [{"id": "old", "sandbox": {"mode": "off"}}]
    (made,) = policies(tree, agent="old")
    assert made.default_by.startswith('openclaw.json: agents.list[0].sandbox.mode = "off"')


def test_an_unknown_agent() -> None:
    with pytest.raises(UserError, match=r"/c/openclaw.json: agents: no agent 'x' \(agents: web, plain\)"):
        policies(two(), agent="x")
    with pytest.raises(UserError, match=r"\(agents: none\)"):
        policies({"agents": {}}, agent="x")


# --- other ways out ---


def test_lints() -> None:
    tree = sandbox(mode="non-main", browser={"enabled": True}, docker={"binds": ["/run/podman.sock:/x"]})
    tree["tools"] = {"exec": {"host": "gateway"}, "elevated": {"enabled": True}}
    (made,) = policies(tree)
    assert ids(made) == ["EGP-003", "EGP-004", "EGP-005", "EGP-006"]
    assert all(finding.auto_fix == "" for finding in made.findings)
    quiet = sandbox(mode="all", browser={"enabled": True, "network": "none"})
    quiet["tools"] = {"exec": {"host": "sandbox"}, "elevated": {"enabled": False}}
    assert ids(policies(quiet)[0]) == []
    assert ids(policies(sandbox(mode="all") | {"tools": 3})[0]) == []


# --- $include and ${VAR} ---


def test_include_merges_and_siblings_win() -> None:
    files = {"/c/a.json5": "{defaults: {sandbox: {mode: 'all', docker: {network: 'bridge'}}}, list: []}"}
    tree = {"agents": {"$include": "a.json5", "defaults": {"sandbox": {"docker": {"network": "none"}}}}}
    assert policies(tree, files)[0].default is Action.DENY
    assert policies({"agents": {"$include": "a.json5"}}, files)[0].default is Action.ALLOW


def test_include_takes_a_list_and_the_later_file_wins() -> None:
    files = {
        "/c/d/a.json": '{"agents": {"defaults": {"sandbox": {"mode": "all"}}}}',
        "/c/d/b.json": '{"$include": ["c.json"], "channels": [{"$include": "c.json"}]}',
        "/c/d/c.json": '{"agents": {"defaults": {"sandbox": {"mode": "off"}}}}',
    }
    assert policies({"gateway": {}, "$include": ["d/a.json", "./d/b.json"]}, files)[0].default is Action.ALLOW


def test_merge() -> None:
    assert merge({"a": [1], "b": 1, "c": {"x": 1}}, {"a": [2], "b": None, "c": {"y": 2}}) == {
        "a": [1, 2],
        "b": None,
        "c": {"x": 1, "y": 2},
    }


def test_variables() -> None:
    tree = sandbox(mode="all", docker={"network": "${NET}", "env": {"A": ["$${NET} ${lower} $NET"]}})
    assert policies(tree, NET="bridge")[0].default is Action.ALLOW
    # A variable elsewhere in the file is none of our business.
    assert policies(sandbox(mode="all") | {"models": {"key": "${SECRET}"}})[0].default is Action.DENY


DEEP = {f"/c/{i}.json": json.dumps({"$include": f"{i + 1}.json"}) for i in range(12)}
MISTAKES: list[tuple[Any, dict[str, str], str]] = [
    ("{agents: ", {}, '/c/openclaw.json:1: not JSON5: Unexpected end of input at column 10'),
    ("{\n agents: {,}}", {}, '/c/openclaw.json:2: not JSON5: Unexpected "}" at column 12'),
    ("[1]", {}, "/c/openclaw.json: expected a table at the top, got list"),
    ('{"agents": 3}', {}, "/c/openclaw.json: agents: expected a table"),
    ({"agents": {"defaults": {"sandbox": 1}}}, {}, "/c/openclaw.json: agents.defaults.sandbox: expected a table"),
    ({"agents": {"defaults": 1}}, {}, "/c/openclaw.json: agents.defaults: expected a table"),
    ({"agents": {"entries": {"a": 1}}}, {}, "/c/openclaw.json: agents.entries.a: expected a table"),
    ({"agents": {"list": {}}}, {}, "/c/openclaw.json: agents.list: expected a list"),
    ({"agents": {"list": [{}]}}, {}, "/c/openclaw.json: agents.list[0].id: expected a string"),
    (sandbox(mode="on"), {}, f"/c/openclaw.json: {PLACE}.mode: expected one of off, non-main, all, got 'on'"),
    (sandbox(mode=True), {}, f"/c/openclaw.json: {PLACE}.mode: expected a string"),
    (sandbox(netwrok="none"), {}, f"/c/openclaw.json: {PLACE}.netwrok: unknown key (OpenClaw refuses to start with it)"),
    (sandbox(docker={"allow": []}), {}, f"/c/openclaw.json: {PLACE}.docker.allow: unknown key (OpenClaw refuses to start with it)"),
    (sandbox(docker={"network": "HOST"}), {}, f'/c/openclaw.json: {PLACE}.docker.network: "host" is refused by OpenClaw (expected none, bridge or a network)'),
    (sandbox(docker={"network": "container:x"}), {}, f"/c/openclaw.json: {PLACE}.docker.network: 'container:x' is refused by OpenClaw without docker.dangerouslyAllowContainerNamespaceJoin"),
    (sandbox(docker={"binds": "x"}), {}, f"/c/openclaw.json: {PLACE}.docker.binds: expected a list of strings"),
    (sandbox(docker={"network": "${NET}"}), {}, f"/c/openclaw.json: {PLACE}.docker.network: ${{NET}} is not set in the environment"),
    ({"agents": {"$include": 3}}, {}, "/c/openclaw.json: $include: expected a path or a list of paths"),
    ({"agents": {"$include": "missing.json"}}, {}, "/c/missing.json: no such file"),
    ({"agents": {"$include": "../x.json"}}, {}, "/c/openclaw.json: $include: '../x.json' lies outside the configuration's folder"),
    ({"agents": {"$include": "/etc/passwd"}}, {}, "/c/openclaw.json: $include: '/etc/passwd' lies outside the configuration's folder"),
    ({"agents": {"$include": "a.json"}}, {"/c/a.json": '{"$include": "a.json"}'}, "/c/a.json: $include: loop: /c/openclaw.json -> /c/a.json -> /c/a.json"),
    ({"agents": {"$include": "0.json"}}, DEEP, "/c/9.json: $include: more than 10 levels deep"),
    ({"$include": "a.json"}, {"/c/a.json": "[1]"}, "/c/openclaw.json: expected a table at the top, got list"),
    ({"agents": {"$include": ["a.json"] * 101}}, {"/c/a.json": "{}"}, "/c/openclaw.json: $include: more than 100 files"),
    ({"agents": {"$include": "a.json", "x": 1}}, {"/c/a.json": "[]"}, "/c/openclaw.json: $include: keys beside it need an included file that holds a table"),
    ("{a: " * 5000, {}, "/c/openclaw.json: not JSON5: nested too deeply"),
    ("[" * 100000, {}, "/c/openclaw.json: not JSON5: nested too deeply"),
    ("{x: " + "1" * 300_000, {}, "/c/openclaw.json: not JSON, and larger than the 256 KiB that are read as JSON5"),
]  # fmt: skip


@pytest.mark.parametrize(("tree", "files", "line"), MISTAKES)
def test_mistakes(tree: Any, files: dict[str, str], line: str) -> None:
    with pytest.raises(UserError) as caught:
        policies(tree, files)
    assert str(caught.value) == line


# --- the seed's keys ---

SEED = {
    "skills": {"networkPolicy": "allowlist", "allowedDomains": ["api.x.test"]},
    "sandbox": {"networkAccess": "restricted", "dnsPolicy": "restricted"},
}


def test_the_seeds_keys_are_an_inert_intention_beside_what_openclaw_does() -> None:
    real, intended = policies(SEED)
    assert (real.source.dialect, real.default) == ("openclaw", Action.ALLOW)  # the sandbox is off
    assert (intended.source.dialect, intended.source.mode) == ("clawpinch", Mode.INERT)
    denied = decide([real, intended], Destination(None, "192.0.2.1", 443), Channel.TCP)
    assert denied.action is Action.DENY
    assert "inert" in denied.by
    assert ids(real) == ids(intended) == ["EGP-001"]
    assert "agents.defaults.sandbox.docker.network" in real.findings[0].remediation
    assert "jq" not in str(real.findings)


def clawpinch(**tables: Any) -> Policy:
    (made,) = parse_policy("c.json", json.dumps(tables), Context(lambda path: "", {}), "clawpinch")
    return made


@pytest.mark.parametrize(
    ("tables", "default"),
    [
        ({"skills": {"networkPolicy": "deny"}}, "deny"),
        ({"skills": {"networkPolicy": "allow"}}, "allow"),
        ({"skills": {"allowedDomains": ["x.test"]}}, "deny"),
        ({"sandbox": {"networkAccess": "full"}}, "allow"),
        ({"sandbox": {"dnsPolicy": "restricted"}}, "undeclared"),
        ({"skills": {"networkPolicy": "allow"}, "sandbox": {"networkAccess": "restricted"}}, "deny"),
    ],
)
def test_intentions(tables: dict[str, Any], default: str) -> None:
    assert clawpinch(**tables).default == default


@pytest.mark.parametrize(
    ("dns", "name", "action"),
    [("restricted", "api.x.test", "allow"), ("restricted", "y.test", "deny"), ("open", "y.test", "allow"),
     (["y.test"], "y.test", "allow"), (["y.test"], "api.x.test", "deny")],
)  # fmt: skip
def test_intended_dns(dns: Any, name: str, action: str) -> None:
    made = clawpinch(skills={"allowedDomains": ["api.x.test"]}, sandbox={"dnsPolicy": dns})
    assert decide([made], Destination("system-resolver", None, 53), Channel.DNS, Query(name, "TXT")).action == action


@pytest.mark.parametrize(
    ("tables", "line"),
    [
        ({"skills": {"networkPolicy": "none"}}, "c.json: skills.networkPolicy: expected one of deny, allowlist, allow, got 'none'"),
        ({"skills": {"networkPolicy": ["deny"]}}, "c.json: skills.networkPolicy: expected one of deny, allowlist, allow, got ['deny']"),
        ({"skills": {"allowedDomains": "x"}}, "c.json: skills.allowedDomains: expected a list of domains"),
        ({"skills": {"allowedDomains": ["*"]}}, 'c.json: skills.allowedDomains[0]: wildcard in the wrong place in \'*\' (expected a name or "*." and a name)'),
        ({"sandbox": {"dnsPolicy": "x"}}, "c.json: sandbox.dnsPolicy: expected one of restricted, none, open, unrestricted, or a list of domains"),
    ],
)  # fmt: skip
def test_mistakes_in_intentions(tables: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        clawpinch(**tables)
    assert str(caught.value) == line


def test_the_seeds_keys_in_an_included_file_are_found() -> None:
    found = policies({"agents": {}, "skills": {"$include": "s.json"}}, {"/c/s.json": '{"networkPolicy": "deny"}'})
    assert [made.source.dialect for made in found] == ["openclaw", "clawpinch"]


def test_the_same_words_elsewhere_are_another_products_keys() -> None:
    tree = sandbox(mode="all") | {"tools": {"web": {"allowedDomains": ["x"]}}, "skills": [], "sandbox": "x"}
    assert [made.source.dialect for made in policies(tree)] == ["openclaw"]

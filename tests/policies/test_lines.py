"""Where a rule stands: the line in each dialect's syntax, and no line where it is not certain."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.errors import UserError
from probe.model import Policy
from probe.policies import Context, parse_policy
from probe.policies.lines import _json5


def parsed(path: str, text: str, agent: str | None = None) -> Policy:
    def read(name: str) -> str:
        if name != "more.json":
            raise UserError(name)
        return '{"skills": {"allowedDomains": ["first.test"]}}'

    return parse_policy(path, text, Context(read, {}, agent))[-1]


TOML = """# a comment
default = "deny"   # line 2

[[allow]]
domain = "a.test"
[[deny]]           # line 6
cidr = "192.0.2.0/24"

[[ allow ]]
domain = "b.test"
[dns]
policy = "restricted"
"""


def test_toml() -> None:
    policy = parsed("p.toml", TOML)
    assert policy.default_line == 2
    assert [(rule.domain or rule.cidr, rule.line) for rule in policy.rules] == [
        ("a.test", 4), ("b.test", 9), ("192.0.2.0/24", 6),
    ]  # fmt: skip
    assert policy.dns is not None
    assert policy.dns.line == 12


def test_toml_with_inline_tables_tells_the_list() -> None:
    policy = parsed("p.toml", 'default = "deny"\nallow = [\n  {domain = "a.test"},\n  {domain = "b.test"},\n]\n')
    assert [rule.line for rule in policy.rules] == [2, 2]


@pytest.mark.parametrize(
    "text",
    [
        'default = "deny"\n[[allow]]\ndomain = """\\\n  a.test"""\n',
        "default = '''deny'''\n[[allow]]\ndomain = 'a.test'\n",
    ],
)
def test_texts_of_several_lines_are_not_guessed_at(text: str) -> None:
    policy = parsed("p.toml", text)
    assert policy.default_line is None
    assert policy.rules[0].line is None


JSON5 = """// {"skills": {"networkPolicy": "allow"}}
{
  /* "sandbox": {
  } */
  skills: {
    'networkPolicy': "deny", "x": "a:b,{[",
    "allowedDomains": [
      "a.test", // "b.test"
      "c.test",
    ],
  },
  sandbox: {dnsPolicy: "none"},
}
"""


def test_json5() -> None:
    policy = parsed("openclaw.json5", JSON5)
    assert policy.default_line == 6
    assert [rule.line for rule in policy.rules] == [8, 9]
    assert policy.dns is not None
    assert policy.dns.line == 12


def test_openclaw_names_the_key_or_nothing() -> None:
    text = '{\n "agents": {"defaults": {"sandbox": {\n  "mode": "all",\n  "docker": {\n   "network": "none"}}}}}'
    assert parsed("openclaw.json", text).default_line == 5
    assert parsed("openclaw.json", '{"agents": {}}').default_line is None


def test_keys_that_came_from_elsewhere_have_no_line() -> None:
    text = '{\n "$include": "more.json",\n "skills": {\n  "networkPolicy": "deny",\n  "allowedDomains": ["own.test"]}}'
    policy = parsed("openclaw.json", text)
    assert [(rule.domain, rule.line) for rule in policy.rules] == [("first.test", None), ("own.test", None)]


def test_docker_inspect_and_compose() -> None:
    inspected = '[\n {"Id": "n", "IPAM": {}, "Internal": true, "Name": "x"},\n {"Id": "c",\n  "HostConfig": {\n   "NetworkMode": "none"}}]'
    assert parsed("inspect.json", inspected).default_line == 5
    assert parsed("one.json", '{"HostConfig": {\n "NetworkMode": "none"}}').default_line == 2
    compose = "services:\n  a:\n    image: x\n  b:\n    network_mode: none\n"
    assert parsed("compose.yaml", compose, "b").default_line == 5


def test_aliases_of_aliases_are_walked_once() -> None:
    """Each of ten keys names the whole of the last level: what is walked once per use never ends."""
    levels = ["l0: &l0 {" + ", ".join(f"k{n}: 1" for n in range(10)) + "}"]
    levels += [f"l{m}: &l{m} {{" + ", ".join(f"k{n}: *l{m - 1}" for n in range(10)) + "}" for m in range(1, 8)]
    text = "services:\n  a:\n    network_mode: none\n" + "\n".join(levels) + "\n"
    (policy,) = parse_policy("compose.yaml", text, Context(str, {}, None))
    assert policy.default_line == 3


@pytest.mark.parametrize("odd", ["\u2028", "\x85", "\u2029"])
def test_odd_line_ends_are_not_counted_differently_than_by_others(odd: str) -> None:
    assert parsed("p.toml", f'# note {odd} more\ndefault = "deny"\n').default_line is None


def test_line_ends_of_windows() -> None:
    policy = parsed("p.toml", TOML.replace("\n", "\r\n"))
    assert [rule.line for rule in policy.rules] == [4, 9, 6]


def test_a_key_with_a_dot_in_it_is_not_taken_for_two() -> None:
    compose = "services:\n  a:\n    b.network_mode: x\n  a.b:\n    network_mode: none\n"
    assert parsed("compose.yaml", compose, "a.b").default_line is None
    text = '{"skills.networkPolicy": "allow",\n "skills": {\n  "networkPolicy": "deny"}}'
    assert parsed("openclaw.json", text).default_line == 3


def test_a_deep_yaml_file_is_read_as_deep_as_rules_stand() -> None:
    deep = "x: " + "{a: " * 20 + "1" + "}" * 20
    assert parsed("compose.yaml", f"services:\n  a:\n    network_mode: none\n{deep}\n").default_line == 3


def test_where_a_rule_stands_is_not_what_it_says() -> None:
    moved = parsed("p.toml", "\n\n" + TOML)
    assert moved.rules[0].line == 6
    assert moved == parsed("p.toml", TOML)


KEYS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=3)
TREES = st.dictionaries(
    KEYS,
    st.recursive(
        st.one_of(st.none(), st.integers(), st.text(max_size=5)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
        max_leaves=8,
    ),
)


def paths(value: Any, path: str) -> dict[str, str]:
    """Every path in a tree, with the JSON of its value."""
    found = {path: json.dumps(value)}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found |= paths(inner, f"{path}[{key}]" if isinstance(value, list) else f"{path}.{key}" if path else key)
    return found


@given(TREES)
def test_every_path_of_a_tree_is_found_on_its_own_line(tree: dict[str, Any]) -> None:
    text = json.dumps(tree, indent=1)
    found = _json5(tree, text)
    assert found.keys() == paths(tree, "").keys()
    for path, value in paths(tree, "").items():
        own = text.splitlines()[found[path] - 1]
        assert value in own or own.rstrip().endswith(("{", "["))

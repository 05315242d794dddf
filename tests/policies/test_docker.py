"""Docker's networks as a policy: inspected containers and compose files, and what is refused by name."""

import json
from typing import Any

import pytest

from probe.errors import UserError
from probe.model import Action, Channel, Destination, Policy, Via
from probe.policies import Context, parse_policy
from probe.policies.decide import decide

OUTSIDE = Destination(None, "203.0.113.9", 443)


def parsed(text: str, path: str = "box.json", service: str | None = None) -> Policy:
    (policy,) = parse_policy(path, text, Context(lambda p: "", {}, service))
    return policy


def container(mode: str, *networks: str, **more: Any) -> dict[str, Any]:
    return {
        "HostConfig": {"NetworkMode": mode, **more},
        "NetworkSettings": {"Networks": {name: {} for name in networks}},
    }


def network(name: str, internal: object) -> dict[str, Any]:
    return {"Name": name, "Scope": "local", "IPAM": {}, "Internal": internal}


@pytest.mark.parametrize(
    ("objects", "action"),
    [
        ([container("none", "none")], "deny"),
        ([container("none")], "deny"),
        ([container("bridge", "bridge")], "allow"),
        ([container("default", "bridge")], "allow"),
        ([container("host", "host")], "allow"),
        ([container("in", "in"), network("in", True)], "deny"),
        ([container("out", "out"), network("out", False)], "allow"),
        ([container("in", "in", "out"), network("in", True), network("out", False)], "allow"),
        # Connected to the bridge as well, after it was started on an internal network.
        ([container("in", "in", "bridge"), network("in", True)], "allow"),
        ([container("none", "none", "out"), network("out", False)], "allow"),
        # Taken off the network that it was started on, or podman, which calls every network a bridge.
        ([container("bridge", "in"), network("in", True)], "deny"),
        ([container("none", "out"), network("out", False)], "allow"),
        ([container("bridge", "podman")], "allow"),
    ],
)
def test_inspected_containers(objects: list[Any], action: str) -> None:
    policy = parsed(json.dumps(objects))
    assert policy.default is Action(action)
    assert decide((policy,), OUTSIDE, Channel.TCP).action is Action(action)
    assert policy.default_by.startswith('box.json: HostConfig.NetworkMode = "')
    (finding,) = policy.findings
    assert (finding.id, finding.severity.value) == ("EGP-008", "ok" if action == "deny" else "warn")


def test_networks_of_one_name_are_told_by_their_id() -> None:
    box = container("n", "n")
    box["NetworkSettings"]["Networks"]["n"] = {"NetworkID": "aa"}
    both = [box, {**network("n", False), "Id": "aa"}, {**network("n", True), "Id": "bb"}]
    assert parsed(json.dumps(both)).default is Action.ALLOW


def test_one_object_without_a_list_and_what_is_declared() -> None:
    policy = parsed(json.dumps(container("bridge", Dns=["9.9.9.9"], ExtraHosts=["db:10.0.0.9"])))
    assert policy.dns is not None
    assert policy.dns.resolvers == ("9.9.9.9",)
    assert policy.findings[0].evidence == (
        'box.json: HostConfig.NetworkMode = "bridge"; dns: 9.9.9.9; extra hosts: db:10.0.0.9'
    )


COMPOSE = "services:\n  box:\n    image: x\n"


@pytest.mark.parametrize(
    ("text", "action", "by"),
    [
        (COMPOSE, "allow", 'services.box.networks = "default" (internal: none)'),
        (COMPOSE + "networks:\n  default:\n    internal: true\n", "deny", 'services.box.networks = "default" (internal: default)'),
        (COMPOSE + "    network_mode: none\n", "deny", 'services.box.network_mode = "none"'),
        (COMPOSE + "    network_mode: host\n", "allow", 'services.box.network_mode = "host"'),
        (COMPOSE + "    networks: [in]\nnetworks:\n  in: {internal: true}\n", "deny", 'services.box.networks = "in" (internal: in)'),
        (COMPOSE + "    networks:\n      in:\n      out:\nnetworks:\n  in: {internal: true}\n  out:\n", "allow", 'services.box.networks = "in, out" (internal: in)'),
    ],
)  # fmt: skip
def test_compose(text: str, action: str, by: str) -> None:
    policy = parsed(text, "compose.yaml")
    assert (policy.default, policy.default_by) == (Action(action), f"compose.yaml: {by}")


def test_a_service_is_chosen() -> None:
    two = COMPOSE + "    network_mode: none\n  other:\n    dns: 9.9.9.9\n    extra_hosts: {db: 10.0.0.9}\n"
    assert parsed(two, "c.yml", "box").default is Action.DENY
    other = parsed(two, "c.yml", "other")
    assert other.default is Action.ALLOW
    assert other.findings[0].evidence.endswith("; dns: 9.9.9.9; extra hosts: db:10.0.0.9")


@pytest.mark.parametrize(
    ("path", "text", "problem"),
    [
        ("b.json", "[]", "b.json: expected a table at the top, got list"),
        ("b.json", "[{}]", "b.json: no known policy dialect"),
        ("b.json", json.dumps([network("n", True)]), "b.json: expected one container, as `docker inspect CONTAINER NETWORK…` prints it"),
        ("b.json", json.dumps([container("a"), container("b")]), "expected one container"),
        ("b.json", json.dumps([container("n", "n")]), "b.json: NetworkSettings.Networks.n: whether it is internal is not in this file: add it with docker inspect CONTAINER n"),
        ("b.json", json.dumps([container("n", "n"), network("n", "yes")]), "whether it is internal is not in this file"),
        ("b.json", json.dumps([container("container:abc")]), "b.json: HostConfig.NetworkMode: container:abc: inspect the container whose network it shares"),
        ("b.json", json.dumps([container("lost")]), "b.json: HostConfig.NetworkMode: lost: expected none, host, bridge, or networks that this file describes"),
        ("b.json", json.dumps([{"HostConfig": 1}]), "b.json: HostConfig: expected a table, got int"),
        ("b.json", json.dumps([container("bridge", Dns=3)]), "b.json: HostConfig.Dns: expected a list, got int"),
        ("b.json", json.dumps([container("bridge", Dns=[3])]), "b.json: HostConfig.Dns: expected a text, got int"),
        ("c.yaml", "services: [a]\n", "c.yaml: services: expected a table, got list"),
        ("c.yaml", "services:\n  a: {}\n  b: {}\n", "c.yaml: services: expected one, or --agent SERVICE (there are: a, b)"),
        ("c.yaml", "services: {}\n", "c.yaml: services: expected one, or --agent SERVICE (there are: none)"),
        ("c.yaml", COMPOSE + "include: [x.yaml]\n", "c.yaml: include: resolve it first: docker compose config"),
        ("c.yaml", COMPOSE + "    extends: {service: y}\n", "c.yaml: services.box.extends: resolve it first: docker compose config"),
        ("c.yaml", COMPOSE + "    network_mode: service:y\n", "c.yaml: services.box.network_mode: service:y: judge the one whose network it shares"),
        ("c.yaml", COMPOSE + "    network_mode: ${MODE}\n", "c.yaml: services.box.network_mode: ${MODE}: a variable: resolve it first"),
        ("c.yaml", COMPOSE + "    network_mode: weird\n", "c.yaml: services.box.network_mode: weird: expected none, host, bridge"),
        ("c.yaml", COMPOSE + "    networks: [x]\n", "c.yaml: networks.x: is not declared"),
        ("c.yaml", COMPOSE + "    network_mode: none\n    networks: [x]\n", "c.yaml: services.box: network_mode and networks exclude each other"),
        ("c.yaml", COMPOSE + "    network_mode: bridge\n    network_mode: none\n", "c.yaml:4: not YAML: 'network_mode' twice"),
        ("c.yaml", COMPOSE + "    networks: {1: }\nnetworks: {1: {internal: true}}\n", "c.yaml: services.box.networks: expected a text, got int"),
        ("c.yaml", COMPOSE + "    networks: [x]\nnetworks: {x: {internal: true, driver: host}}\n", "c.yaml: networks.x.driver: host: expected a network of its own"),
        ("c.yaml", COMPOSE + "    networks: [x]\nnetworks: {x: {internal: true, name: bridge}}\n", "c.yaml: networks.x.name: bridge: expected a network of its own"),
        ("b.json", json.dumps([container("n", "n"), network("n", False), network("n", True)]), "whether it is internal is not in this file"),
        ("c.yaml", COMPOSE + "    x: 2024-99-99\n", "c.yaml: not YAML: month must be in 1..12"),
        ("c.yaml", COMPOSE + "    x: !!int abc\n", "c.yaml: not YAML: invalid literal"),
        ("c.yaml", "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 27)) + "services: {box: {network_mode: *a26}}\n", "c.yaml: services.box.network_mode: expected a text, got list"),
        ("c.yaml", COMPOSE + "    networks: [x]\nnetworks:\n  x: {external: true}\n", "c.yaml: networks.x.external: whether it is internal is not in this file: use docker inspect"),
        ("c.yaml", COMPOSE + "    networks: [x]\nnetworks:\n  x: {internal: maybe}\n", "c.yaml: networks.x.internal: expected true or false, got str"),
        ("c.yaml", "a: b: c\n", "c.yaml:1: not YAML: mapping values are not allowed here"),
        ("c.yaml", "!!python/object/apply:os.system [x]\n", "c.yaml:1: not YAML: could not determine a constructor"),
        ("c.yaml", "- a\n", "c.yaml: expected a table at the top, got list"),
        ("c.yaml", "[" * 5000, "c.yaml: not YAML: nested too deeply"),
        ("c.yaml", "a: b\n", "c.yaml: no known policy dialect"),
        ("c.yaml", "a: \x00\n", "c.yaml: not YAML: "),
    ],
)  # fmt: skip
def test_what_is_refused(path: str, text: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        parsed(text, path)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_service_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r"services\.y: there is none \(there are: box\)"):
        parsed(COMPOSE, "c.yaml", "y")


def test_toml_that_starts_with_a_bracket_stays_toml() -> None:
    with pytest.raises(UserError, match="default: missing"):
        parsed('[[allow]]\ndomain = "x.test"\n', "p.toml")


def test_what_goes_through_a_proxy_it_does_not_declare() -> None:
    inner = parsed(json.dumps([container("none")]))
    through = Destination("api.test", None, 443, Via.PROXY)
    said = decide((inner,), through, Channel.PROXY)
    assert (said.action, "does not declare" in said.by) == (Action.UNDECLARED, True)
    (native,) = parse_policy("p.toml", 'default = "deny"\n[[allow]]\ndomain = "api.test"\n', Context(lambda p: "", {}))
    assert decide((inner, native), through, Channel.PROXY).action is Action.ALLOW
    assert decide((inner, native), Destination("api.test", None, 443), Channel.TCP).action is Action.DENY

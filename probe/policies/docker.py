"""Dialect `docker`: what `docker inspect` says of a container and its networks, or a compose file.

Docker declares networks, not destinations: `none` and internal networks deny everything, every other one allows it. A
container on several networks is as open as the most open of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from probe.errors import UserError
from probe.model import Action, DnsRules, Finding, Mode, Policy, Severity, Source
from probe.policies.text import Document

if TYPE_CHECKING:
    from probe.policies import Context

# Networks that are always there, and whether nothing outside can be reached over them.
_KNOWN = {"bridge": False, "default": False, "host": False, "podman": False, "none": True}
_RESOLVE = "resolve it first: docker compose config"
_UNKNOWN = "whether it is internal is not in this file"


def recognises(document: Document) -> bool:
    """A list of inspected objects, one such object, or YAML with services."""
    if document.syntax == "list":
        return any(isinstance(one, dict) and ("HostConfig" in one or _is_network(one)) for one in _listed(document))
    return "HostConfig" in document.tree or (document.syntax == "yaml" and "services" in document.tree)


def parse(document: Document, context: "Context") -> Policy:
    """The container's or service's network as a policy. Raises UserError that names file and key."""
    return _compose(document, context.agent) if "services" in document.tree else _inspect(document)


# --- docker inspect ---------------------------------------------------------------------------------------------------


def _listed(document: Document) -> list[Any]:
    found = document.tree.get("") if document.syntax == "list" else [document.tree]
    return found if isinstance(found, list) else []


def _is_network(one: Mapping[str, Any]) -> bool:
    return "IPAM" in one and "Internal" in one


def _inspect(document: Document) -> Policy:
    objects = [one for one in _listed(document) if isinstance(one, dict)]
    containers = [one for one in objects if "HostConfig" in one]
    if len(containers) != 1:
        raise UserError(f"{document.path}: expected one container, as `docker inspect CONTAINER NETWORK…` prints it")
    host = _table(document, containers[0]["HostConfig"], "HostConfig")
    mode = _text(document, host.get("NetworkMode", "default"), "HostConfig.NetworkMode")
    if mode.startswith("container:"):
        where = f"{document.path}: HostConfig.NetworkMode: {mode}"
        raise UserError(f"{where}: inspect the container whose network it shares")
    settings = _table(document, containers[0].get("NetworkSettings") or {}, "NetworkSettings")
    named = _table(document, settings.get("Networks") or {}, "NetworkSettings.Networks")
    described = _described(objects)
    networks: dict[str, bool] = {}
    alone = {mode, "bridge"} if mode == "default" else {mode}
    for name in () if mode in _KNOWN and set(named) <= alone else named:
        entry = named[name] if isinstance(named[name], dict) else {}
        internal = _KNOWN.get(name, described.get(str(entry.get("NetworkID")), described.get(name)))
        if not isinstance(internal, bool):
            where = f"{document.path}: NetworkSettings.Networks.{name}"
            raise UserError(f"{where}: {_UNKNOWN}: add it with docker inspect CONTAINER {name}")
        networks[name] = internal
    dns = _texts(document, host.get("Dns") or [], "HostConfig.Dns")
    hosts = _texts(document, host.get("ExtraHosts") or [], "HostConfig.ExtraHosts")
    return _policy(document, "HostConfig.NetworkMode", mode, networks, dns, hosts)


def _described(objects: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Whether a network is internal, by its id and by its name; a name that two have says nothing."""
    networks = [one for one in objects if _is_network(one)]
    found = {str(one["Id"]): one["Internal"] for one in networks if one.get("Id")}
    names = [str(one.get("Name")) for one in networks]
    return found | {str(one.get("Name")): one["Internal"] for one in networks if names.count(str(one.get("Name"))) == 1}


# --- compose ----------------------------------------------------------------------------------------------------------


def _compose(document: Document, service: str | None) -> Policy:
    services = _table(document, document.tree["services"], "services")
    listed = ", ".join(map(str, services))
    if "include" in document.tree:
        raise UserError(f"{document.path}: include: {_RESOLVE}")
    if service is None and len(services) != 1:
        raise UserError(f"{document.path}: services: expected one, or --agent SERVICE (there are: {listed or 'none'})")
    name = next(iter(services)) if service is None else service
    where = f"services.{name}"
    if name not in services:
        raise UserError(f"{document.path}: {where}: there is none (there are: {listed})")
    own = _table(document, services[name], where)
    if "extends" in own:
        raise UserError(f"{document.path}: {where}.extends: {_RESOLVE}")
    dns = _texts(document, own.get("dns") or [], f"{where}.dns")
    hosts = _hosts(document, own.get("extra_hosts") or [], f"{where}.extra_hosts")
    if "network_mode" in own and own.get("networks"):
        raise UserError(f"{document.path}: {where}: network_mode and networks exclude each other")
    if "network_mode" in own:
        mode = _text(document, own["network_mode"], f"{where}.network_mode")
        if mode.partition(":")[0] in ("service", "container"):
            raise UserError(f"{document.path}: {where}.network_mode: {mode}: judge the one whose network it shares")
        return _policy(document, f"{where}.network_mode", mode, {}, dns, hosts)
    given = own.get("networks") or ["default"]
    wanted = _texts(document, list(given) if isinstance(given, dict) else given, f"{where}.networks")
    known = _table(document, document.tree.get("networks") or {}, "networks")
    networks = {network: _is_internal(document, network, known) for network in wanted}
    return _policy(document, f"{where}.networks", ", ".join(wanted), networks, dns, hosts)


def _is_internal(document: Document, name: str, known: Mapping[str, Any]) -> bool:
    where = f"networks.{name}"
    if name not in known and name != "default":
        raise UserError(f"{document.path}: {where}: is not declared")
    network = _table(document, known.get(name) or {}, where)
    if network.get("external"):
        raise UserError(f"{document.path}: {where}.external: {_UNKNOWN}: use docker inspect")
    for key, words in (("driver", ("host", "none")), ("name", tuple(_KNOWN))):
        if network.get(key) in words:
            raise UserError(f"{document.path}: {where}.{key}: {network[key]}: expected a network of its own")
    internal = network.get("internal", False)
    if not isinstance(internal, bool):
        raise UserError(f"{document.path}: {where}.internal: expected true or false, got {type(internal).__name__}")
    return internal


def _hosts(document: Document, given: Any, where: str) -> list[str]:
    if isinstance(given, dict):
        return [f"{name}:{address}" for name, address in given.items()]
    return _texts(document, given, where)


# --- both -------------------------------------------------------------------------------------------------------------


def _policy(
    document: Document, key: str, mode: str, networks: Mapping[str, bool], dns: Sequence[str], hosts: Sequence[str]
) -> Policy:
    """`networks`: whether each is internal; none: the mode alone says it."""
    if not networks and mode not in _KNOWN:
        expected = "none, host, bridge, or networks that this file describes"
        raise UserError(f"{document.path}: {key}: {mode}: expected {expected}")
    shut = all(networks.values()) if networks else _KNOWN[mode]
    inner = ", ".join(name for name, internal in networks.items() if internal) or "none"
    told = f'{key} = "{mode}"' + (f" (internal: {inner})" if networks else "")
    return Policy(
        source=Source(document.path, "docker", Mode.ENFORCE),
        default=Action.DENY if shut else Action.ALLOW,
        default_by=f"{document.name}: {told}",
        dns=None if shut or not dns else DnsRules("open", f"{document.name}: dns", tuple(dns)),
        findings=(_finding(document, told, shut, dns, hosts),),
    )


def _finding(document: Document, told: str, shut: bool, dns: Iterable[str], hosts: Iterable[str]) -> Finding:
    declared = [told, f"dns: {', '.join(dns) or 'the host'}", f"extra hosts: {', '.join(hosts) or 'none'}"]
    return Finding(
        id="EGP-008",
        severity=Severity.OK if shut else Severity.WARN,
        title=f"By its networks the container reaches {'nothing outside' if shut else 'everything'}",
        description="Docker declares networks, not destinations: on one that is not internal, everything is allowed.",
        evidence=f"{document.name}: {'; '.join(declared)}",
        remediation="" if shut else "Use `--network none`, or an internal network with a proxy on it.",
        auto_fix="",
    )


def _table(document: Document, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{document.path}: {where}: expected a table, got {type(value).__name__}")
    return value


def _text(document: Document, value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise UserError(f"{document.path}: {where}: expected a text, got {type(value).__name__}")
    if "$" in value:
        raise UserError(f"{document.path}: {where}: {value}: a variable: {_RESOLVE}")
    return value


def _texts(document: Document, value: Any, where: str) -> list[str]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise UserError(f"{document.path}: {where}: expected a list, got {type(value).__name__}")
    return [_text(document, one, where) for one in value]

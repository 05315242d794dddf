"""Drift worlds: the same canary twice in a real network, and one thing changed in between.

As a program: NAME. Prints what the two runs said, as JSON.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from probe.lab.namespaces import SCRATCH, in_isolation, inside
from probe.lab.stage import Stage, serving
from probe.lab.world import World, load_world

CANARY = (sys.executable, "-I", "-m", "probe", "canary")


@dataclass(frozen=True)
class Place:
    """A world that is up, and the sandbox's files."""

    stage: Stage
    policy: Path
    history: Path

    def shell(self, network: int, command: str) -> None:
        """A command in one of the world's networks."""
        with inside(network):
            subprocess.run(["sh", "-ec", command], check=True, capture_output=True)


def scheduled(world: World, place: Place) -> dict[str, Any]:
    """One `canary run` in the sandbox: its exit code, its changes, what it told."""
    words = [*CANARY, "run", "--history", str(place.history), "--policy", str(place.policy), "--format", "json"]
    words += [word for name in world.run.scenarios for word in ("--scenario", name)]
    words += [word for name in world.run.witness for word in ("--witness", name)]
    with inside(place.stage.networks.sandbox):
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    if not done.stdout:
        return {"failed": done.stderr}
    changes = json.loads(done.stdout)["canary"]["changes"]
    told = [line.removeprefix("egress-probe: default: ") for line in done.stderr.splitlines()]
    return {"exit": done.returncode, "changes": changes, "told": told, "policy": str(place.policy)}


def twice(world: World, before: Callable[[Place], None], change: Callable[[Place], None]) -> list[dict[str, Any]]:
    """Two runs, with `before` ahead of the first and `change` between them."""

    def work() -> list[dict[str, Any]]:
        with (
            tempfile.TemporaryDirectory(prefix="egress-probe-drift-", dir=SCRATCH) as folder,
            serving(world, Path(folder)) as stage,
        ):
            place = Place(stage, Path(folder, "egress-policy.toml"), Path(folder, "history.sqlite"))
            place.policy.write_text(world.policy.text)
            before(place)
            first = scheduled(world, place)
            change(place)
            return [first, scheduled(world, place)]

    found: list[dict[str, Any]] = in_isolation(work)
    return found


def nothing(place: Place) -> None:
    """The first run finds the world as it is."""


def rule_removed(place: Place) -> None:
    place.shell(place.stage.networks.gateway, "nft flush ruleset")


def without_ipv6(place: Place) -> None:
    place.shell(place.stage.networks.sandbox, "ip -6 route flush default; ip -6 addr flush dev eth0 scope global")


def ipv6_enabled(place: Place) -> None:
    place.shell(
        place.stage.networks.sandbox,
        "ip -6 addr add fd99::2/64 dev eth0 nodad; ip -6 route add default via fd99::1",
    )


def resolver_changed(place: Place) -> None:
    # The file that is bound over /etc/resolv.conf
    Path("/etc/resolv.conf").write_text("nameserver 10.99.0.9\n")


def policy_edited(place: Place) -> None:
    place.policy.write_text(place.policy.read_text().replace("ports = [443]", "ports = [443, 8443]", 1))


def world(name: str) -> World:
    """One of the lab's, with scenarios enough to show a change."""
    found = load_world(name)
    return replace(found, run=replace(found.run, scenarios=("declared-entries", "reverse-shell")))


REJECT, IPV6 = "default-deny-reject", "ipv6-forgotten"
# World, what was before the first run, and what changes between the two.
DRIFTS: dict[str, tuple[str, Callable[[Place], None], Callable[[Place], None]]] = {
    "nothing": (REJECT, nothing, nothing),
    "rule-removed": (REJECT, nothing, rule_removed),
    "ipv6-enabled": (IPV6, without_ipv6, ipv6_enabled),
    "resolver-changed": (REJECT, nothing, resolver_changed),
    "policy-edited": (REJECT, nothing, policy_edited),
}


if __name__ == "__main__":
    base, before, change = DRIFTS[sys.argv[1]]
    print(json.dumps(twice(world(base), before, change)))

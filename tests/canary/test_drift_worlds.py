"""Each drift world's change is named in one line; and only what is sure is told at once."""

import json
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.canary.drifting import DRIFTS

# The lines that a reader gets of the second run. `POLICY` stands for the file's path.
SHUT = "baseline: CHK-NET-011 (Skills' outbound access is denied by default) is contradicted now (was confirmed)"
LINES: dict[str, list[str]] = {
    "nothing": [],
    "rule-removed": [
        (
            "LEAK: tcp 198.51.100.44:4444 and 7 more got out "
            "(was closed by router, now reached; POLICY:1 declares it denied)"
        ),
        "baseline: CHK-NET-009 (No outbound network egress restrictions detected) is confirmed now (was contradicted)",
        SHUT,
    ],
    "ipv6-enabled": [
        (
            "LEAK: tcp [2001:db8:44::44]:4444 and 3 more, all IPv6 got out "
            "(was closed by route, now reached; POLICY:1 declares it denied)"
        ),
        "opened: tcp [2001:db8:10::10]:443 works now (was blocked by route, now open)",
        "vantage: IPv6: address and default route (was no address)",
        SHUT,
    ],
    "resolver-changed": ["vantage: resolvers: 10.99.0.9 (was 10.99.0.1)"],
    # The new port is declared allowed, and the gateway does not know of it.
    "policy-edited": [
        "closed: tcp 203.0.113.10:8443 does not work, and is declared allowed (now blocked by router 10.99.0.1)",
        "policy: POLICY:3: the rule allow 203.0.113.10/32 is port 443, 8443 now (was port 443)",
    ],
}


@pytest.fixture(scope="module")
def played() -> "dict[str, Future[Any]]":
    """All of them beside each other: they mostly wait."""

    def play(name: str) -> Any:
        words = [sys.executable, "-m", "tests.canary.drifting", name]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300)
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr

    with ThreadPoolExecutor(len(DRIFTS)) as pool:
        return {name: pool.submit(play, name) for name in DRIFTS}


@pytest.mark.real("namespaces", "nftables")
@pytest.mark.parametrize("name", DRIFTS)
def test_each_change_is_named_in_one_line(name: str, played: "dict[str, Future[Any]]") -> None:
    found = played[name].result()
    assert isinstance(found, list), found
    first, second = found
    assert "failed" not in first, first
    assert "failed" not in second, second
    assert first["changes"] == first["told"] == []
    lines = [line["line"].replace(second["policy"], "POLICY") for line in second["changes"]]
    assert lines == LINES[name]
    # A leak and a policy's change are told at once; what may flicker waits for more runs.
    told = [line.replace(second["policy"], "POLICY") for line in second["told"]]
    assert told == [line for line in lines if line.startswith(("LEAK", "policy"))]

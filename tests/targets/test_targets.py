"""Every target's command line, exactly; what is refused; and OpenClaw's container, found by its labels."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from probe.errors import UserError
from probe.shipping import ship
from probe.targets import TARGETS, form, launch
from probe.targets.openclaw import find

AGENT = ship.argv()
BOOT = ship.BOOT

LINES: list[tuple[str, list[str], str]] = [
    ("docker:box", [], "docker exec -i box"),
    ("docker:box", ["--user", "1000"], "docker exec -i --user 1000 box"),
    ("docker-image:box:1", [], "docker run -i --rm --pull never --name NAME box:1"),
    ("docker-image:reg.test/box@sha256:ab", ["--network", "none"], "docker run -i --rm --pull never --name NAME --network none reg.test/box@sha256:ab"),
    ("podman:box", [], "podman exec -i box"),
    ("podman-image:box", ["--network", "none"], "podman run -i --rm --pull never --name NAME --network none box"),
    ("bwrap", [], "bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --unshare-all --new-session --die-with-parent"),
    ("bwrap", ["--ro-bind", "/", "/"], "bwrap --ro-bind / /"),
    ("firejail", [], "firejail --quiet --noprofile --net=none --"),
    ("firejail", ["--net=br0"], "firejail --quiet --net=br0 --"),
    ("unshare", [], "unshare --user --map-root-user --net --"),
    ("netns:red", [], "ip netns exec red"),
    ("srt", [], "srt --"),
    ("srt:s.json", ["--debug"], "srt --settings s.json --debug --"),
    ("codex", [], "codex sandbox --"),
    ("codex", ["-c", "x=true"], "codex sandbox -c x=true --"),
    ("gvisor", [], "runsc --ignore-cgroups --network=none do"),
    ("gvisor", ["--network=host"], "runsc --network=host do"),
    ("kubectl:ns/pod", [], "kubectl exec -i -n ns pod --"),
    ("kubectl:ns/pod/box", ["--context", "c"], "kubectl exec -i --context c -n ns pod -c box --"),
    ("ssh:me@host", ["-p", "22"], "ssh -T -o BatchMode=yes -p 22 -- me@host"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "options", "line"), LINES, ids=[f"{text} {' '.join(o)}" for text, o, _ in LINES])
def test_command_lines(text: str, options: list[str], line: str) -> None:
    made = launch(text, options)
    assert re.sub("egress-probe-[0-9a-f]{12}", "NAME", " ".join(made.words)) == line
    if "-image" in text:  # what never runs the agent can be ended
        assert made.cleanup[1:3] == ("rm", "-f")
        assert made.cleanup[3] in made.words
    agent = launch(text, options).command(AGENT)[-5:]
    assert agent == (("python3", "-I", "-B", "-c", f"'{BOOT}'") if text.startswith("ssh") else AGENT)


def test_every_target_has_a_row_and_a_page(root: Path) -> None:
    assert {text.partition(":")[0] for text, *_ in LINES} | {"openclaw"} == set(TARGETS)
    page = (root / "docs/sandboxes.md").read_text()
    assert all(f"`{form(name)}`" in page for name in TARGETS)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nope", "--via nope: unknown target (known: docker:CONTAINER"),
        ("docker", "--via docker: expected docker:CONTAINER"),
        ("docker:", "--via docker:: expected docker:CONTAINER"),
        (
            "docker:--privileged",
            "--via docker:--privileged: expected docker:CONTAINER; '--privileged' cannot be a name",
        ),
        ("ssh:-oProxyCommand=x", "cannot be a name"),
        ("netns:a\nb", "--via netns:a\\nb: expected netns:NAME"),
        ("bwrap:x", "--via bwrap:x: expected bwrap"),
        ("kubectl:pod", "--via kubectl:pod: expected kubectl:NAMESPACE/POD[/CONTAINER]"),
        ("kubectl:ns/-pod", "expected kubectl:NAMESPACE/POD[/CONTAINER]"),
        ("kubectl:a/b/c/d", "expected kubectl:NAMESPACE/POD[/CONTAINER]"),
    ],
)
def test_what_is_refused(text: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        launch(text, [])
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


# --- OpenClaw ---


def container(name: str, key: str, podman: bool = False) -> str:
    labels = {"openclaw.sandbox": "1", "openclaw.sessionKey": key, "openclaw.configHash": "ab"}
    joined = ",".join(f"{a}={b}" for a, b in labels.items())
    return json.dumps({"Names": [name] if podman else name, "Labels": labels if podman else joined})


def engine(docker: str | None, podman: str | None = None):
    def run(words: Sequence[str]) -> str | None:
        assert list(words[1:4]) == ["ps", "--filter", "label=openclaw.sandbox=1"]
        return {"docker": docker, "podman": podman}[words[0]]

    return run


@pytest.mark.parametrize(
    ("docker", "podman", "words"),
    [
        (container("sbx-main", "agent:main"), None, "docker exec -i -u 1 sbx-main"),
        (
            container("other", "agent:other") + "\n" + container("mine", "agent:main:main"),
            None,
            "docker exec -i -u 1 mine",
        ),
        (container("all", "shared"), None, "docker exec -i -u 1 all"),
        ("", container("sbx", "agent:main", podman=True), "podman exec -i -u 1 sbx"),
        (
            container("exact", "agent:main") + "\n" + container("session", "agent:main:x"),
            "",
            "docker exec -i -u 1 exact",
        ),
        ("no json\n[]\n" + container("sbx", "agent:main"), None, "docker exec -i -u 1 sbx"),
    ],
)
def test_openclaws_container(docker: str, podman: str | None, words: str) -> None:
    assert " ".join(find("main", ["-u", "1"], engine(docker, podman)).words) == words


@pytest.mark.parametrize(
    ("docker", "podman", "problem"),
    [
        (None, None, "--via openclaw:main: neither docker nor podman can be asked for its container"),
        ("", None, "--via openclaw:main: no container of OpenClaw's runs for it (it is made when the agent first works)"),
        (container("x", "agent:mainly"), None, "no container of OpenClaw's runs for it"),
        (container("a", "agent:main:1") + "\n" + container("b", "agent:main:2"), None, "several containers fit: choose one of them with --via (docker:a, docker:b)"),
    ],
)  # fmt: skip
def test_openclaws_container_that_is_not_there(docker: str | None, podman: str | None, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        find("main", [], engine(docker, podman))
    assert problem in str(caught.value)

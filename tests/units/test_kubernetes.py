"""The manifests of docs/fleet.md against the schema of Kubernetes' own API, unknown fields refused."""

import copy
import shlex
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from probe.alerts.place import exposed
from probe.cli.canary.run import run
from probe.cli.canary.watch import watch
from probe.files import read_policies

VERSIONS = ["1.27", "1.29", "1.31", "1.33", "1.35", "1.37"]
KINDS = ["ConfigMap", "Secret", "PersistentVolumeClaim", "CronJob"]


def manifests(root: Path) -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all((root / "docs/fleet-cronjob.yaml").read_text())}


def pod(root: Path) -> Any:
    return manifests(root)["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def sidecar(root: Path) -> Any:
    _, _, rest = (root / "docs/fleet.md").read_text().partition("<!-- sidecar -->\n```yaml\n")
    return yaml.safe_load(rest.partition("```")[0])


def in_a_pod(container: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [container]}}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_manifests_fit_the_schema(version: str, root: Path) -> None:
    found = manifests(root)
    assert list(found) == KINDS
    for one in (*found.values(), in_a_pod(sidecar(root))):
        kubernetes_validate.validate(one, version, strict=True)


# A field that is misspelt, at each depth, and a value of the wrong type.
@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ((), "spec", "specs"),
        (("spec",), "concurrencyPolicy", "concurencyPolicy"),
        (("spec", "jobTemplate", "spec"), "backoffLimit", "backOffLimit"),
        (("spec", "jobTemplate", "spec", "template", "spec"), "automountServiceAccountToken", "autoMountServiceAccountToken"),
        (("spec", "jobTemplate", "spec", "template", "spec", "securityContext"), "runAsNonRoot", "runAsNonroot"),
        (("spec", "jobTemplate", "spec", "template", "spec", "containers", 0, "securityContext"), "readOnlyRootFilesystem", "readonlyRootFilesystem"),
        (("spec", "jobTemplate", "spec", "template", "spec", "volumes", 1, "secret"), "secretName", "name"),
    ],
)  # fmt: skip
def test_a_misspelt_field_is_refused(path: tuple[Any, ...], old: str, new: str, root: Path) -> None:
    job = copy.deepcopy(manifests(root)["CronJob"])
    place = job
    for step in path:
        place = place[step]
    place[new] = place.pop(old)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, VERSIONS[-1], strict=True)


def test_names_lead_somewhere(root: Path) -> None:
    found, spec = manifests(root), pod(root)
    volumes = {one["name"]: one for one in spec["volumes"]}
    (container,) = spec["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert volumes["policy"]["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"]
    assert volumes["secret"]["secret"]["secretName"] == found["Secret"]["metadata"]["name"]
    assert (
        volumes["history"]["persistentVolumeClaim"]["claimName"] == found["PersistentVolumeClaim"]["metadata"]["name"]
    )
    assert len({one["metadata"]["namespace"] for one in found.values()}) == 1
    files = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert files["/etc/egress-probe"]["readOnly"]
    assert files["/etc/egress-probe-secret"]["readOnly"]


def options(words: list[str], command: click.Command) -> dict[str, Any]:
    """The options as the command line itself reads them."""
    group, name, *rest = words
    assert (group, name) == ("canary", command.name)
    return command.make_context(command.name, rest).params


def test_the_command_lines_are_ours(root: Path, tmp_path: Path) -> None:
    given = options(pod(root)["containers"][0]["args"], run)
    assert (given["name"], given["alerts"], given["splay"]) == (
        "skills",
        ("webhook=@/etc/egress-probe-secret/webhook",),
        60,
    )
    beside = options(sidecar(root)["args"], watch)
    assert (beside["every"], beside["listen"]) == ("15m", "0.0.0.0:9799")
    files = manifests(root)["ConfigMap"]["data"]
    assert list(given["policies"]) == list(beside["policies"]) == [f"/etc/egress-probe/{name}" for name in files]
    (text,) = files.values()
    (tmp_path / "p.toml").write_text(text)
    (policy,) = read_policies([str(tmp_path / "p.toml")], {})
    assert [(rule.domain, rule.ports) for rule in policy.rules] == [("api.example.com", (443,))]


def test_the_pod_ends_after_a_run_and_before_the_next(root: Path) -> None:
    job = manifests(root)["CronJob"]["spec"]
    assert job["schedule"] == "*/15 * * * *"
    assert job["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 900
    assert job["concurrencyPolicy"] == "Forbid"
    assert job["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert pod(root)["restartPolicy"] == "Never"


def test_the_secrets_file_is_private_enough(root: Path) -> None:
    """Kubernetes gives it to root and to the pod's fsGroup, with the group's bits."""
    spec = pod(root)
    mode = next(one["secret"]["defaultMode"] for one in spec["volumes"] if one["name"] == "secret")
    group = spec["securityContext"]["fsGroup"]
    assert exposed(0, group, mode, (group,)) is None
    assert exposed(0, group, mode, ()) is not None
    assert exposed(group, group, mode, (group,)) is not None


def test_commands_in_the_page_are_ours(root: Path) -> None:
    from probe.cli.canary.install import install

    lines = [
        line
        for line in (root / "docs/fleet.md").read_text().splitlines()
        if line.startswith("egress-probe canary install")
    ]
    assert lines
    for line in lines:
        assert options(shlex.split(line)[1:], install)["scheduler"] in ("systemd", "cron")

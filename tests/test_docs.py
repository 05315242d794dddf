"""Documentation that cannot drift: registries, help blocks, links, and words that do not belong."""

import re
from pathlib import Path

import pytest

from probe.alert import SEVERITY
from probe.alerts import CHANNELS
from probe.checks import CHECKS
from probe.files import scenario_names
from probe.lab.world import load_world, world_names
from probe.model import EnforcerKind, Outcome, Verdict
from probe.policies import DIALECTS
from probe.targets import TARGETS
from probe.techniques import TECHNIQUES
from probe.units import SCHEDULERS
from reports import FORMATS
from tests.make import command
from tests.sandboxes.real import SANDBOXES


def rows(text: str, first: str) -> set[str]:
    """The words in backquotes of the last cell of the table row that starts with `first`."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return set(re.findall(r"`([^`]+)`", line.rstrip("| ").rsplit("|", 1)[1]))


@pytest.mark.parametrize(
    ("what", "names"),
    [("technique", TECHNIQUES), ("policy dialect", DIALECTS), ("config check", CHECKS), ("report format", FORMATS),
     ("scenario", scenario_names()), ("lab world", world_names()), ("target of `--via`", TARGETS), ("alert channel", CHANNELS), ("scheduler", SCHEDULERS)],
)  # fmt: skip
def test_the_recipe_names_everything_that_there_is(what: str, names: object, root: Path) -> None:
    assert rows((root / "docs/extending.md").read_text(), what) == set(names)  # type: ignore[call-overload]


def test_the_report_page_has_every_word(root: Path) -> None:
    text = (root / "docs/report.md").read_text()
    for word in (*Outcome, *Verdict, *EnforcerKind):
        assert f"`{word.value}`" in text
    folders = (root / "probe/policies", root / "reports")
    code = "".join(path.read_text() for folder in folders for path in folder.glob("*.py"))
    assert set(re.findall(r'id="(EGP-\d+)"', code)) == set(re.findall(r"`(EGP-\d+)`", text))


def test_the_canarys_page_has_every_kind_of_change_and_every_channel(root: Path) -> None:
    text = (root / "docs/canary.md").read_text()
    for word in (*SEVERITY, *CHANNELS):
        assert f"`{word}`" in text


def test_the_lab_page_has_every_world(root: Path) -> None:
    text = (root / "docs/lab.md").read_text()
    for name in world_names():
        world = load_world(name)
        assert f"| `{name}` | {world.shows} | {world.exit_code} |" in text


def test_the_sandboxes_page_has_every_sandbox(root: Path) -> None:
    text = (root / "docs/sandboxes.md").read_text().partition("<!-- measured")[2]
    assert set(re.findall(r"^(?:\||-) `([^`]+)`", text, re.MULTILINE)) == set(SANDBOXES) - {"env"}


def test_help_in_the_readme_is_the_commands_own(
    root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    (block,) = re.findall(
        r"<!-- help: egress-probe --help -->\n```text\n(.*?)\n```", (root / "README.md").read_text(), re.DOTALL
    )
    assert block == command(capfd, "--help").out.strip()


def test_links_lead_somewhere(root: Path) -> None:
    for page in (*root.glob("*.md"), *root.glob("docs/**/*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_file_says_what_may_live_there(root: Path) -> None:
    for folder in ("probe", "reports", "scenarios", "tests"):
        for path in (root / folder).rglob("*.py"):
            text = path.read_text()
            assert not text or text.startswith('"""'), path

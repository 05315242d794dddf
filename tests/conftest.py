"""What every test relies on: nothing can leave, and a promised real part that no test used fails the run."""

import os
from collections import defaultdict
from pathlib import Path

import pytest

from probe import latch

_ROOT = Path(__file__).parent.parent
_passed: defaultdict[str, int] = defaultdict(int)
_skipped: defaultdict[str, list[str]] = defaultdict(list)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--real-parts", default="", help="comma-separated; each must pass at least one test")


def pytest_configure(config: pytest.Config) -> None:
    forbidden = os.environ.get(latch.VARIABLE)
    if not forbidden or forbidden == latch.own_namespace():
        pytest.exit(
            "tests run in a namespace without an uplink: make test, or tests/without-uplink pytest", returncode=2
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    for mark in item.iter_markers("real"):
        for part in mark.args:
            if report.when == "call" and report.passed:
                _passed[part] += 1
            elif report.skipped:
                _skipped[part].append(item.nodeid)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    promised = [part for part in config.getoption("--real-parts").split(",") if part]
    for part in sorted({*promised, *_passed, *_skipped}):
        word = "promised" if part in promised else "not promised"
        terminalreporter.line(f"real part {part}: {_passed[part]} tests passed, {len(_skipped[part])} skipped ({word})")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    promised = [part for part in session.config.getoption("--real-parts").split(",") if part]
    missing = [part for part in promised if not _passed[part]]
    if missing and exitstatus == 0:
        print(f"\npromised real parts that did not run: {', '.join(missing)}")
        session.exitstatus = 1


@pytest.fixture
def root() -> Path:
    """The repository."""
    return _ROOT

"""A canary of a test: its policy, its history, and what its command hook was told; each run is a real process."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.history.store import History
from probe.standing import stored_report

PROBE = (sys.executable, "-I", "-m", "probe")


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass(frozen=True)
class Box:
    """A canary of a test: its files, and what its hook was told."""

    folder: Path

    @property
    def history(self) -> Path:
        return self.folder / "state" / "h.sqlite"

    @property
    def policy(self) -> Path:
        return self.folder / "p.toml"

    @property
    def hook(self) -> Path:
        return self.folder / "told"

    def words(self, *more: str) -> list[str]:
        return [
            *PROBE, "canary", "run", "--history", str(self.history), "--policy", str(self.policy), "--scenario",
            "declared-entries", "--format", "json", "--alert", f"command=tee -a {self.hook}", *more,
        ]  # fmt: skip

    def run(self, *more: str) -> Ran:
        done = subprocess.run(self.words(*more), capture_output=True, text=True, timeout=120)
        return Ran(done.returncode, done.stdout, done.stderr)

    def edit(self, number: int) -> None:
        """A change of the policy: told at once."""
        self.policy.write_text(f'default = "deny"\n[[deny]]\ncidr = "198.51.100.7"\nports = [{number}]\n')

    def told(self) -> list[str]:
        """Kinds, in the order in which the hook got them."""
        lines = self.hook.read_text().splitlines() if self.hook.exists() else []
        return [json.loads(line)["change"]["kind"] for line in lines]

    def stored(self) -> list[int]:
        """Exit codes of the runs that the history holds; each report can be read."""
        with History(self.history, read_only=True) as history:
            runs = history.runs()
            for run in runs:
                if run.problem is None:
                    assert stored_report(history, run).run.id == run.run_id
            assert history.rows("PRAGMA integrity_check") == [("ok",)]
            return [run.exit_code for run in runs]

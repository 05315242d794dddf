"""Worlds played in processes of their own, several at a time: a world mostly waits."""

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

AT_A_TIME = 16

# What the command `lab` does to one world, with what it has no option for.
_CODE = """
import json, sys
from dataclasses import replace
from probe.cli.lab import play_world
from probe.codec import encode
from probe.lab.confine import cannot
from probe.lab.servers import missing
from probe.lab.world import load_world, misses
name, concurrency, words = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
world = load_world(name)
world = replace(world, sandbox=replace(world.sandbox, confine=(*world.sandbox.confine, *words)))
problem = cannot(world.sandbox.confine) or missing(world)
if problem is not None:
    print(json.dumps({"skipped": problem}))
else:
    report = play_world(world, concurrency)
    print(json.dumps({"report": encode(report), "misses": misses(world, report)}))
"""


@dataclass(frozen=True, slots=True)
class Game:
    """A world to play. `words`: what confines the agent besides; `python`: the command that runs all of it."""

    name: str
    concurrency: int = 0
    words: tuple[str, ...] = ()
    python: tuple[str, ...] = (sys.executable,)


@dataclass(frozen=True, slots=True)
class Played:
    """`skipped`: why it cannot be played here; `failed`: what was printed instead of a result."""

    report: dict[str, Any] | None = None
    misses: tuple[str, ...] = ()
    skipped: str | None = None
    failed: str | None = None

    def verdicts(self) -> dict[str, tuple[str, str | None, str]]:
        """Row → verdict, grade, outcome."""
        assert self.report is not None, self.failed or self.skipped
        return {
            row["id"]: (row["verdict"], row.get("grade"), row["observed"]["outcome"]) for row in self.report["results"]
        }


def play_all(games: Sequence[Game]) -> dict[Game, Played]:
    """All of them."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return dict(zip(games, pool.map(_play, games), strict=True))


def _play(game: Game) -> Played:
    command = [*game.python, "-I", "-c", _CODE, game.name, str(game.concurrency), *game.words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        return Played(failed=done.stdout[-2000:] + done.stderr[-4000:])
    told = json.loads(done.stdout)
    return Played(told.get("report"), tuple(told.get("misses", ())), told.get("skipped"))

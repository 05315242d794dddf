"""docs/accuracy.md, from a real run of every kind world. `make accuracy` writes it; a test checks that no kind is missing.

The text holds nothing that differs from run to run: no time, no run id, no address.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from probe.lab.world import KIND, World, load_world, world_names
from tests.lab.playing import Game, Played, play_all

_HEAD = """# What is told of each way to enforce?

`make accuracy` makes this page from a real run: one [lab world](lab.md) per way to enforce, each with a control that is
allowed, a witness and a target that are denied. It shows what is said of the target. Every world's file under
`scenarios/worlds/` states what is true there; where what was said differs, the row has a †, and the truth stands below.

The verdict is about the *declaration* (deny), not about the network: where nothing stops the target, the truth is `leak`, and
where nothing can be proven, it is `unproven`.

## How each is told

| kind | what stands there | how it is told |
| --- | --- | --- |
"""
_TABLE = """
## What is observed, and what is said

IPv4 and IPv6 share a row where they agree. The hop is counted from the sandbox: 0 is the sandbox's own host.

| kind | over | outcome | enforcer | hop | verdict | grade |
| --- | --- | --- | --- | --- | --- | --- |
"""
_TARGETS = ("172.30.9.9", "fd30::9")


def page(worlds: Mapping[str, World], played: Mapping[str, Played]) -> str:
    """The whole page. Raises SystemExit where a world was not played."""
    told = "".join(f"| `{_short(name)}` | {world.title} | {world.shows} |\n" for name, world in worlds.items())
    rows, notes = [], []
    for name in worlds:
        done = played[name]
        if done.report is None:
            raise SystemExit(f"{name}: {done.skipped or done.failed}")
        rows += list(_rows(name, done))
        notes += list(_notes(name, done))
    below = "".join(["\n† The truth there:\n\n", *notes]) if notes else ""
    return _HEAD + told + _TABLE + "".join(rows) + below


def _rows(name: str, done: Played) -> Iterator[str]:
    assert done.report is not None
    found: dict[tuple[str, ...], list[str]] = {}
    for row in done.report["results"]:
        address = row["destination"]["address"]
        if address in _TARGETS:
            wrong = any(miss.startswith(f"{row['id']}:") for miss in done.misses)
            over = f"{row['channel'].upper()} {'v6' if ':' in address else 'v4'}"
            found.setdefault(_cells(row, wrong), []).append(over)
    for cells, over in sorted(found.items(), key=lambda pair: sorted(pair[1])):
        yield f"| `{_short(name)}` | {_together(over)} | {' | '.join(cells)} |\n"


def _cells(row: Mapping[str, Any], wrong: bool) -> tuple[str, ...]:
    by = row["observed"].get("enforcer") or {}
    values = (row["observed"]["outcome"], by.get("kind"), by.get("hop"), row["verdict"], row.get("grade"))
    outcome, *rest = ("–" if value is None else str(value) for value in values)
    return (outcome + (" †" if wrong else ""), *rest)


def _together(over: list[str]) -> str:
    """`TCP v4` and `TCP v6` are `TCP`."""
    words = []
    for channel in ("TCP", "UDP"):
        versions = [word for word in sorted(over) if word.startswith(channel)]
        words += [channel] if len(versions) == len(_TARGETS) else versions
    return ", ".join(words)


def _notes(name: str, done: Played) -> Iterator[str]:
    """The truth of the rows that were told otherwise, once for those that share it."""
    found: dict[str, list[str]] = {}
    for miss in done.misses:
        row, _, rest = miss.partition(": ")
        for address in _TARGETS:
            if f"/{address}:" in row or f"/[{address}]:" in row:
                over = f"{row.split('/')[1].upper()} {'v6' if ':' in address else 'v4'}"
                found.setdefault(rest.rpartition("but the truth is ")[2], []).append(over)
    for truth, over in found.items():
        yield f"- `{_short(name)}`, {_together(over)}: {truth}\n"


def _short(name: str) -> str:
    return name.removeprefix(KIND)


if __name__ == "__main__":
    kinds = {name: load_world(name) for name in world_names() if name.startswith(KIND)}
    games = play_all([Game(name) for name in kinds])
    sys.stdout.write(page(kinds, {game.name: done for game, done in games.items()}))

"""What changed of the config findings: an observation that flipped, another severity."""

from collections.abc import Mapping, Sequence

from probe.alert import Change
from probe.conditions.nouns import UNVERIFIED, About
from probe.drift.moves import Move, about_of, change


def tell(found: Sequence[Move], about: Mapping[str, About]) -> list[Change]:
    """`unverified` is no word on the matter: nothing flipped."""
    lines = []
    for move in found:
        name = about_of(move, about).name
        if move.key.startswith("severity:"):
            lines.append(
                change(move, f"{name} is {move.now or 'gone'} now (was {move.before or 'not there'})", "baseline")
            )
        elif UNVERIFIED not in (move.before, move.now) and None not in (move.before, move.now):
            lines.append(change(move, f"{name} is {move.now} now (was {move.before})", "baseline"))
    return lines

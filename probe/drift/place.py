"""What changed of the place that the agent runs in. Capabilities that were gained together share a line."""

from collections.abc import Mapping, Sequence

from probe.alert import Change
from probe.conditions.nouns import THERE, About
from probe.drift.moves import MOST, Move, about_of, change


def tell(found: Sequence[Move], about: Mapping[str, About]) -> list[Change]:
    """Capabilities that were gained together share a line."""
    lines, together = [], dict[tuple[str, bool], list[Move]]()
    for move in found:
        if {move.before, move.now} == {None, THERE}:
            name = about_of(move, about).name
            together.setdefault((name.rpartition(" ")[0], move.now is not None), []).append(move)
        else:
            lines.append(change(move, f"{_name(move)}: {move.now or 'gone'} (was {move.before or 'none'})", "vantage"))
    for (sort, gained), same in together.items():
        values = ", ".join(_name(move).removeprefix(f"{sort} ") for move in same[:MOST])
        more = f" and {len(same) - MOST} more" if len(same) > MOST else ""
        lines.append(change(same[0], f"{'new' if gained else 'gone'}: {sort} {values}{more}", "vantage"))
    return lines


def _name(move: Move) -> str:
    return move.key.removeprefix("vantage:")

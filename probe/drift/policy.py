"""What changed of the declared policy: which rule, in which file, at which line."""

from collections.abc import Mapping, Sequence

from probe.alert import Change
from probe.conditions.nouns import About, parts_of
from probe.drift.moves import MOST, Move, about_of, change


def tell(found: Sequence[Move], about: Mapping[str, About]) -> list[Change]:
    """A layer that came or went says all of its rules in one line; one rule that took another's place says both."""
    sources = [move for move in found if move.key.startswith("source:")]
    layers = {parts_of(move.key) for move in sources}
    # One file may be several layers: then the others' rules did not come or go with this one.
    alone = {parts_of(move.key)[0] for move in sources if about_of(move, about).seen == "1"}
    lines = []
    rules: dict[str, list[Move]] = {}
    for move in found:
        sort, parts = move.key.partition(":")[0], parts_of(move.key)
        if sort == "source":
            lines.append(change(move, f"the policy {about[move.key].name} is {'gone' if move.now is None else 'new'}"))
        elif parts in layers or parts[0] in alone:
            continue
        elif sort == "rule":
            rules.setdefault(parts[0], []).append(move)
        else:
            lines.append(change(move, _scalar(sort, move, about_of(move, about))))
    return lines + [change for same in rules.values() for change in _rules(same, about)]


def _scalar(sort: str, move: Move, row: About) -> str:
    what = {"mode": "the policy is", "default": "the default is", "dns": "DNS is"}[sort]
    return f"{row.place or row.name}: {what} {move.now or 'not declared'} now (was {move.before or 'not declared'})"


def _rules(found: Sequence[Move], about: Mapping[str, About]) -> list[Change]:
    new = sorted((move for move in found if move.before is None), key=_narrow)
    gone = [move for move in found if move.now is None]
    changed = [move for move in found if move.before is not None and move.now is not None]
    lines = [change(m, f"{_at(m, about)}: the rule {_rule(m, about)} is {m.now} now (was {m.before})") for m in changed]
    if len(new) == len(gone) == 1:
        was = f"{_rule(gone[0], about)}, {gone[0].before}"
        return [*lines, change(new[0], f"{_at(new[0], about)}: {_rule(new[0], about)}, {new[0].now} (was {was})")]
    return lines + [
        change(same[0], f"{_at(same[0], about)}: {'new' if same is new else 'no longer'}: {_listed(same, about)}")
        for same in (new, gone)
        if same
    ]


def _narrow(move: Move) -> tuple[bool, int]:
    """What opens most comes first: a line has room for some rules only."""
    action, _, subject = parts_of(move.key)[-1].partition(" ")
    bits = subject.rpartition("/")[2]
    if "/" in subject and bits.isascii() and bits.isdigit() and len(bits) < 4:
        return action != "allow", int(bits)
    return action != "allow", 0 if subject == "everything" else 8 if subject.startswith("*") else 128


def _at(move: Move, about: Mapping[str, About]) -> str:
    return about_of(move, about).place or "the policy"


def _rule(move: Move, about: Mapping[str, About]) -> str:
    return about_of(move, about).name


def _listed(same: Sequence[Move], about: Mapping[str, About]) -> str:
    named = ", ".join(f"{_rule(move, about)} {move.now or move.before}" for move in same[:MOST])
    return named + (f" and {len(same) - MOST} more" if len(same) > MOST else "")

"""What changed of the paths: a literal table over what held before and what holds now. Rows alike share a line."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from probe.addresses import family
from probe.alert import Change, Kind
from probe.conditions.nouns import BLOCKED, CLOSED, LEAK, OPEN, UNKNOWN, About
from probe.drift.moves import NEVER, NONE, Move, about_of, state, whoever

# (before, now) → the kind of change, and what is said of the rows. Without an entry: nothing is said.
# A row that is new came with a policy entry or a scenario; only if it leaks is that news.
TOLD: Final[dict[tuple[str, str], tuple[Kind, str]]] = {
    **{(was, LEAK): ("leak", "got out") for was in (NONE, NEVER, UNKNOWN, OPEN, CLOSED, BLOCKED)},
    # An allowed path that never worked is told as one that no longer does.
    **{(was, BLOCKED): ("closed", "does not work, and is declared allowed") for was in (NONE, NEVER)},
    (LEAK, CLOSED): ("closed", "no longer got out"),
    # Still open, but the declaration says otherwise now: the policy's own change has a line too.
    (LEAK, OPEN): ("opened", "still gets out, and is declared so now"),
    (LEAK, BLOCKED): ("closed", "is declared allowed now, and does not work"),
    (OPEN, CLOSED): ("closed", "is closed now"),
    (OPEN, BLOCKED): ("closed", "no longer works"),
    (CLOSED, OPEN): ("opened", "is open now"),
    (CLOSED, BLOCKED): ("closed", "is declared allowed now, and does not work"),
    (CLOSED, CLOSED): ("enforcer", "is stopped by another"),
    (BLOCKED, OPEN): ("opened", "works now"),
    (BLOCKED, CLOSED): ("closed", "still does not work, and is declared denied now"),
    (BLOCKED, BLOCKED): ("enforcer", "is blocked by another"),
    **{(was, UNKNOWN): ("blind", "is no longer proven") for was in (LEAK, OPEN, CLOSED, BLOCKED)},
    (NEVER, UNKNOWN): ("blind", "was never proven"),
    (UNKNOWN, OPEN): ("proven", "is proven to work"),
    (UNKNOWN, CLOSED): ("proven", "is proven to be closed"),
    (UNKNOWN, BLOCKED): ("closed", "is proven not to work"),
    **{(was, NONE): ("untried", "is no longer tried") for was in (LEAK, OPEN, CLOSED, BLOCKED, UNKNOWN)},
}


def tell(found: Sequence[Move], about: Mapping[str, About]) -> list[Change]:
    groups: dict[tuple[str | None, ...], list[Move]] = {}
    for move in found:
        told = TOLD.get((state(move.before), state(move.now)))
        if told is not None:
            words = whoever(move.before), whoever(move.now)
            # Where the address is all that differs, it is what the line is about.
            words = (move.before, move.now) if words[0] == words[1] else words
            why = about_of(move, about).why if told[0] == "blind" else None
            groups.setdefault((told[1], *words, why), []).append(move)
    return [_row_line(*TOLD[state(same[0].before), state(same[0].now)], same, about) for same in groups.values()]


def _shared(words: Sequence[str | None]) -> str | None:
    """A word that all have; of words that differ in the address only, without it."""
    return words[0] if len(set(words)) == 1 else whoever(words[0])


def _row_line(kind: Kind, phrase: str, same: Sequence[Move], about: Mapping[str, About]) -> Change:
    rows = [about_of(move, about) for move in same]
    line = f"{_LOUD.get(kind, kind)}: {_named(rows)} {phrase if len(rows) == 1 else _plural(phrase)}"
    before, now = _shared([move.before for move in same]), _shared([move.now for move in same])
    place = rows[0].place if len({row.place for row in rows}) == 1 else None
    detail = _detail(kind, Move(same[0].key, before, now), replace(rows[0], place=place))
    return Change(
        kind=kind,
        line=line + (f" ({detail})" if detail else ""),
        paths=tuple(move.key.removeprefix("row:") for move in same),
        before=before,
        after=now,
        cidrs=tuple(sorted({row.cidr for row in rows if row.cidr})),
    )


_LOUD: Final[dict[Kind, str]] = {"leak": "LEAK"}
_PLURAL: Final = {"is": "are", "gets": "get", "works": "work", "does": "do", "was": "were"}


def _plural(phrase: str) -> str:
    return " ".join(_PLURAL.get(word, word) for word in phrase.split(" "))


def _named(rows: Sequence[About]) -> str:
    if len(rows) == 1:
        return rows[0].name
    versions = {family(row.address) if row.address else 0 for row in rows}
    every = f", all IPv{versions.pop()}" if len(versions) == 1 and versions != {0} else ""
    return f"{rows[0].name} and {len(rows) - 1} more{every}"


def _detail(kind: Kind, move: Move, row: About) -> str:
    """What makes the line stand alone: who stopped it before and does now, or why it is not known."""
    if kind == "blind":
        return "; ".join([*([] if move.before == NEVER else [f"was {_word(move.before)}"]), row.why or ""]).strip("; ")
    if kind == "untried":
        return f"was {_word(move.before)}"
    declared = (f"; {row.place} declares it denied" if row.place else "; declared denied") if kind == "leak" else ""
    if move.before in (None, NEVER):
        return f"first seen now{declared}" if kind == "leak" else f"now {_word(move.now)}"
    return f"was {_word(move.before)}, now {_word(move.now) if kind != 'leak' else row.seen}{declared}"


def _word(word: str | None) -> str:
    return "unproven" if word == UNKNOWN else str(word)

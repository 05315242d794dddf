"""How wide, and whether in colour; and what a terminal must not get from a hostile field."""

from dataclasses import dataclass

from probe.errors import one_line

_COLOURS = {"red": 31, "green": 32, "yellow": 33, "dim": 2, "bold": 1}


@dataclass(frozen=True, slots=True)
class Style:
    """`width` in columns."""

    width: int = 100
    colour: bool = False

    def paint(self, text: str, *colours: str) -> str:
        """`text` in ANSI colours, or as it is."""
        if not self.colour or not text:
            return text
        return f"\x1b[{';'.join(str(_COLOURS[c]) for c in colours)}m{text}\x1b[0m"


def clean(text: object, most: int = 400) -> str:
    """One printable line: control characters, and marks that turn the writing direction, are made visible."""
    line = one_line(str(text))
    return line if len(line) <= most else line[: most - 1] + "…"

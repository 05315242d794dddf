"""Where the parts of the picture stand: x in percent of its width, y in pixels, so that text keeps its size.

Picture → Drawing, for picture.html. What it means is reports/picture.py's.
"""

from dataclasses import dataclass
from math import log10
from typing import Final, Literal

from reports.picture import Lane, Picture, Station

# `arrow`: got out. `bar`: stopped here. `ask`: not known. `ring`: answered here. `none`: never left.
Mark = Literal["arrow", "bar", "ask", "ring", "none"]

LEFT: Final = 12.0  # where the sandbox ends
RIGHT: Final = 88.0  # where the outside starts
_HEAD: Final = 40  # above the stations' addresses, of which each takes a line
_ADDRESS: Final = 13
LANE: Final = 52
_LABEL: Final = 15  # the text's base line below the lane's top
_LINE: Final = 34
_AFTER: Final = 0.35  # of the way to the next station: "somewhere after it"
_STUB: Final = 4.0
_MARGIN: Final = 1.5


@dataclass(frozen=True, slots=True)
class Post:
    """A station with what fits above it."""

    x: float
    where: str
    title: str
    lines: tuple[str, ...]
    full: str


@dataclass(frozen=True, slots=True)
class Track:
    """One lane. `fog`: x and width of where it stopped, somewhere; `dotted`: from where on its way is not known."""

    lane: Lane
    index: int
    look: str
    top: int
    label: int
    y: int
    to: float
    dotted: float | None
    fog: tuple[float, float] | None
    dots: tuple[float, ...]
    mark: Mark
    mark_x: float


@dataclass(frozen=True, slots=True)
class Drawing:
    """All of it. `size` is a class of the style sheet: how wide it is at least."""

    posts: tuple[Post, ...]
    tracks: tuple[Track, ...]
    height: int
    size: str
    left: float = LEFT
    right: float = RIGHT
    lane: int = LANE


def draw(picture: Picture) -> Drawing:
    """Stations at even distances: their number is known, their distance in any other measure is not."""
    gap = (RIGHT - LEFT) / (len(picture.stations) + 1)
    xs = [_round(LEFT + gap * (i + 1)) for i in range(len(picture.stations))]
    posts = tuple(_post(one, x, gap) for one, x in zip(picture.stations, xs, strict=True))
    top = _HEAD + _ADDRESS * max((len(post.lines) for post in posts), default=0)
    return Drawing(
        posts=posts,
        tracks=tuple(_track(lane, i, top + LANE * i, xs, picture) for i, lane in enumerate(picture.lanes)),
        height=top + LANE * len(picture.lanes) + 8,
        size=f"posts-{min(len(xs), 9)}",
    )


def _post(station: Station, x: float, gap: float) -> Post:
    most = max(7, int(gap * 1.25))  # characters, at the page's full width
    lines = [_short(address, most) for address in station.addresses[:2]]
    more = len(station.addresses) - 2
    where = "hop not known" if station.hop is None else f"hop {station.hop}"
    full = f"{where}: {station.title}" + (f" ({', '.join(station.addresses)})" if station.addresses else "")
    return Post(x, where, station.title, (*lines[:1], *lines[1:], *([f"+{more} more"] if more > 0 else [])), full)


def _short(address: str, most: int) -> str:
    keep = (most - 1) // 2
    return address if len(address) <= most else f"{address[:keep]}…{address[-keep:]}"


def _track(lane: Lane, index: int, top: int, xs: list[float], picture: Picture) -> Track:
    at, after = _around(lane, xs)
    mark, to = _ending(lane, at, after)
    # A place whose distance is not known: only the hops that were seen are known to have been passed.
    unplaced = lane.exact and lane.at is not None and picture.stations[lane.at].hop is None and lane.way != "out"
    last = max((xs[i] for i in lane.seen if xs[i] < to), default=LEFT)
    fog = (after, _round(RIGHT - _MARGIN - after)) if lane.way == "lost" else None
    return Track(
        lane=lane,
        index=index,
        look=_look(lane),
        top=top,
        label=top + _LABEL,
        y=top + _LINE,
        to=to,
        dotted=last if unplaced else None,
        fog=fog,
        dots=tuple(xs[i] for i in lane.seen if xs[i] <= to),
        mark=mark,
        mark_x=_round(fog[0] + fog[1] / 2) if fog else to,
    )


def _around(lane: Lane, xs: list[float]) -> tuple[float, float]:
    """Where the last known place stands, and where "somewhere after it" starts: at once, after the sandbox."""
    if lane.at is None:
        return LEFT, LEFT + (1 if lane.way == "lost" else _STUB)
    behind = (*xs, RIGHT)[lane.at + 1]
    return xs[lane.at], _round(xs[lane.at] + _AFTER * (behind - xs[lane.at]))


def _ending(lane: Lane, at: float, after: float) -> tuple[Mark, float]:
    to = at if lane.exact else after
    endings: dict[str, tuple[Mark, float]] = {
        "out": ("arrow", RIGHT + 3),
        "between": ("ring", to),
        "stopped": ("bar", to),
        "lost": ("ask", after),
        "open": ("ask", to),
        "unsent": ("none", LEFT),
    }
    return endings[lane.way]


def _look(lane: Lane) -> str:
    """Classes of the style sheet: verdict, way, whether it is an allowed path that works, and how thick."""
    thick = min(3, int(log10(len(lane.rows))) + 1)
    works = " works" if lane.allowed and lane.verdict == "conforms" else ""
    return f"{lane.verdict.value} {lane.way}{works} thick-{thick}"


def _round(x: float) -> float:
    return round(x, 2)

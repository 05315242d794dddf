"""One row's evidence in words: its attempts as a table's lines, each with its share of the row's time.

Pure: Result → values, for rows.html.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from probe.documents import Arrival, Attempt, DnsAnswer
from probe.model import Outcome, Transport
from probe.report import FarEndSeen, Observed, Result
from reports import words
from reports.page.meanings import ENFORCERS, OUTCOMES
from reports.style import clean

MOST_SHOWN: Final = 16  # per row
_LEAST_BAR: Final = 1.5  # percent: an attempt of a millisecond is still seen

_REPLIES: Final = {
    "receipt": "a receipt that the collector signed came back",
    "other": "something else came back, signed by nobody",
    "at-home": "this host refused it",
    "attributed": "a filter on the way refused it",
    "as-target": "it was refused as if by the collector",
    "stopped": "it was stopped on the way",
    "none": "nothing came back",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One attempt. `cells`: by column, see COLUMNS; `left` and `wide` in percent of the row's time."""

    cells: dict[str, str]
    left: float
    wide: float


# Columns, and whether they are there where all attempts leave them empty. Times in milliseconds; TCP is not said.
COLUMNS: Final = {
    "Step": True,
    "To": False,
    "Result": True,
    "Error": False,
    "ICMP": False,
    "Hop limit": False,
    "Came back": False,
    "At, ms": True,
    "Took, ms": True,
}
LONG: Final = ("Error", "Came back")  # these may take several lines


def heads(shown: Sequence[Line]) -> list[str]:
    """The columns that say something."""
    return [name for name, always in COLUMNS.items() if always or any(line.cells[name] for line in shown)]


def lines(attempts: Sequence[Attempt], most: int = MOST_SHOWN) -> list[Line]:
    """The first `most` attempts, in order of time."""
    ordered = sorted(attempts, key=lambda a: a.t)[:most]
    if not ordered:
        return []
    start = ordered[0].t
    span = max(a.t + a.elapsed for a in ordered) - start or 1.0
    return [_line(a, start, span) for a in ordered]


def _line(a: Attempt, start: float, span: float) -> Line:
    wide = min(100.0, max(_LEAST_BAR, 100 * a.elapsed / span))
    return Line(
        cells={
            "Step": a.step + (" again" if a.again else ""),
            "To": _to(a),
            "Result": a.result,
            "Error": " ".join(word for word in (a.error, f"at {a.stage}" if a.stage else None) if word),
            "ICMP": _icmp(a),
            "Hop limit": _hops(a),
            "Came back": _back(a),
            "At, ms": f"{(a.t - start) * 1000:.1f}",
            "Took, ms": f"{a.elapsed * 1000:.1f}",
        },
        left=round(min(100 - wide, 100 * (a.t - start) / span), 1),
        wide=round(wide, 1),
    )


def _to(a: Attempt) -> str:
    if a.address is None:
        return ""
    where = f"[{a.address}]" if ":" in a.address else a.address
    over = "" if a.transport is Transport.TCP else f"{a.transport.value} "
    return f"{over}{where}" + (f":{a.port}" if a.port is not None else "")


def _icmp(a: Attempt) -> str:
    return f"{a.icmp.type}/{a.icmp.code} from {a.icmp.offender or 'nobody'}" if a.icmp else ""


def _hops(a: Attempt) -> str:
    if a.least is not None:
        return f"answer ≥ {a.least}"
    return str(a.hops) if a.hops is not None else ""


def _back(a: Attempt) -> str:
    """What came back, or what the kernel told."""
    said: list[str] = []
    if a.data is not None:
        status = f"HTTP {a.data.http_status}, " if a.data.http_status else ""
        said.append(f"{status}{a.data.bytes} bytes: {clean(a.data.excerpt, 120)}")
    if a.tls is not None:
        said.append(f"TLS {a.tls.version or ''} {_CERTIFICATE[a.tls.verified]}" if a.tls.handshake else "no TLS")
    said += [f"late: {_dns(answer)}" for answer in a.late] if a.dns is None else [_dns(x) for x in (a.dns, *a.late)]
    said += [f"{answer.kind} from {answer.source}, ttl {answer.ttl}" for answer in a.raw[:3]]
    if a.tcp is not None and a.tcp.resent:
        said.append(f"SYN sent again {a.tcp.resent} times, {a.tcp.left} left this host")
    if a.route is not None and a.route != "unicast":
        said.append(f"route: {a.route}")
    return clean("; ".join(said), 240)


_CERTIFICATE: Final = {True: "certificate verified", False: "certificate wrong", None: "certificate not checked"}


def _dns(answer: DnsAnswer) -> str:
    records = ", ".join(answer.records[:3]) + (f" and {len(answer.records) - 3} more" if answer.records[3:] else "")
    return f"{answer.type} {answer.rcode} {records}".strip()


# --- the row ---------------------------------------------------------------------------------------------------------


_ANSWERED: Final = (Outcome.REACHED, Outcome.ACCEPTED, Outcome.INTERCEPTED)


def about(row: Result) -> list[tuple[str, str]]:
    """What stands above the attempts."""
    seen = row.observed
    by = ("Who answered" if seen.outcome in _ANSWERED else "Who said no", enforcer(seen)) if seen.enforcer else None
    far = far_end(seen.far_end)
    return [
        ("Declared", f"{row.declared.action.value}, by {declared_by(row)}"),
        ("Observed", observed(seen)),
        *([by] if by else []),
        *([("Far end", far)] if far else []),
        ("Row", f"{row.id} ({row.technique}{', through a proxy' if row.destination.via == 'proxy' else ''})"),
    ]


def observed(seen: Observed) -> str:
    """`rejected: ICMP unreachable or prohibited, … (host_unreachable)`."""
    failure = f" ({seen.failure})" if seen.failure else ""
    return f"{seen.outcome.value.replace('_', ' ')}: {OUTCOMES[seen.outcome]}{failure}"


def enforcer(seen: Observed) -> str:
    """Who said no, where, and the sign by which it was told."""
    who = seen.enforcer
    if who is None:
        return "not known"
    if who.kind == "unknown" and who.hop and seen.outcome is Outcome.SILENT:
        return f"not known: at hop {who.hop} ({who.address or 'no address'}), which answered last, or the next one"
    at = f", hop {who.hop}" if who.hop is not None else ""
    return f"{ENFORCERS[who.kind]}{f' {who.address}' if who.address else ''}{at}{f'; {who.sign}' if who.sign else ''}"


def far_end(seen: FarEndSeen | None) -> str | None:
    """What the collector got of it. None: no collector was asked."""
    if seen is None:
        return None
    arrived = "the token arrived at the collector" if seen.arrived else "the token did not arrive at the collector"
    return "; ".join((arrived, *map(_arrival, seen.arrivals[:3]), _REPLIES[seen.reply]))


def _arrival(one: Arrival) -> str:
    asked = f" for {one.name}" if one.name else ""
    return f"{one.channel} over {one.over} from {one.source}:{one.port} at port {one.at}{asked}"


def declared_by(result: Result) -> str:
    """The rule, and the file and line where it stands."""
    where = words.place(result) or result.declared.path
    return f"{result.declared.by} ({where})" if where else result.declared.by


def budgets(results: Iterable[Result], in_all: int) -> list[int]:
    """How many attempts of each row are shown: MOST_SHOWN, until `in_all` are."""
    given = []
    for result in results:
        mine = min(len(result.observed.attempts), MOST_SHOWN, in_all)
        in_all -= mine
        given.append(mine)
    return given

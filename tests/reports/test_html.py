"""Format `html` without a browser: where the picture puts things, what the page may hold, its colours, its size."""

import base64
import hashlib
import re
import time
from collections.abc import Iterable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from probe.alert import Canary, RunPoint
from probe.documents import Attempt, Icmp
from probe.model import Channel, Destination, EnforcerKind, Outcome, Purpose, Verdict
from probe.report import Enforcer, Report, Result
from reports import html, picture, words
from reports.page import attempts, drawing, meanings, overview, timeline
from reports.style import Style
from tests.reports.browser import canary, everything, far_end, made, row, walked, with_text

K, O, V = EnforcerKind, Outcome, Verdict  # noqa: E741 - the tables below are read by column
HOSTILE = "a|b`c\n<script>alert(1)</script>\x1b[2J\u202e\"' onload=x </style></script></svg> javascript:x {{7*7777}} {% x %} &lt;"


def render(report: Report) -> str:
    return html.render(report, Style())


# --- the picture: where one path ends ---------------------------------------------------------------------------------

ROUTER = Enforcer(K.ROUTER, "10.0.0.1", 1)
ENDS: list[tuple[str, Result, tuple[str, ...], str, int | None, bool, str]] = [
    # what, row → stations, way, at, exact, in words
    ("a leak goes all the way",
     row(1, V.LEAK, O.REACHED, Enforcer(K.PEER)), (), "out", None, True, "1 path got out"),
    ("so does one that the destination itself refused",
     row(1, V.LEAK, O.REFUSED, Enforcer(K.PEER, None, 2)), (), "out", None, True, "1 path got out"),
    # The operator said where the boundary is; the router's address is still told, as a place that it passed.
    ("so does one that a router outside of the boundary rejected",
     row(1, V.LEAK, O.REJECTED, Enforcer(K.ROUTER, "10.0.9.1", 3)), (), "out", None, True, "1 path got out"),
    ("an allowed path that works",
     row(1, V.CONFORMS, O.REACHED, Enforcer(K.PEER), "allow"), (), "out", None, True, "1 allowed path works"),
    ("an allowed path whose port is closed at the destination works too",
     row(1, V.CONFORMS, O.REFUSED, Enforcer(K.PEER), "allow"), (), "out", None, True, "1 allowed path works"),
    # It works, and no more is known than that something in between answered: it is not drawn beyond that.
    ("an answer through something in between",
     row(1, V.CONFORMS, O.INTERCEPTED, Enforcer(K.MIDDLEBOX, None, 1), "allow"),
     ("hop 1 next hop",), "between", 0, True, "1 allowed path answered by something in between at hop 1"),
    ("seccomp",
     row(1, V.CONFORMS, O.DENIED, Enforcer(K.SYSCALL_FILTER, None, 0)),
     ("hop 0 syscall filter",), "stopped", 0, True, "1 path stopped by a syscall filter"),
    ("an over-block by this host's firewall",
     row(1, V.OVERBLOCKED, O.SILENT, Enforcer(K.LOCAL_FIREWALL, None, 0), "allow"),
     ("hop 0 firewall",), "stopped", 0, True, "1 allowed path stopped by this host's firewall"),
    ("refused at once, by whom is not known, but here",
     row(1, V.CONFORMS, O.DENIED, Enforcer(K.UNKNOWN, None, 0)),
     ("hop 0 this host",), "stopped", 0, True, "1 path stopped by this host"),
    ("the next hop",
     row(1, V.CONFORMS, O.REJECTED, ROUTER), ("hop 1 next hop 10.0.0.1",), "stopped", 0, True, "1 path stopped by the next hop"),
    ("a router farther out",
     row(1, V.CONFORMS, O.REJECTED, Enforcer(K.ROUTER, "10.0.9.1", 4)),
     ("hop 4 router 10.0.9.1",), "stopped", 0, True, "1 path stopped by a router at hop 4"),
    ("a router of which the walk tells no distance",
     row(1, V.CONFORMS, O.REJECTED, Enforcer(K.ROUTER, "10.0.9.1")),
     ("? router 10.0.9.1",), "stopped", 0, True, "1 path stopped by a router"),
    ("a resolver's distance is not known",
     row(1, V.CONFORMS, O.NAME_DENIED, Enforcer(K.RESOLVER)),
     ("? resolver",), "stopped", 0, True, "1 path stopped by a resolver"),
    ("a proxy at hop 2 is no router",
     row(1, V.CONFORMS, O.PROXY_DENIED, Enforcer(K.PROXY, None, 2)),
     ("hop 2 proxy",), "stopped", 0, True, "1 path stopped by a proxy at hop 2"),
    # The last router that answered is the filter, or the next one is: the hop is passed, the end is after it.
    ("silence after a hop",
     row(1, V.CONFORMS, O.SILENT, Enforcer(K.UNKNOWN, "10.0.0.1", 1), attempts=walked((1, "10.0.0.1"))),
     ("hop 1 next hop 10.0.0.1",), "lost", 0, False, "1 path stopped somewhere after hop 1"),
    ("silence without a walk",
     row(1, V.CONFORMS, O.SILENT), (), "lost", None, False, "1 path stopped somewhere, place not known"),
    # By the collector's word it did not arrive; who refused it in its name is not known.
    ("a refusal as if by the target, proven not to have arrived",
     row(1, V.CONFORMS, O.REFUSED, Enforcer(K.PEER)), (), "lost", None, False, "1 path stopped somewhere, place not known"),
    ("unproven silence ends where it was last seen",
     row(1, V.UNPROVEN, O.SILENT, Enforcer(K.UNKNOWN, "10.0.0.2", 2), attempts=walked((1, "10.0.0.1"), (2, "10.0.0.2"))),
     ("hop 1 next hop 10.0.0.1", "hop 2 router 10.0.0.2"), "open", 1, False, "1 path silent, last seen at hop 2"),
    ("an accept by nobody known, seen by a router",
     row(1, V.UNPROVEN, O.ACCEPTED, attempts=walked((1, "10.0.0.1"))),
     ("hop 1 next hop 10.0.0.1",), "open", 0, False, "1 path accepted, last seen at hop 1"),
    ("an accept by nobody known, seen by none",
     row(1, V.UNPROVEN, O.ACCEPTED), (), "open", None, False, "1 path accepted, by whom is not known"),
    ("a rejection that proves nothing is where it was made",
     row(1, V.UNPROVEN, O.REJECTED, Enforcer(K.ROUTER, "10.0.9.1", 3)),
     ("hop 3 router 10.0.9.1",), "open", 0, True, "1 path rejected by a router at hop 3"),
    ("no usable name",
     row(1, V.UNPROVEN, O.NAME_UNRESOLVED), (), "open", None, False, "1 path name unresolved, place not known"),
    ("undeclared, and it got out",
     row(1, V.UNDECLARED, O.REACHED, Enforcer(K.PEER), "undeclared"), (), "out", None, True, "1 path got out"),
    ("undeclared, and stopped",
     row(1, V.UNDECLARED, O.REJECTED, ROUTER, "undeclared"),
     ("hop 1 next hop 10.0.0.1",), "stopped", 0, True, "1 path stopped by the next hop"),
    ("undeclared, and silent: nothing says that it was stopped",
     row(1, V.UNDECLARED, O.SILENT, None, "undeclared"), (), "open", None, False, "1 path silent, place not known"),
    ("not run", row(1, V.NOT_RUN, O.NOT_RUN), (), "unsent", None, True, "1 path not tried"),
    ("broken is never drawn as blocked",
     row(1, V.UNPROVEN, O.BROKEN), (), "unsent", None, True, "1 path not measured: the probe itself failed"),
]  # fmt: skip


@pytest.mark.parametrize("case", ENDS, ids=[case[0] for case in ENDS])
def test_where_one_path_ends(case: tuple[str, Result, tuple[str, ...], str, int | None, bool, str]) -> None:
    _, one, stations, way, at, exact, said = case
    drawn = picture.layout(made(one))
    assert stations_of(drawn) == stations
    (lane,) = drawn.lanes
    assert (lane.way, lane.at, lane.exact, lane.says + lane.where) == (way, at, exact, said)


def stations_of(drawn: picture.Picture) -> tuple[str, ...]:
    return tuple(" ".join(("?" if s.hop is None else f"hop {s.hop}", s.title, *s.addresses)) for s in drawn.stations)


def test_stations_stand_in_order_of_distance() -> None:
    whos = [
        Enforcer(K.RESOLVER), Enforcer(K.PROXY), Enforcer(K.MIDDLEBOX), Enforcer(K.ROUTER), Enforcer(K.ROUTER, None, 3),
        Enforcer(K.MIDDLEBOX, None, 2), Enforcer(K.ROUTER, "fd00::1", 1), Enforcer(K.ROUTER, "10.0.0.1", 1),
        Enforcer(K.LOCAL_FIREWALL, "10.0.0.2", 0), Enforcer(K.ROUTE, None, 0), Enforcer(K.SYSCALL_FILTER, None, 0),
    ]  # fmt: skip
    drawn = picture.layout(made(*(row(n, V.CONFORMS, O.REJECTED, who) for n, who in enumerate(whos, 1))))
    assert stations_of(drawn) == (
        "hop 0 syscall filter", "hop 0 routing table", "hop 0 firewall", "hop 1 next hop 10.0.0.1 fd00::1",
        "hop 2 in between", "hop 3 router", "? router", "? in between", "? proxy", "? resolver",
    )  # fmt: skip


def test_paths_that_end_alike_are_one_lane_and_leaks_come_first() -> None:
    rows = [row(n, V.CONFORMS, O.REJECTED, ROUTER) for n in range(1, 8)]
    rows += [
        row(8, V.LEAK, O.REACHED, Enforcer(K.PEER), channel=Channel.UDP),
        row(9, V.LEAK, O.REFUSED, Enforcer(K.PEER), destination=Destination(None, "2001:db8::9", 443)),
        row(10, V.CONFORMS, O.SILENT, purpose=Purpose.SELF_TEST),
    ]
    drawn = picture.layout(made(*rows))
    assert [(lane.verdict, len(lane.rows), lane.carries) for lane in drawn.lanes] == [
        (V.LEAK, 2, "tcp, udp over IPv4 and IPv6"),
        (V.CONFORMS, 7, "tcp over IPv4"),
    ]
    assert len(drawn.lanes[1].examples) == picture.MOST_EXAMPLES
    # `rows` are places in the table, where leaks come first as well.
    assert [words.rows(made(*rows))[n].verdict for n in drawn.lanes[0].rows] == [V.LEAK, V.LEAK]


def test_a_hop_that_only_saw_packets_pass_is_a_station_and_a_dot() -> None:
    drawn = picture.layout(
        made(row(1, V.LEAK, O.REACHED, Enforcer(K.PEER), attempts=walked((1, "10.0.0.1"), (2, "10.0.1.1"))))
    )
    assert stations_of(drawn) == ("hop 1 next hop 10.0.0.1", "hop 2 router 10.0.1.1")
    assert drawn.lanes[0].seen == (0, 1)


def test_long_walks_and_many_ends_are_bounded_and_nothing_is_claimed_beyond() -> None:
    rows = [
        row(n, V.CONFORMS, O.SILENT, Enforcer(K.UNKNOWN, f"10.0.{n}.1", n), attempts=walked((n, f"10.0.{n}.1")))
        for n in range(1, 31)
    ]
    drawn = picture.layout(made(*rows, row(31, V.LEAK, O.REACHED), row(32, V.CONFORMS, O.REACHED, None, "allow")))
    assert len(drawn.stations) == picture.MOST_HOPS
    assert len(drawn.lanes) == picture.MOST_LANES
    assert {"leak", "conforms"} == {lane.verdict.value for lane in drawn.lanes if lane.way == "out"}
    assert sum(len(lane.rows) for lane in drawn.lanes) + len(drawn.rest) == 32
    beyond = [lane for lane in drawn.lanes if lane.where == " somewhere after hop 9"]
    assert [(lane.at, lane.exact) for lane in beyond] == [(picture.MOST_HOPS - 1, False)]


def test_an_odd_stored_report_is_drawn_all_the_same() -> None:
    odd = Attempt(0, 0, "walk", "error", address="no:address", icmp=Icmp(11, 0, "x"), hops=1)
    rows = [row(n, V.CONFORMS, O.REJECTED, Enforcer(K.ROUTER, "x", hop)) for n, hop in enumerate((-3, 10**9), 1)]
    rows.append(row(9, V.UNPROVEN, O.SILENT, attempts=(odd,), destination=Destination(None, "no:address", None)))
    assert len(picture.layout(made(*rows)).lanes) == 3
    assert "no:address" in render(made(*rows))


# --- the picture: how it is drawn -------------------------------------------------------------------------------------


def track(*rows: Result) -> drawing.Track:
    return drawing.draw(picture.layout(made(*rows))).tracks[0]


def test_what_is_drawn_of_an_end() -> None:
    one = track(row(1, V.LEAK, O.REACHED))
    assert (one.mark, one.to > drawing.RIGHT, one.look) == ("arrow", True, "leak out thick-1")
    one = track(row(1, V.CONFORMS, O.REACHED, None, "allow"))
    assert (one.mark, one.look) == ("arrow", "conforms out works thick-1")
    one = track(row(1, V.CONFORMS, O.REJECTED, ROUTER))
    assert (one.mark, one.to, one.fog) == ("bar", 50.0, None)
    # Silence: the line ends where the range starts in which it was stopped, and that reaches to the outside.
    one = track(row(1, V.CONFORMS, O.SILENT, Enforcer(K.UNKNOWN, "10.0.0.1", 1), attempts=walked((1, "10.0.0.1"))))
    assert one.fog is not None
    assert (one.mark, one.dots, one.fog[0] == one.to > 50.0) == ("ask", (50.0,), True)
    assert one.fog[0] + one.fog[1] == pytest.approx(drawing.RIGHT - 1.5)
    # Without a walk that may be at once.
    one = track(row(1, V.CONFORMS, O.SILENT))
    assert one.fog is not None
    assert one.fog[0] == drawing.LEFT + 1
    one = track(row(1, V.UNPROVEN, O.SILENT))
    assert (one.mark, one.fog, one.to < drawing.LEFT + 5) == ("ask", None, True)
    assert track(row(1, V.NOT_RUN, O.NOT_RUN)).to == drawing.LEFT
    # Whether it passed hop 2 on its way to the resolver is not known: no solid line over it.
    rows = (
        row(1, V.UNPROVEN, O.NAME_DENIED, Enforcer(K.RESOLVER)),
        row(2, V.CONFORMS, O.REJECTED, Enforcer(K.ROUTER, "10.0.1.1", 2)),
    )
    assert track(*rows).dotted == drawing.LEFT
    assert [len(track(*[row(1, V.LEAK, O.REACHED)] * n).look.split("-")[-1]) for n in (1, 10, 1000)] == [1, 1, 1]
    assert [track(*[row(1, V.LEAK, O.REACHED)] * n).look[-1] for n in (1, 10, 1000)] == ["1", "2", "3"]


def test_long_addresses_are_shortened_above_and_whole_in_words() -> None:
    long = "2001:db8:1234:5678:9abc:def0:1234:5678"
    rows = [row(n, V.CONFORMS, O.REJECTED, Enforcer(K.ROUTER, f"{long[:-1]}{n}", n % 5 + 1)) for n in range(1, 9)]
    drawn = drawing.draw(picture.layout(made(*rows)))
    assert max(len(line) for post in drawn.posts for line in post.lines) < 20
    text = render(made(*rows))
    assert all(f"{long[:-1]}{n}" in text for n in range(1, 9))


# --- runs, changes, attempts ------------------------------------------------------------------------------------------


def test_the_timeline_groups_what_is_alike_and_shows_the_newest_runs() -> None:
    runs = tuple(RunPoint(f"RUN{n}", None, 0) for n in range(40))
    held, leaked = "c" * 40, "c" * 38 + "LL"
    lines = {**{f"a{n}": held for n in range(60)}, "b": leaked, "c": "." * 39 + "u", "d": "c" * 30 + "." * 10}
    made_grid = timeline.grid(made(canary=Canary("x", None, None, (), runs, lines)))
    assert made_grid is not None
    assert len(made_grid.runs) == timeline.MOST_RUNS
    assert (made_grid.runs[-1].id, made_grid.runs_left_out) == ("RUN39", 10)
    assert [(line.cells[-1], line.paths[0], len(line.paths), line.more) for line in made_grid.lines] == [
        (V.LEAK, "b", 1, 0),
        (V.UNPROVEN, "c", 1, 0),
        (V.CONFORMS, "a0", timeline.MOST_NAMED, 20),
        (None, "d", 1, 0),
    ]
    text = render(made(canary=Canary("x", None, None, (), runs, lines)))
    assert "The newest 30 runs are shown; 10 older ones are left out." in text
    assert "there is no earlier run to compare with" in text


def test_too_many_groups_are_left_out_and_counted() -> None:
    runs = tuple(RunPoint(f"RUN{n}", None, 0) for n in range(12))
    lines = {f"{n:012b}": f"{n:012b}".replace("0", "c").replace("1", "L") for n in range(4096)}
    made_grid = timeline.grid(made(canary=Canary("x", None, None, (), runs, lines)))
    assert made_grid is not None
    assert len(made_grid.lines) == timeline.MOST_GROUPS
    assert made_grid.lines_left_out == made_grid.paths_left_out == 4096 - timeline.MOST_GROUPS
    assert all(line.cells[-1] is V.LEAK for line in made_grid.lines)
    assert timeline.grid(made()) is None


def test_the_most_severe_change_comes_first() -> None:
    report = everything()
    assert [one.of.kind for one in overview.changes(report, {})] == ["leak", "proven"]
    text = render(report)
    assert text.index("It got out.") < text.index("It is proven again.")
    assert '<a href="#r0">' in text
    assert "Nothing changed." in render(made(canary=replace(canary((row(1, V.LEAK, O.REACHED),)), changes=())))


def test_attempts_in_words() -> None:
    shown = attempts.lines(everything().results[0].observed.attempts)
    cells = [
        {
            name: text
            for name, text in line.cells.items()
            if text and name in ("To", "Error", "ICMP", "Hop limit", "Came back")
        }
        for line in shown
    ]
    assert cells == [
        {"To": "[2001:db8::1]:443"},
        {"To": "[2001:db8::1]:443", "Came back": "HTTP 200, 87 bytes: HTTP/1.1 200 OK; TLS TLSv1.3 certificate not checked"},
        {"To": "[2001:db8::1]:443", "Error": "EHOSTUNREACH at receive", "ICMP": "3/0 from fd00::1", "Hop limit": "1"},
        {"To": "[2001:db8::1]:443", "Hop limit": "answer ≥ 65"},
        {"To": "udp [2001:db8::1]:443"},
        {"To": "[2001:db8::1]:443", "Came back": "TXT NOERROR x, x, x and 2 more"},
        {"To": "[2001:db8::1]:443", "Came back": "rst from 2001:db8::1, ttl 60"},
    ]  # fmt: skip
    assert [line.cells["Took, ms"] for line in shown][:2] == ["2.0", "300.0"]
    assert all(0 <= line.left <= 100 - line.wide for line in shown)
    assert attempts.lines(()) == []
    assert attempts.heads(attempts.lines(walked()[:1])) == ["Step", "To", "Result", "At, ms", "Took, ms"]


def test_what_the_far_end_got_is_told() -> None:
    assert attempts.far_end(None) is None
    assert attempts.far_end(far_end(True)) == (
        "the token arrived at the collector; dns over udp from 198.51.100.1:5353 at port 53 for abc.example; "
        "a receipt that the collector signed came back"
    )
    one = row(1, V.CONFORMS, O.SILENT)
    text = render(made(replace(one, observed=replace(one.observed, far_end=far_end(False)))))
    assert "the token did not arrive at the collector; nothing came back" in text


def test_who_said_no() -> None:
    table = [
        (row(1, V.CONFORMS, O.REJECTED, Enforcer(K.ROUTER, "10.0.0.1", 1, "router rejects")), ("Who said no", "a router 10.0.0.1, hop 1; router rejects")),
        (row(1, V.LEAK, O.REACHED, Enforcer(K.PEER)), ("Who answered", "the destination")),
        (row(1, V.CONFORMS, O.SILENT, Enforcer(K.UNKNOWN, "10.0.0.1", 1)), ("Who said no", "not known: at hop 1 (10.0.0.1), which answered last, or the next one")),
    ]  # fmt: skip
    for one, said in table:
        assert said in attempts.about(one)
    assert {"Who said no", "Who answered"}.isdisjoint(name for name, _ in attempts.about(row(1, V.UNPROVEN, O.SILENT)))


# --- what the page says -----------------------------------------------------------------------------------------------


def test_a_stopped_run_and_an_empty_one_are_no_green() -> None:
    good = row(1, V.CONFORMS, O.REJECTED, ROUTER)
    assert '<header class="top conforms">' in render(made(good))
    assert '<header class="top unproven">' in render(made(good, complete=False))
    assert '<header class="top unproven">' in render(made())
    assert "(no rows)" in render(made())


def test_leaks_come_first_and_attempts_that_are_left_out_are_counted() -> None:
    many = tuple(Attempt(n / 10, 0.01, "connect", "silent", address="192.0.2.1") for n in range(40))
    text = render(made(row(1, V.CONFORMS, O.SILENT, attempts=many), row(2, V.LEAK, O.REACHED)))
    assert text.index(">tcp 192.0.2.2:443") < text.index(">tcp 192.0.2.1:443")
    assert "24 of 40 attempts are left out here" in text
    assert attempts.budgets([row(1, V.LEAK, O.REACHED, attempts=many)] * 3, 20) == [16, 4, 0]


def test_the_words_are_the_documentations(root: Path) -> None:
    text = " ".join((root / "docs/report.md").read_text().split())
    for table in (meanings.VERDICTS, meanings.OUTCOMES, meanings.GRADES):
        assert [meaning for meaning in table.values() if meaning not in text] == []
    assert set(meanings.VERDICTS) == set(V)
    assert set(meanings.OUTCOMES) == set(O)
    assert set(meanings.ENFORCERS) == set(K)


# --- what the page may hold -------------------------------------------------------------------------------------------


class Parsed(HTMLParser):
    """Elements with their attributes, and the text of style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline: dict[str, list[str]] = {"style": [], "script": []}
        self._inside: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag if tag in self.inline else None
        if self._inside:
            self.inline[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.inline[self._inside][-1] += data

    def shapes(self) -> set[tuple[str, ...]]:
        return {(tag, *sorted(attrs)) for tag, attrs in self.elements}


REFERENCES = {
    "href",
    "src",
    "srcset",
    "action",
    "formaction",
    "data",
    "poster",
    "background",
    "xlink:href",
    "ping",
    "cite",
}


@pytest.mark.parametrize("text", ["plain", HOSTILE, "x" * 5000])
def test_nothing_outside_of_the_page_is_named(text: str) -> None:
    found = Parsed(render(with_text(everything(), lambda was: f"{was} {text}")))
    named = [value for _, attrs in found.elements for name, value in attrs.items() if name in REFERENCES]
    assert named
    assert all(value and value.startswith("#") for value in named)
    assert not {tag for tag, _ in found.elements} & {"link", "base", "iframe", "object", "embed", "img", "form"}
    assert not [name for _, attrs in found.elements for name in attrs if name.startswith("on") or name == "style"]
    for css in found.inline["style"]:
        assert not re.search(r"url\(|@import|@font-face|expression\(", css)


def test_the_policy_allows_this_style_and_this_script_alone() -> None:
    text = render(everything())
    found = Parsed(text)
    (policy,) = [a["content"] for tag, a in found.elements if a.get("http-equiv") == "Content-Security-Policy"]
    (style,), (script,) = found.inline["style"], found.inline["script"]
    hashes = ["sha256-" + base64.b64encode(hashlib.sha256(x.encode()).digest()).decode() for x in (style, script)]
    assert policy == (
        f"default-src 'none'; style-src '{hashes[0]}'; script-src '{hashes[1]}'; base-uri 'none'; form-action 'none'"
    )
    # It counts from where it stands.
    assert text.index("Content-Security-Policy") < text.index("<style>")


@pytest.mark.parametrize("text", [HOSTILE, "</title><script>", "\x00\x07\ud7ff\ufeff\u2066", "x" * 5000, ""])
def test_hostile_text_in_every_field_stays_text(text: str) -> None:
    report = everything()
    page = render(with_text(report, lambda was: f"{text}{was}" if text else ""))
    assert Parsed(page).shapes() <= Parsed(render(report)).shapes() | {("div", "class")}
    assert {c for c in page if not c.isprintable()} == {"\n"}
    assert "54439" not in page  # no template in a report is run
    if text == HOSTILE:
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert r"\x1b[2J\u202e" in page
        assert page.count("<script>") == page.count("</script>") == 1
    assert len(page) < 300_000


def test_ids_are_there_once_and_every_link_leads_somewhere() -> None:
    found = Parsed(render(everything()))
    ids = [attrs["id"] for _, attrs in found.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = {value[1:] for _, attrs in found.elements for name, value in attrs.items() if name == "href" and value}
    labels = {one for _, attrs in found.elements for one in (attrs.get("aria-labelledby") or "").split()}
    assert links | labels <= set(ids)


# --- colours ----------------------------------------------------------------------------------------------------------

VERDICTS = [verdict.value for verdict in Verdict]
# (text, behind it): 4.5 (WCAG 2.2, 1.4.3). A verdict's tint is behind its headline and its cells of the timeline.
TEXTS = [
    *((text, behind) for text in ("text", "muted") for behind in ("page", "card", "sunk")),
    *((verdict, behind) for verdict in VERDICTS for behind in ("page", "card", "sunk")),
    ("link", "card"), ("link", "sunk"), ("works", "card"),
    ("leak", "leak-tint"), ("overblocked", "overblocked-tint"), ("unproven", "unproven-tint"), ("conforms", "calm-tint"),
]  # fmt: skip
# Lines and shapes: 3.0 (1.4.11).
GRAPHICS = [
    ("edge", "card"),
    ("edge", "page"),
    ("works", "sunk"),
    ("link", "page"),
    ("card", "leak"),
    ("card", "overblocked"),
]
DECORATION = {"rule"}  # between blocks that stand apart without it


def themes() -> dict[str, dict[str, str]]:
    css = html.own("page.css")
    light, dark, print_ = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", css[at:css.index("}", at)])) for at in (m.start() for m in re.finditer(":root {", css)))  # fmt: skip
    return {"light": light, "dark": dark, "print": print_}


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(pair: Iterable[str]) -> float:
    dark, bright = sorted(map(luminance, pair))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_contrast_in_every_theme(theme: str) -> None:
    colours = themes()[theme]
    low = {
        (one, other): round(contrast((colours[one], colours[other])), 2)
        for least, pairs in ((4.5, TEXTS), (3.0, GRAPHICS))
        for one, other in pairs
        if contrast((colours[one], colours[other])) < least
    }
    assert low == {}
    assert {name for pair in TEXTS + GRAPHICS for name in pair} | DECORATION == set(colours)


def test_no_colour_stands_outside_of_the_themes() -> None:
    css = re.sub(r":root \{.*?\}", "", re.sub(r"/\*.*?\*/", "", html.own("page.css"), flags=re.S), flags=re.S)
    assert not re.search(r"#[0-9a-f]{3,8}\b|rgba?\(|hsla?\(|oklch\(", css)
    behind = set(re.findall(r"background: ([^;]+);", css))
    assert behind <= {
        "none",
        *(
            f"var(--{one})"
            for one in ("page", "card", "sunk", "leak-tint", "overblocked-tint", "unproven-tint", "calm-tint")
        ),
    }


# --- size and time ----------------------------------------------------------------------------------------------------


def many(rows: int) -> Report:
    base = everything()
    talk = base.results[0].observed.attempts * 2
    filled = [replace(one, observed=replace(one.observed, attempts=talk)) for one in base.results]
    results = tuple(replace(filled[n % len(filled)], id=f"s/{n}") for n in range(rows))
    return made(*results, canary=canary(results, 40))


@pytest.mark.parametrize(("rows", "most_bytes", "most_seconds"), [(200, 1_000_000, 1.0), (10_000, 16_000_000, 15.0)])
def test_size_and_time(rows: int, most_bytes: int, most_seconds: float) -> None:
    report = many(rows)
    render(made())  # the template is read once
    start = time.process_time()
    text = render(report)
    taken = time.process_time() - start
    print(f"\n{rows} rows: {len(text.encode()):,} bytes, {taken:.2f} s")
    assert len(text.encode()) <= most_bytes
    assert taken <= most_seconds
    assert f"{rows} of {rows} paths shown" in text

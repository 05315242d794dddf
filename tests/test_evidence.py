"""Evidence from a hostile inside: every line that does not fit is a problem, none is a traceback or a green."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.codec import to_line
from probe.contradictions import contradicts
from probe.documents import (
    Attempt,
    Calibration,
    Check,
    Counters,
    Data,
    DnsAnswer,
    End,
    Icmp,
    Plan,
    Record,
    Start,
    TcpInfo,
    Tls,
)
from probe.errors import UserError
from probe.evidence import LONGEST_LINE, read_evidence
from probe.judge import judge
from probe.model import Channel, Destination, DnsResolver, Query, Transport, Via
from tests.make import RUN_ID, UDP, VANTAGE, attempt, check, plan

PLAN = plan(check(n=1), check("198.51.100.1", n=2))
NO_ROUTE = {"result": "error", "stage": "connect", "error": "ENETUNREACH"}


def record(n: int, address: str) -> str:
    return to_line(Record(n, (attempt(address=address, **NO_ROUTE),)))


START = to_line(Start("egress-probe.evidence/1", RUN_ID, VANTAGE))
ONE, TWO = record(1, "192.0.2.1"), record(2, "198.51.100.1")
END = to_line(End(2, True, 1.0))
GOOD = [START, to_line(Calibration(1.5, 0)), ONE, TWO, END]


def test_good_evidence_is_a_green() -> None:
    made = read_evidence(GOOD, PLAN)
    assert made.problems == ()
    assert judge(PLAN, made).summary.exit_code == 0


def without(*gone: str) -> list[str]:
    return [line for line in GOOD if line not in gone]


def swapped(old: str, *new: str) -> list[str]:
    return [one for line in GOOD for one in (new if line == old else (line,))]


LIES: list[tuple[str, list[str], str]] = [
    ("no start", without(START), "no start record"),
    ("no end", without(END), "no end record: the agent died, or its output was cut"),
    ("no record", without(TWO), "2 records were announced, 1 came"),
    ("a record twice", swapped(ONE, ONE, ONE), "evidence:4: s/tcp/192.0.2.1:443: a second record for the same check"),
    ("a foreign check", swapped(ONE, ONE, record(9, "192.0.2.1")), "evidence:4: foreign: check 9 was not ordered"),
    ("a foreign run", swapped(START, START.replace(RUN_ID, "01JX")), f"evidence:1: foreign: of run 01JX, not of {RUN_ID}"),
    ("a second start", swapped(START, START, START), "evidence:2: a second start record"),
    ("more after the end", [*GOOD, ONE], "evidence:6: a line after the end record"),
    ("a banner", ["Welcome to the sandbox!", *GOOD], "evidence:1: not JSON: Expecting value (column 1)"),
    ("another JSON", ["[1]", *GOOD], "evidence:1: not an evidence record"),
    ("a kind of its own", ['{"kind": "verdict"}', *GOOD], "evidence:1: not an evidence record"),
    ("a kind that is a list", ['{"kind": []}', *GOOD], "evidence:1: not an evidence record"),
    ("an unknown key", swapped(ONE, ONE[:-1] + ',"verdict":"conforms"}'), "evidence:3: unknown key 'verdict'"),
    ("a giant line", ["x" * (LONGEST_LINE + 1), *GOOD], f"evidence:1: longer than {LONGEST_LINE} characters"),
    ("another address", swapped(ONE, record(1, "127.0.0.1")), "evidence:3: s/tcp/192.0.2.1:443: an attempt to 127.0.0.1, not to 192.0.2.1"),
    ("a number that is none", swapped(ONE, ONE.replace('"t":0.1', '"t":1e999')), "evidence:3: s/tcp/192.0.2.1:443: a time that is none"),
    ("a record before the start", [ONE, START, TWO, END], "evidence:1: a line before the start record"),
    ("a local network that is none", swapped(START, START.replace("fd99::/64", "everything")), "evidence:1: a local network that is none"),
    ("an end before the attempts", swapped(END, to_line(End(2, True, -1.0)).replace("-1.0", "-1e999")), "the end record's time is none"),
    ("too early an end", [START, ONE.replace('"t":0.1', '"t":9.1'), TWO, END], "attempts that ended after the end"),
    ("a deadline that is none", [START, to_line(Calibration(1.5, 0)).replace("1.5", "1e999"), ONE, TWO, END], "evidence:2: a calibration that is none"),
    ("an offender that is none", swapped(ONE, to_line(Record(1, (attempt("error", stage="receive", error="EPERM", icmp=Icmp(3, 3, "zz")),)))), "evidence:3: s/tcp/192.0.2.1:443: an address that is none"),
    ("not run", swapped(ONE, to_line(Record(1, (), not_run="tired"))), "evidence:3: s/tcp/192.0.2.1:443: not run, by a technique that always can"),
    ("NaN", swapped(ONE, ONE.replace('"t":0.1', '"t":NaN')), "evidence:3: not JSON: NaN is not a JSON number"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "problem"), [row[1:] for row in LIES], ids=[row[0] for row in LIES])
def test_lies_are_told_and_never_green(lines: list[str], problem: str) -> None:
    made = read_evidence(lines, PLAN)
    assert problem in made.problems
    report = judge(PLAN, made, "leak")
    assert report.summary.exit_code == 3
    assert report.summary.conforms == 0
    assert problem in report.problems


def test_an_empty_stream() -> None:
    assert judge(PLAN, read_evidence([], PLAN)).summary.unproven == 2


def test_a_flood_is_cut_off() -> None:
    made = read_evidence(iter(["x"] * 1_000_000), PLAN)
    assert "far more than its rows need: the rest was not read" in made.problems or len(made.problems) == 20


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"result": "connected", "error": "EPERM"}, "answered and failed at once"),
    ({"result": "connected", "icmp": Icmp(3, 3, None)}, "answered and failed at once"),
    ({"result": "error"}, "failed without an error"),
    ({"result": "error", "error": "EPERM"}, "failed nowhere"),
    ({"result": "error", "error": "EPERM", "stage": "connect", "data": Data(1, "reply", "x")}, "failed and answered at once"),
    ({"result": "silent", "data": Data(1, "reply", "x")}, "silent and answered at once"),
    ({"result": "answered"}, "answered without an answer"),
    ({"result": "answered", "data": Data(0, "reply", "")}, "an answer without bytes"),
    ({"result": "answered", "data": Data(1, "reply", "x")}, "a step connect that is answered"),
    ({"result": "answered", "step": "talk", "tls": Tls(False)}, "answered without an answer"),
    ({"result": "answered", "step": "talk", "tls": Tls(True)}, "a conversation without a connection"),
    ({"result": "silent", "elapsed": -1.0}, "a time that is none"),
    ({"result": "silent", "t": 1e300}, "a time that is none"),
    ({"result": "silent", "tries": 0}, "never tried"),
    ({"result": "silent", "port": 80}, "an attempt to port 80, not to 443"),
    ({"result": "silent", "port": None}, "an attempt to no port"),
    ({"result": "silent", "source": "me"}, "an address that is none"),
    ({"result": "error", "error": "E", "stage": "receive", "icmp": Icmp(3, 3, "zz")}, "an address that is none"),
    ({"result": "error", "error": "ENETUNREACH", "stage": "connect", "routed": True}, "a route that was not looked up"),
    ({"result": "silent", "transport": UDP}, "a step connect over udp, which tcp_connect does not take here"),
    ({"result": "silent", "step": "send"}, "a step send over tcp, which tcp_connect does not take here"),
    ({"result": "silent", "step": "query"}, "a step query over tcp, which tcp_connect does not take here"),
    ({"result": "silent", "step": "resolve", "transport": UDP}, "a step resolve over udp, which tcp_connect does not take here"),
    ({"result": "error", "step": "listen", "error": "EPERM"}, "a listener that was not ordered"),
    ({"result": "silent", "step": "walk"}, "a limit on hops where none is set"),
    ({"result": "silent", "hops": 1}, "a limit on hops where none is set"),
    ({"result": "silent", "step": "walk", "hops": 256}, "a TTL that is none"),
    ({"result": "silent", "step": "walk", "least": 0}, "a TTL that is none"),
    ({"result": "error", "error": "E", "stage": "receive", "icmp": Icmp(3, 3, None, 999)}, "a TTL that is none"),
    ({"result": "silent", "tcp": TcpInfo(2, 1, 0, 1)}, "more left than was sent"),
    ({"result": "silent", "tcp": TcpInfo(2, 1, -1, -1)}, "a count below zero"),
    ({"result": "silent", "step": "twin", "transport": UDP, "tcp": TcpInfo(2, 1, 0, 0)}, "TCP_INFO of another protocol"),
    ({"result": "silent", "counters": Counters(-1, 0)}, "a counter that ran backwards"),
    ({"result": "silent", "step": "twin"}, "a step twin over tcp, which tcp_connect does not take here"),
    ({"result": "connected", "late": (DnsAnswer("x", "A", "NOERROR", True, False),)}, "a second answer without a first"),
    ({"result": "answered", "step": "talk", "data": Data(9, "reply", "x", receipt="v1,tcp,10.0.0.1,1,aaaaaaaaaaaaaaaaaaaaaaaaaa")}, "a receipt that is longer than what was read"),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "words"), CONTRADICTIONS)
def test_contradictions(facts: dict[str, Any], words: str) -> None:
    assert contradicts(check(), Record(1, (attempt(**facts),))) == words


def test_not_run_hides_nothing() -> None:
    words = "not run, by a technique that always can"
    assert contradicts(check(), Record(1, (), not_run="no raw socket")) == words
    assert contradicts(check(), Record(1, (attempt("connected"),), not_run="no raw socket")) == words


def test_one_address_has_one_result() -> None:
    made = (attempt(), attempt("error", stage="connect", error="ENETUNREACH"))
    assert contradicts(check(), Record(1, made)) == "the same attempt twice"
    assert contradicts(check(), Record(1, (attempt(), attempt("connected", again=True)))) is None
    closing = (attempt("connected"), attempt("answered", step="talk", data=Data(1, "reply", "x"), again=True))
    assert contradicts(check(), Record(1, closing)) == "a conversation without a connection"


def test_what_fits_does_not_contradict() -> None:
    made = (attempt("connected"), attempt("answered", step="talk", data=Data(1, "reply", "x")))
    assert contradicts(check(), Record(1, made)) is None
    resolved = (attempt("silent", "10.0.0.1", 53, step="resolve", transport=UDP), attempt("connected", "203.0.113.9"))
    assert contradicts(check(None, host="x"), Record(1, resolved)) is None


def test_an_answer_to_another_question() -> None:
    asked = check(None, 53, host="system-resolver", technique="dns_query", query=Query("{token}.x.example", "TXT"))

    def answered(name: str, kind: str = "TXT") -> str | None:
        dns = DnsAnswer(name, kind, "NOERROR", True, False)
        return contradicts(
            asked, Record(1, (attempt("answered", "10.0.0.1", 53, step="query", dns=dns, transport=UDP),))
        )

    assert answered("abc.x.example") is None
    assert answered("abc.y.example") == answered("abc.x.example", "A") == "an answer to another question"


def asking(name: str, technique: str = "dns_query", **more: Any) -> Check:
    query = Query(name, "TXT", DnsResolver.EXPLICIT, **more)
    return check("203.0.113.53", 53, technique=technique, channel=Channel.DNS, query=query)


def query_attempt(**facts: Any) -> Attempt:
    base = {"step": "query", "transport": UDP, "result": "silent"}
    return attempt(**{**base, "address": "203.0.113.53", "port": 53, **facts})


def told(name: str, *records: str, rcode: str = "NOERROR", kind: str = "TXT") -> DnsAnswer:
    return DnsAnswer(name, kind, rcode, True, False, records)


@pytest.mark.parametrize(
    ("asked", "name", "fits"),
    [
        ("{token}.x.example", "abc.x.example", True),
        ("{token}.x.example.", "ABC.X.Example", True),
        ("{token}.x.example", "x.example", False),
        ("{chunks}.{token}.x.example", "aa.bb.abc.x.example", True),
        ("{token}.{chunks}.x.example", "abc.aa.bb.y.example", False),
        ("a.{token}.x.example", "a.abc.x.example", True),
        ("version.bind", "version.bind", True),
        ("version.bind", "not.version.bind", False),
        ("{token}", "anything", True),
    ],
)
def test_the_name_of_an_answer(asked: str, name: str, fits: bool) -> None:
    made = query_attempt(result="answered", dns=told(name))
    words = None if fits else "an answer to another question"
    assert contradicts(asking(asked), Record(1, (made,))) == words


def test_a_limit_on_hops_is_the_questions_own() -> None:
    near, plain = asking("x.example", hops=1), asking("x.example")
    over_tcp = asking("x.example", hops=1, transport=Transport.TCP)
    for row, facts, words in (
        (near, {"hops": 1}, None),
        (near, {}, "a question without its limit on hops"),
        (near, {"hops": 2}, "a question without its limit on hops"),
        (plain, {"hops": 1}, "a limit on hops where none is set"),
        (plain, {"least": 255}, "a limit on hops where none is set"),
        (over_tcp, {"transport": Transport.TCP}, None),
        (over_tcp, {"transport": Transport.TCP, "hops": 1}, "a limit on hops where none is set"),
    ):
        assert contradicts(row, Record(1, (query_attempt(**facts),))) == words


@pytest.mark.parametrize(
    ("late", "words"),
    [
        ((told("x.example", '"b"'),), None),
        ((told("x.example", rcode="NXDOMAIN"), told("x.example", '"b"'), told("x.example", '"c"')), None),
        ((told("x.example", '"a"'),), "a second answer that says the same"),
        ((told("x.example", '"b"'), told("x.example", '"b"')), "a second answer that says the same"),
        ((told("y.example", '"b"'),), "a second answer to another question"),
        ((told("x.example", "192.0.2.1", kind="A"),), "a second answer to another question"),
        (tuple(told("x.example", f'"{n}"') for n in range(5)), "more second answers than are listened for"),
    ],
)
def test_second_answers(late: tuple[DnsAnswer, ...], words: str | None) -> None:
    made = query_attempt(result="answered", dns=told("x.example", '"a"'), late=late)
    assert contradicts(asking("x.example"), Record(1, (made,))) == words


def test_second_answers_come_by_datagram() -> None:
    facts = {
        "transport": Transport.TCP,
        "result": "answered",
        "dns": told("x.example"),
        "late": (told("x.example", "b"),),
    }
    row = asking("x.example", transport=Transport.TCP)
    assert contradicts(row, Record(1, (query_attempt(**facts),))) == "a second answer without a first"


@pytest.mark.parametrize("technique", ["dns_over_tls", "dns_over_https"])
def test_dns_inside_tls(technique: str) -> None:
    row = asking("{token}.x.example", technique, transport=Transport.TCP)
    connect = query_attempt(step="connect", result="connected", transport=Transport.TCP)
    answered = query_attempt(result="answered", transport=Transport.TCP, tls=Tls(True), dns=told("a.x.example"))
    assert contradicts(row, Record(1, (connect, answered))) is None
    assert contradicts(row, Record(1, (answered,))) == "a conversation without a connection"
    over_udp = query_attempt(result="answered", dns=told("a.x.example"))
    assert (
        contradicts(row, Record(1, (connect, over_udp)))
        == f"a step query over udp, which {technique} does not take here"
    )
    assert contradicts(row, Record(1, (), not_run="tired")) == "not run, by a technique that always can"


def test_through_a_proxy_the_place_is_the_insides_own() -> None:
    there = Destination("{token}.x.example", None, 443, Via.PROXY)
    row = check(technique="proxy_connect", channel=Channel.PROXY, destination=there)
    connect = attempt("connected", "127.0.0.1", 3128)
    said = attempt("answered", "127.0.0.1", 3128, step="talk", data=Data(20, "reply", "x", http_status=200))
    assert contradicts(row, Record(1, (connect, said, said))) is None
    assert contradicts(row, Record(1, (), not_run="no proxy is configured here")) is None
    assert contradicts(row, Record(1, (said,))) == "a conversation without a connection"
    assert contradicts(row, Record(1, (attempt("connected", "127.0.0.1", None),))) == "an attempt to no port"
    assert contradicts(row, Record(1, (attempt(step="query", transport=UDP),))) is not None
    direct = check(None, 443, technique="proxy_connect", host="{token}.x.example")
    assert contradicts(direct, Record(1, (connect,))) == "an attempt to port 3128, not to 443"


# --- stored files ---


def strict(lines: list[str]) -> Any:
    return read_evidence(lines, PLAN, "e.jsonl")


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (without(END), "e.jsonl: truncated: no end record in 4 lines"),
        ([], "e.jsonl: truncated: no start record in 0 lines"),
        ([START, ONE[:20]], "e.jsonl:2: not JSON: Unterminated string starting at (column 12)"),
        ([START, "\x00\x01"], "e.jsonl:2: not JSON: Expecting value (column 1)"),
    ],
)
def test_a_damaged_file_is_the_users_mistake(lines: list[str], line: str) -> None:
    with pytest.raises(UserError) as caught:
        strict(lines)
    assert str(caught.value) == line


def test_a_whole_file_is_read() -> None:
    assert strict(GOOD).problems == ()


# --- anything at all ---


def mutate(line: str) -> st.SearchStrategy[str]:
    return st.builds(
        lambda at, text: line[: at % (len(line) + 1)] + text + line[at % (len(line) + 1) :],
        st.integers(0),
        st.text(max_size=5),
    )


hostile: Callable[[], st.SearchStrategy[list[str]]] = lambda: st.lists(  # noqa: E731
    st.one_of(st.text(max_size=40), st.sampled_from(GOOD), *(mutate(line) for line in GOOD)), max_size=8
)


@given(hostile())
def test_no_lines_give_a_traceback(lines: list[str]) -> None:
    report = judge(PLAN, read_evidence(lines, PLAN))
    json.dumps(to_line(report))
    if report.summary.exit_code == 0:
        records = {item for item in lines if '"kind":"record"' in item}
        assert len(records) >= 2


def test_the_plan_of_no_rows() -> None:
    empty: Plan = plan()
    assert judge(empty, read_evidence([START, to_line(End(0, True, 0.0))], empty)).summary.exit_code == 3

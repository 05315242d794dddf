"""Reports to show, and a real Chromium to show them in. No test lives here."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, Literal, get_args, get_origin, get_type_hints

from probe.alert import LETTERS, Canary, Change, RunPoint
from probe.documents import Arrival, Attempt, Calibration, Data, DnsAnswer, Icmp, RawAnswer, Tls, Vantage
from probe.model import (
    Action,
    Channel,
    Declared,
    Destination,
    EnforcerKind,
    Grade,
    Mode,
    Outcome,
    Purpose,
    Query,
    Severity,
    Source,
    Transport,
    Verdict,
)
from probe.report import (
    BaselineFinding,
    Enforcer,
    FarEndSeen,
    Observed,
    PolicySummary,
    Report,
    Result,
    RunInfo,
    Summary,
    Tool,
)

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
)  # fmt: skip
K, O, V = EnforcerKind, Outcome, Verdict  # noqa: E741 - rows are read by column


def chromium() -> str | None:
    """Debian's."""
    return shutil.which("chromium")


@contextmanager
def browser(executable: str) -> Iterator[Any]:
    """A Chromium of its own, with a profile of its own."""
    from playwright.sync_api import sync_playwright  # here: who has no Chromium needs none of it

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        try:
            yield started
        finally:
            started.close()


# --- rows -------------------------------------------------------------------------------------------------------------


def row(
    n: int,
    verdict: Verdict,
    outcome: Outcome,
    who: Enforcer | None = None,
    action: str = "deny",
    attempts: tuple[Attempt, ...] = (),
    **more: Any,
) -> Result:
    """One row over TCP to a documentation address."""
    destination = more.pop("destination", Destination(None, f"192.0.2.{n}", 443))
    base = Result(
        id=f"s/tcp/{destination}",
        scenario="s",
        technique="tcp_connect",
        channel=Channel.TCP,
        destination=destination,
        purpose=Purpose.POLICY,
        declared=Declared(Action(action), f'p.toml: default = "{action}"', "p.toml", 3),
        observed=Observed(outcome, None, who, attempts),
        verdict=verdict,
        grade=Grade.PROVEN if verdict in (V.LEAK, V.CONFORMS, V.OVERBLOCKED) else None,
        why=f"{destination} was {outcome.value}.",
    )
    return replace(base, **more)


def walked(*hops: tuple[int, str]) -> tuple[Attempt, ...]:
    """A silent connect, and the routers that said that the hop limit was reached."""
    first = Attempt(0.1, 1.2, "connect", "silent", address="192.0.2.1", port=443)
    return first, *(
        Attempt(1.4 + hop / 10, 0.001, "walk", "error", address="192.0.2.1", port=443, stage="receive",
                error="EHOSTUNREACH", icmp=Icmp(11, 0, router, 64), hops=hop)
        for hop, router in hops
    )  # fmt: skip


def made(*rows: Result, **more: Any) -> Report:
    """A report of these rows."""
    count = {verdict.value: sum(one.verdict is verdict for one in rows) for verdict in Verdict}
    base = Report(
        schema="egress-probe.report/1",
        evidence="self-reported",
        complete=True,
        run=RunInfo(
            id="01J00000000000000000000000",
            probe_type="egress_path_validation",
            started="2026-01-02T03:04:05.000Z",
            finished="2026-01-02T03:04:09.500Z",
            tool=Tool("egress-probe", "0.1.0"),
            vantage=Vantage("/usr/bin/python3", 1000, ("net_raw",), ("lo", "eth0"), routes=("default via 10.0.0.1",)),
            calibration=Calibration(1.25, 18, 0, 3, 0.0008),
        ),
        policy=PolicySummary((Source("p.toml", "native", Mode.ENFORCE),), Action.DENY, ()),
        baseline=(),
        results=rows,
        summary=Summary(**count, exit_code=1 if count["leak"] else 0),
    )
    return replace(base, **more)


def everything() -> Report:
    """A report with something in every part of the page."""
    six = {"destination": Destination(None, "2001:db8::1", 443)}
    rows = (
        row(1, V.LEAK, O.REACHED, Enforcer(K.PEER), attempts=_conversation(), **six),
        row(2, V.OVERBLOCKED, O.REJECTED, Enforcer(K.ROUTER, "10.0.0.1", 1, "router rejects"), "allow"),
        row(3, V.UNPROVEN, O.ACCEPTED, channel=Channel.DNS, query=Query("{token}.example", "TXT")),
        row(4, V.UNPROVEN, O.INTERCEPTED, Enforcer(K.MIDDLEBOX, None, 1)),
        row(5, V.UNPROVEN, O.BROKEN),
        row(6, V.UNDECLARED, O.NAME_DENIED, Enforcer(K.RESOLVER), "undeclared"),
        row(7, V.NOT_RUN, O.NOT_RUN, technique="raw_syn"),
        row(8, V.CONFORMS, O.DENIED, Enforcer(K.LOCAL_FIREWALL, None, 0, "local firewall on send")),
        row(9, V.CONFORMS, O.SILENT, Enforcer(K.UNKNOWN, "10.0.0.1", 1), attempts=walked((1, "10.0.0.1"))),
        row(10, V.CONFORMS, O.SILENT, purpose=Purpose.WITNESS),
        row(11, V.CONFORMS, O.REACHED, Enforcer(K.PEER), "allow", purpose=Purpose.CONTROL),
        row(12, V.CONFORMS, O.INTERCEPTED, Enforcer(K.MIDDLEBOX), "allow"),
    )
    rows = tuple(replace(one, id=f"s/{n}/{one.id}") for n, one in enumerate(rows))
    finding = BaselineFinding(
        "CHK-NET-009", Severity.CRITICAL, "Nothing restricts what leaves", "Data can leave unseen.", "nft: nothing",
        "Add a rule.", "nft add table inet filter", "contradicted", (rows[0].id, rows[1].id, "gone"),
    )  # fmt: skip
    return made(*rows, baseline=(finding,), notes=("A note.",), problems=("A line was twice.",), canary=canary(rows))


def canary(rows: tuple[Result, ...], runs: int = 5) -> Canary:
    """A schedule in which what leaks now held before."""
    points = tuple(RunPoint(f"RUN{n}", f"2026-01-02T{n % 24:02d}:00:00.000Z", 0) for n in range(runs))
    timeline = {
        one.id: (LETTERS[V.CONFORMS] if one.verdict is V.LEAK else LETTERS[one.verdict]) * (runs - 1)
        + LETTERS[one.verdict]
        for one in rows
    }
    changes = (
        Change("proven", "It is proven again.", (rows[-1].id,)),
        Change("leak", "It got out.", (rows[0].id, "gone"), "conforms", "leak", ("2001:db8::/32",)),
    )
    return Canary("nightly", points[0], {}, changes, points, {**timeline, "gone": "." * (runs - 1) + "c"})


def _conversation() -> tuple[Attempt, ...]:
    to: dict[str, Any] = {"address": "2001:db8::1", "port": 443}
    return (
        Attempt(0.1, 0.002, "connect", "connected", **to),
        Attempt(0.2, 0.3, "talk", "answered", data=Data(87, "reply", "HTTP/1.1 200 OK", 200), tls=Tls(True, "TLSv1.3"), **to),
        Attempt(0.3, 0.1, "walk", "error", icmp=Icmp(3, 0, "fd00::1", 64), hops=1, stage="receive", error="EHOSTUNREACH", **to),
        Attempt(0.4, 0.1, "walk", "silent", least=65, **to),
        Attempt(0.5, 0.1, "twin", "silent", Transport.UDP, **to),
        Attempt(0.6, 0.1, "query", "answered", dns=DnsAnswer("a.example", "TXT", "NOERROR", True, False, ("x",) * 5), **to),
        Attempt(0.7, 0.1, "raw", "answered", raw=(RawAnswer("rst", "2001:db8::1", 60, 0.01),), **to),
    )  # fmt: skip


def far_end(arrived: bool) -> FarEndSeen:
    """What a collector got."""
    came = (Arrival(1, 1.0, "dns", "udp", "198.51.100.1", 5353, 53, "A", "abc.example"),)
    return FarEndSeen(arrived, "receipt" if arrived else "none", came if arrived else ())


# --- text in every field ----------------------------------------------------------------------------------------------


def with_text(value: Any, change: Callable[[str], str], hint: Any = None) -> Any:
    """`value` with every free text in it changed: none that has a closed vocabulary."""
    if is_dataclass(value):
        hints = get_type_hints(type(value))
        changed = {f.name: with_text(getattr(value, f.name), change, hints[f.name]) for f in fields(value)}
        return replace(value, **changed)  # type: ignore[type-var]
    if isinstance(value, tuple):
        return tuple(with_text(one, change) for one in value)
    if isinstance(value, dict):
        return {change(key): with_text(one, change) if isinstance(one, Enum) else one for key, one in value.items()}
    return change(value) if type(value) is str and not _closed(hint) else value


def _closed(hint: Any) -> bool:
    return get_origin(hint) is Literal or any(_closed(one) for one in get_args(hint))

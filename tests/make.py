"""Small values for tests: a check, an attempt, a plan, evidence; and the command line in process."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from probe.cli import main
from probe.documents import (
    Attempt,
    Budget,
    Check,
    End,
    Evidence,
    Plan,
    Record,
    Settings,
    Start,
    Vantage,
)
from probe.model import Action, Channel, Declared, Destination, Purpose, Transport

VANTAGE = Vantage("/usr/bin/python3", 1000, on_link=("10.99.0.0/24", "fd99::/64"))
RUN_ID = "01J00000000000000000000000"


def check(
    address: str | None = "192.0.2.1", port: int | None = 443, n: int = 1, action: str = "deny", **more: Any
) -> Check:
    """A TCP row under a deny, unless said otherwise."""
    destination = Destination(more.pop("host", None), address, port)
    base = Check(
        n=n,
        id=more.pop("id", f"s/tcp/{destination}"),
        scenario="s",
        technique="tcp_connect",
        channel=Channel.TCP,
        destination=destination,
        purpose=Purpose.POLICY,
        declared=Declared(Action(action), f"p.toml: {action}"),
        sends="SYN",
        packets=10,
    )
    return replace(base, **more)


def attempt(result: str = "silent", address: str | None = "192.0.2.1", port: int | None = 443, **more: Any) -> Attempt:
    """A connect attempt."""
    base = Attempt(0.1, 0.2, "connect", result, address=address, port=port, source="10.99.0.2")  # type: ignore[arg-type]
    return replace(base, **more)


def plan(*checks: Check, **more: Any) -> Plan:
    """A plan of `checks`."""
    base = Plan(
        schema="egress-probe.plan/1",
        run_id=RUN_ID,
        created="2026-01-02T03:04:05.000Z",
        policies=(),
        baseline=(),
        settings=Settings(),
        budget=Budget(100, 10.0),
        checks=checks,
    )
    return replace(base, **more)


def evidence(*records: Record, **more: Any) -> Evidence:
    """Complete evidence with `records`, each of another check."""
    assert len({record.check for record in records}) == len(records)
    base = Evidence(
        start=Start("egress-probe.evidence/1", RUN_ID, VANTAGE),
        records={record.check: record for record in records},
        end=End(len(records), True, 3.5),
    )
    return replace(base, **more)


@dataclass(frozen=True)
class Ran:
    """What a command line did."""

    status: int
    out: str
    err: str


def command(capfd: pytest.CaptureFixture[str], *arguments: object) -> Ran:
    """`egress-probe ARGUMENTS…` in this process."""
    capfd.readouterr()
    status = main([str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    return Ran(status, out, err)


UDP = Transport.UDP

"""The controller's side of the collector: its URL, its patience, and what it says of an API that fails."""

import json
import os
import re
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from probe import receipts
from probe.documents import Arrival, Arrivals, Collector
from probe.errors import UserError
from probe.farclient import Address, Client, UnreachableError, parse_url, wait_and_read
from probe.tokens import token
from tests.collector.process import Running, running
from tests.make import command

PIN = "ab" * 32
WHOLE = f"https://203.0.113.53:8443/?zone=Exfil.test&address=203.0.113.53&address=2001:DB8:53::53&tcp=53,443&udp=53#sha256={PIN}"


def test_the_url_tells_all_that_planning_needs() -> None:
    address, collector = parse_url(WHOLE)
    assert address == Address("203.0.113.53", 8443, PIN)
    assert collector == Collector(
        "https://203.0.113.53:8443", "exfil.test", ("203.0.113.53", "2001:db8:53::53"), (53, 443), (53,)
    )


def test_a_short_url_tells_where_to_ask() -> None:
    assert parse_url("https://c.exfil.test") == (Address("c.exfil.test", 8443, None), None)
    assert parse_url("https://203.0.113.9/?zone=x.test")[1] == Collector(
        "https://203.0.113.9", "x.test", ("203.0.113.9",)
    )


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://x.test", "expected https://HOST:PORT/?zone=…"),
        ("203.0.113.9:8443", "expected https://HOST:PORT/?zone=…"),
        ("https://u:p@x.test", "expected https://HOST:PORT/?zone=…"),
        ("https://x.test:99999", "Port out of range"),
        ("https://x.test:0", "expected https://HOST:PORT/?zone=…"),
        ("https://a b:9443/?zone=x.test&address=1.2.3.4", "expected https://HOST:PORT/?zone=…"),
        ("https://x.test/?zone=x&colour=red", "unknown key 'colour' (known: zone, address, tcp, udp)"),
        ("https://x.test/?zone=*.x.test", "name the zone itself"),
        ("https://x.test/?zone=", "is not a domain name"),
        ("https://x.test/?zone=x.test", "'x.test' does not appear to be an IPv4 or IPv6 address (a name is resolved by nobody"),
        ("https://x.test/?zone=x.test&address=1.2.3.4&address=1.2.3.5", "two of one IP version"),
        ("https://x.test/?zone=x.test&address=1.2.3.4&tcp=0", "expected ports such as 53,80,443"),
        ("https://x.test/?zone=x.test&address=1.2.3.4&udp=http", "expected ports such as 53,80,443"),
        (f"https://x.test/?zone=x.test&address=1.2.3.4&udp={','.join(map(str, range(1, 40)))}", "more than 32 ports"),
        ("https://x.test#sha256=ab", "expected #sha256= and 64 hexadecimal digits"),
    ],
)  # fmt: skip
def test_mistakes_in_urls(url: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_url(url)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


class Told(Client):
    """A collector that says what it is told to, one answer a time; the last one again and again."""

    def __init__(self, *answers: Arrivals | str) -> None:
        super().__init__(Address("x.test", 1, None), "t")
        self.answers = list(answers)
        self.asked = 0

    def arrivals(self) -> Arrivals:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, str):
            raise UnreachableError(answer)
        return answer


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def said(*checks: int) -> Arrivals:
    one = Arrival(0, 1.0, "tcp", "tcp", "10.98.0.1", 4000, 443)
    return Arrivals("r", tuple(replace(one, check=n) for n in checks))


def test_it_waits_for_late_arrivals_and_no_longer_than_the_grace() -> None:
    clock = Clock()
    far = wait_and_read(Told(said(1), said(1), said(1, 2)), b"k", 5.0, clock, clock.sleep)
    assert (clock.now, len(far.said.arrivals), far.problem) == (5.0, 2, None)


def test_an_api_that_is_gone_is_told_and_what_arrived_before_is_kept() -> None:
    clock = Clock()
    far = wait_and_read(Told(said(1), "it cannot be asked from here (timed out)"), b"k", 1.0, clock, clock.sleep)
    assert far.problem == "it cannot be asked from here (timed out)"
    assert len(far.said.arrivals) == 1


# --- against the real collector ---

RUN = "01J0000000000000000000000A"


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("state") / "collector") as found:
        yield found


def client(found: Running, bearer: str | None = None, url: str | None = None) -> tuple[Client, Collector]:
    address, told = parse_url(url or found.url)
    assert told is not None
    return Client(address, bearer or found.bearer), told


def test_a_token_that_is_sent_is_read_back(collector: Running) -> None:
    ours, told = client(collector)
    ours.register(RUN, b"k" * 32, 60, told)
    assert ours.info() == told
    nonce = token(RUN, 7, b"k" * 32)
    with socket.create_connection(("127.0.0.1", 4444), timeout=10) as sock:
        sock.sendall(nonce.encode() + b"\n")
        sent = receipts.find(sock.recv(500))
    assert sent is not None
    assert receipts.is_valid(sent, b"k" * 32, nonce)
    far = wait_and_read(ours, b"k" * 32, 0.5)
    assert [(one.check, one.channel, one.at) for one in far.said.arrivals] == [(7, "tcp", 4444)]
    assert far.problem is None


def test_a_run_that_is_known_with_another_key(collector: Running) -> None:
    ours, _ = client(collector)
    ours.register("01J0000000000000000000000B", b"a" * 32, 60)
    with pytest.raises(UserError, match="it knows this run with another key"):
        client(collector)[0].register("01J0000000000000000000000B", b"b" * 32, 60)


@pytest.mark.parametrize(
    ("bearer", "change", "line"),
    [
        ("wrong", ("", ""), "it refuses the bearer token"),
        (None, ("#sha256=", "#sha256=" + "0" * 64 + "&"), "64 hexadecimal digits"),
        (None, (":8443", ":8444"), "it cannot be asked from here (Connection refused)"),
        (None, ("tcp=", "tcp=9999,"), "are not those of the URL: take the new one"),
        (None, ("zone=exfil", "zone=other"), "are not those of the URL: take the new one"),
    ],
)
def test_what_is_wrong_is_one_line(collector: Running, bearer: str | None, change: tuple[str, str], line: str) -> None:
    def register() -> None:
        ours, told = client(collector, bearer, collector.url.replace(*change, 1) if change[0] else None)
        ours.register("01J0000000000000000000000C", b"k" * 32, 60, told)

    with pytest.raises(UserError) as caught:
        register()
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_certificate_is_somebody_in_between(collector: Running) -> None:
    url = re.sub("sha256=.*", "sha256=" + "ab" * 32, collector.url)
    with pytest.raises(UserError, match="somebody stands in between"):
        client(collector, url=url)[0].info()


def test_without_a_pin_the_systems_trust_decides(collector: Running) -> None:
    with pytest.raises(UserError, match=r"certificate: .*; give its #sha256="):
        client(collector, url=collector.url.partition("#")[0])[0].info()


# --- on the command line ---


def test_what_the_collector_saw_is_kept_and_judged_again(
    collector: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EGRESS_PROBE_COLLECTOR_TOKEN", collector.bearer)
    policy = tmp_path / "p.toml"
    policy.write_text('default = "deny"\n[dns]\npolicy = "none"\n')
    plan, evidence, arrivals = (str(tmp_path / name) for name in ("plan.json", "evidence.jsonl", "arrivals.json"))
    common = (
        "--policy",
        policy,
        "--scenario",
        "far-end",
        "--collector",
        collector.url,
        "--no-walk",
        "--deadline",
        "0.3",
    )
    ran = command(capfd, "run", *common, "--format", "json", "--plan-out", plan, "--evidence-out", evidence,
                  "--arrivals-out", arrivals)  # fmt: skip
    assert ran.status == 1, ran.err
    report = json.loads(ran.out)
    assert report["evidence"] == "far-end"
    arrived = [
        row for row in report["results"] if row["observed"].get("far_end", {}) and row["observed"]["far_end"]["arrived"]
    ]
    assert {row["channel"] for row in arrived} == {"tcp", "udp"}
    assert {(row["verdict"], row["why"].partition(":")[0]) for row in arrived} == {("leak", "A round trip")}
    assert stat.S_IMODE(os.stat(arrivals).st_mode) == 0o600
    again = command(capfd, "judge", plan, evidence, "--arrivals", arrivals, "--format", "json")
    assert json.loads(again.out) == report
    without = json.loads(command(capfd, "judge", plan, evidence, "--format", "json").out)
    assert without["evidence"] == "self-reported"
    other = tmp_path / "other.json"
    other.write_text(Path(arrivals).read_text().replace(report["run"]["id"], "01J0000000000000000000000Z"))
    told = command(capfd, "judge", plan, evidence, "--arrivals", other)
    assert (told.status, "not of the plan's" in told.err or "not the plan's" in told.err) == (2, True)
    _mistakes_in_arrivals(capfd, Path(plan), evidence, Path(arrivals), other)


def _mistakes_in_arrivals(
    capfd: pytest.CaptureFixture[str], plan: Path, evidence: str, arrivals: Path, other: Path
) -> None:
    good = json.loads(arrivals.read_text())
    first = good["said"]["arrivals"][0]
    for change, line in (
        ({"key": ""}, "key: expected 16 to 64 bytes as hexadecimal digits"),
        (
            {"said": {**good["said"], "arrivals": [{**first, "source": "foo"}]}},
            "source: expected an address, got 'foo'",
        ),
        (
            {"said": {**good["said"], "half_open": [{"time": 1.0, "source": "\n", "port": 1, "at": 1}]}},
            "source: expected",
        ),
    ):
        other.write_text(json.dumps({**good, **change}))
        told = command(capfd, "judge", str(plan), evidence, "--arrivals", str(other))
        assert (told.status, line in told.err, told.err.count("\n")) == (2, True, 1), told.err
    alone = json.loads(plan.read_text())
    del alone["collector"]
    other.write_text(json.dumps(alone))
    told = command(capfd, "judge", str(other), evidence, "--arrivals", str(arrivals))
    assert (told.status, "its plan has no collector" in told.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("run", "--collector", WHOLE), "its bearer token is needed"),
        (("run", "--collector", "http://x"), "expected https://HOST:PORT"),
        (("run", "--arrivals-out", "x.json"), "there is no --collector"),
        (("plan", "--collector", "https://c.exfil.test"), "tells no zone, and `plan` asks nobody"),
        (("run", "--collector", WHOLE, "--collector-token-file", "/nonexistent"), "no such file"),
        (
            ("run", "--collector", WHOLE, "--collector-token-file", "two-lines"),
            "two-lines: expected one line, the bearer",
        ),
        (
            ("plan", "--policy", "p.toml", "--resolver", "dns.test"),
            "--resolver dns.test: expected an IPv4 or IPv6 address",
        ),
        (("plan", "--policy", "p.toml", "--resolver", "224.0.0.1"), "--resolver 224.0.0.1: a multicast"),
    ],
)
def test_mistakes_on_the_command_line(
    options: tuple[str, ...],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("EGRESS_PROBE_COLLECTOR_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("two-lines").write_text("secret-1\nsecret-2\n")
    Path("p.toml").write_text('default = "deny"\n')
    ran = command(capfd, *options)
    assert ran.status == 2
    assert line in ran.err
    assert "secret" not in ran.err
    assert ran.err.count("\n") == 1


def test_plan_lists_what_goes_to_the_collector_and_asks_nobody(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "p.toml"
    policy.write_text('default = "deny"\n')
    ran = command(capfd, "plan", "--policy", policy, "--collector", WHOLE, "--scenario", "dns-query-types")
    assert ran.status == 0
    assert "203.0.113.53:443" in ran.out
    assert "DNS NULL {token}.exfil.test" in " ".join(ran.out.split())

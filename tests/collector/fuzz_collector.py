"""A long fuzz of all that reads a stranger's bytes: `python -m tests.collector.fuzz_collector MINUTES`. Not run by pytest.

Half of the time hypothesis changes real messages; the other half atheris (coverage-guided) does, where it is installed.
A target raises for whatever must not happen; the first that does ends the run with exit code 1.
"""

import importlib.util
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import dns.message
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from probe import receipts, tokens
from probe.collector import dnswire, hello, names, web
from probe.collector.datagrams import Datagram, take
from probe.collector.desk import Desk
from probe.collector.sniff import sniff
from probe.collector.store import Store

RUN = tokens.new_run_id(1_790_000_000_000, b"0123456789")
KEY = b"k" * 32
TOKEN = tokens.token(RUN, 7, KEY)
ZONE = names.make_zone("exfil.example", ("203.0.113.53", "2001:db8:53::53"))
_EXAMPLES = 5000  # of one round of one target
_folder = tempfile.TemporaryDirectory()
# A clock that goes on: with one that stands still, strangers would soon not be answered any more.
DESK = Desk(Store(Path(_folder.name) / "a"), time.time)
DESK.register(RUN, KEY, 86_400)


def fuzz_dns(data: bytes) -> None:
    """Every answer parses, is as small as asked for, and is no question itself."""
    for over in ("udp", "tcp"):
        question = names.read(data, ZONE, DESK.recognise, "203.0.113.7", 40312, 53, over, 100.0)
        if question is None:
            assert len(data) < 12 or data[2] & 0x80
            continue
        answer = names.reply(question)
        assert len(answer) <= dnswire.room(question.query, over == "udp")
        assert dns.message.from_wire(answer).id == int.from_bytes(data[:2], "big")
        assert names.read(answer, ZONE, DESK.recognise, "203.0.113.7", 40312, 53, over, 100.0) is None


def fuzz_datagram(data: bytes) -> None:
    """What holds a whole token is an arrival, on a port with DNS and on one without."""
    for zone in (ZONE, None):
        answer = take(Datagram(data, ("203.0.113.7", 40312), []), 53, DESK, zone, 100.0)
        if TOKEN.encode() in data.lower() and data.count(b"-") == 2:
            assert answer is not None
            assert answer.known is not None
        if answer is not None and answer.text is not None:
            made = answer.text()
            assert receipts.find(made) or dns.message.from_wire(made)


def fuzz_hello(data: bytes) -> None:
    """A hello's name is plain text, and what is missing is missing."""
    found, lacking = hello.parse(data), hello.missing(data)
    hello.looks_like(data)
    assert lacking >= 0
    assert found is None or lacking == 0
    assert found is None or found.name is None or found.name.isascii()


def fuzz_web(data: bytes) -> None:
    """A request read in two pieces is the request read in one."""
    whole, pieces = web.Reading(), web.Reading()
    if data:  # nothing would be the end
        whole.feed(data)
    for piece in filter(None, (data[: len(data) // 2], data[len(data) // 2 :])):
        pieces.feed(piece)
    assert (whole.request, whole.done, whole.broken) == (pieces.request, pieces.done, pieces.broken)
    assert whole.broken or whole.body == pieces.body
    web.may_be(data)
    if whole.request is not None and (message := web.dns_question(whole.request, bytes(whole.body))) is not None:
        fuzz_dns(message)


def fuzz_sniff(data: bytes) -> None:
    """What it settled on, more bytes do not change."""
    for on_dns in (True, False):
        for length in range(min(len(data), 24)):
            early = sniff(data[:length], on_dns)
            assert early is None or early == sniff(data, on_dns)


def _hellos() -> list[bytes]:
    # What a real client says, with a name and without.
    made = []
    for name in (f"{TOKEN}.at.exfil.example", None):
        context, out = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.MemoryBIO()
        context.check_hostname = False
        context.set_alpn_protocols(["dot", "h2"])
        with suppress(ssl.SSLWantReadError):
            context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
        made.append(out.read())
    return made


_QUERY = dns.message.make_query(f"{TOKEN}.exfil.example", "TXT", use_edns=0, id=1).to_wire()
_ZONE_QUERY = dns.message.make_query("at.exfil.example", "AAAA", id=1).to_wire()
_POST = b"POST /dns-query HTTP/1.1\r\nHost: a\r\nContent-Type: application/dns-message\r\nContent-Length: %d\r\n\r\n%b"
_GET = f"GET /dns-query?dns={'AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB'} HTTP/1.1\r\nHost: {TOKEN}\r\n\r\n".encode()
_CHUNKED = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
_MESSAGES = [_QUERY, _ZONE_QUERY, TOKEN.encode(), b"\0" * 40]

# Each target, and the real messages that are changed for it.
TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "dns": (fuzz_dns, _MESSAGES),
    "datagram": (fuzz_datagram, _MESSAGES),
    "hello": (fuzz_hello, _hellos()),
    "web": (fuzz_web, [_POST % (len(_QUERY), _QUERY), _GET, _CHUNKED]),
    "sniff": (fuzz_sniff, [_QUERY, len(_QUERY).to_bytes(2, "big") + _QUERY, _GET, *_hellos()]),
}


@st.composite
def changed(draw: st.DrawFn, samples: list[bytes]) -> bytes:
    """One of `samples` with some places overwritten, taken out or added to; or any bytes at all."""
    data = draw(st.sampled_from(samples) | st.binary(max_size=300))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.integers(0, 1) | st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=4) | st.sampled_from(samples)) + data[at + gone :]
    return data


def by_hypothesis(seconds: float) -> Counter[str]:
    """Rounds over all targets, each with a seed of its own, until the time is up. Examples by target."""
    done: Counter[str] = Counter()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for name, (target, samples) in TARGETS.items():
            done[name] += _round(target, samples, until)
    return done


def _round(target: Callable[[bytes], None], samples: list[bytes], until: float) -> int:
    done = 0

    @seed(time.time_ns())
    @settings(max_examples=_EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(changed(samples))
    def fuzz(data: bytes) -> None:
        nonlocal done
        if time.monotonic() < until:
            done += 1
            target(data)

    fuzz()
    return done


def by_atheris(seconds: int) -> None:
    """Ends the process. The first byte of an input chooses the target."""
    import atheris  # optional

    atheris.instrument_all()  # type: ignore[attr-defined] # it ships no types
    targets = [target for target, _ in TARGETS.values()]

    def one(data: bytes) -> None:
        if data:
            targets[data[0] % len(targets)](data[1:])

    with tempfile.TemporaryDirectory() as corpus:
        samples = [bytes([n]) + sample for n, (_, some) in enumerate(TARGETS.values()) for sample in some]
        for number, sample in enumerate(samples):
            Path(corpus, str(number)).write_bytes(sample)
        atheris.Setup(
            [
                sys.argv[0],
                f"-max_total_time={seconds}",
                "-max_len=2048",
                "-print_final_stats=1",
                "-verbosity=0",
                corpus,
            ],
            one,
        )
        atheris.Fuzz()


def main(minutes: float) -> int:
    """The exit code."""
    guided = importlib.util.find_spec("atheris") is not None
    seconds = minutes * 60 / (2 if guided else 1)
    done = by_hypothesis(seconds)
    print(f"hypothesis: {done.total():,} examples in {seconds:.0f} s, none failed: {dict(done)}", flush=True)
    if not guided:
        print("atheris is not installed: hypothesis had all of the time")
        return 0
    command = [sys.executable, "-m", "tests.collector.fuzz_collector", "--atheris", str(int(seconds))]
    code = subprocess.run(command, check=False).returncode
    print(f"atheris: {'no crash' if code == 0 else f'exit code {code}'} in {seconds:.0f} s")
    return int(code != 0)


if __name__ == "__main__":
    if sys.argv[1] == "--atheris":
        by_atheris(int(sys.argv[2]))
    sys.exit(main(float(sys.argv[1])))

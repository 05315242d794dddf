"""A real resolver before the collector's zone: unbound, with QNAME minimisation and 0x20 spelling, both strict."""

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest

from probe import receipts, tokens
from probe.collector.store import Store
from tests.collector.dns_load import KEY, RUN_ID, ZONE, served

pytestmark = pytest.mark.real("unbound")
PORT = 5301
CONFIG = """
server:
  interface: 127.0.0.1@{port}
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: "{folder}/pid"
  use-syslog: no
  logfile: "{folder}/log"
  do-not-query-localhost: no
  qname-minimisation: yes
  qname-minimisation-strict: yes
  use-caps-for-id: yes
  module-config: "iterator"
stub-zone:
  name: "{zone}"
  stub-addr: 127.0.0.1@{server}
"""


@contextmanager
def unbound(folder: Path, server: int) -> Iterator[None]:
    """A resolver that asks `server` for the zone; it has answered once."""
    config = folder / "unbound.conf"
    config.write_text(CONFIG.format(port=PORT, folder=folder, zone=ZONE, server=server))
    with subprocess.Popen(["unbound", "-c", str(config)], stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    ask(ZONE, "SOA", patience=0.2)
                    break
                except (dns.exception.Timeout, OSError):
                    assert time.monotonic() < deadline, (folder / "log").read_text()
                    time.sleep(0.05)
            yield
        finally:
            process.terminate()


def ask(name: str, kind: str, patience: float = 10) -> dns.message.Message:
    return dns.query.udp(dns.message.make_query(name, kind), "127.0.0.1", port=PORT, timeout=patience)


def test_tokens_pass_a_real_resolver_every_time(tmp_path: Path) -> None:
    """Of every type, below a permitted name or not; what was asked before is asked again (TTL 0)."""
    names = [f"{{}}.{ZONE}", f"{{}}.permitted.{ZONE}"]
    asked = [(n, kind, name) for n, (kind, name) in enumerate((k, n) for k in (*receipts.TYPES, "SRV") for n in names)]
    answers = {}
    with served(tmp_path / "a") as (server, process):
        with unbound(tmp_path, server):
            for n, kind, name in asked * 2:
                answers[n] = ask(name.format(tokens.token(RUN_ID, n, KEY)), kind)
            for name in (f"at.{ZONE}", f"x.at.{ZONE}"):
                assert [rr.to_text() for rr in ask(name, "A").answer[0]] == ["203.0.113.53"]
        process.kill()
    store = Store(tmp_path / "a")
    story = store.read(RUN_ID)
    store.close()
    assert story is not None
    times = Counter((arrival.check, arrival.type) for arrival in story.arrivals)
    for n, kind, _ in asked:
        # unbound follows an alias that it got within the same second, TTL 0 or not.
        assert times[n, kind] >= (1 if kind == "CNAME" else 2)
        assert answers[n].rcode() == dns.rcode.NOERROR
        seen = [(arrival.source, arrival.port) for arrival in story.arrivals if arrival.check == n]
        records = [rr.to_text() for found in answers[n].answer for rr in found]
        token = tokens.token(RUN_ID, n, KEY)
        assert receipts.are_valid(kind, records, KEY, token, seen, ZONE) is (kind != "SRV")

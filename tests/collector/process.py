"""`egress-probe collector serve` as a process of its own, and a client of its API, for tests."""

import json
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

from tests.collector.house import KEY, RUN, ZONE

PORTS = ("--dns-port", "5353", "--tcp", "8080,8853,4444", "--udp", "4444", "--api", "127.0.0.1:8443")


@dataclass
class Running:
    """`url`: the first line that it printed."""

    process: "subprocess.Popen[str]"
    url: str
    bearer: str

    def ask(self, method: str, path: str, token: str | None, body: Any = None) -> tuple[int, Any]:
        """A status and the JSON of the API's answer; the certificate must be the one that the URL names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = HTTPSConnection("127.0.0.1", 8443, timeout=30, context=context)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text)

    def register(self, run: str = RUN, key: bytes = KEY) -> str:
        """The token that reads this run's arrivals."""
        status, answer = self.ask("PUT", f"/v1/runs/{run}", self.bearer, {"key": key.hex(), "seconds": 600})
        assert status == 201
        return str(answer["read"])

    def arrivals(self, read: str, run: str = RUN) -> dict[str, Any]:
        status, answer = self.ask("GET", f"/v1/runs/{run}/arrivals", read)
        assert status == 200
        return dict(answer)

    def stop(self) -> tuple[int, str]:
        """Its exit code after SIGTERM, and what it logged."""
        self.process.send_signal(signal.SIGTERM)
        _, log = self.process.communicate(timeout=10)
        return self.process.returncode, log


def command(state: Path, *options: str) -> list[str]:
    """Its argv."""
    own = ("--zone", ZONE, "--address", "127.0.0.1", "--listen", "127.0.0.1", "--state", str(state))
    return [sys.executable, "-I", "-m", "probe", "collector", "serve", *own, *(options or PORTS)]


@contextmanager
def running(state: Path, *options: str, before: Sequence[str] = ()) -> Iterator[Running]:
    """A collector that is ready; ended at the end, if it has not ended before."""
    process = subprocess.Popen(
        [*before, *command(state, *options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    try:
        assert process.stdout is not None
        url, where, ready = (process.stdout.readline().rstrip("\n") for _ in range(3))
        assert ready == "ready", process.communicate()[1]
        found = re.fullmatch(r"bearer token: (.+)", where)
        assert found
        yield Running(process, url, Path(found[1]).read_text().strip())
    finally:
        process.kill()
        process.communicate()

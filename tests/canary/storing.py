"""As a program: HISTORY KILLS. A child stores runs as fast as it can, until it is killed at a random moment, KILLS times.

Prints one JSON line per kill: the numbers that the child said were stored, and those that the history then holds.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from probe.history.lock import locked
from probe.history.outbox import pending, settle
from probe.history.store import History
from probe.standing import stored_report
from tests.canary.test_history import made, put


def store(path: Path, out: int) -> None:
    """Until it is killed."""
    with locked(path), History(path) as history:
        last = history.runs(1)
        number = last[0].number if last else 0
        while True:
            number += 1
            put(history, made(number, leak=number % 5 == 0), float(number))
            os.write(out, f"{number}\n".encode())
            settle(history, pending(history)[0], {}, "now")


def killed(path: Path, after: float) -> list[int]:
    """What a child said to have stored, that was killed `after` seconds after its first run."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        store(path, writing)
    os.close(writing)
    with open(reading, encoding="ascii") as said:
        lines = [said.readline()]
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
        lines += said.readlines()
    os.waitpid(child, 0)
    return [int(line) for line in lines]


if __name__ == "__main__":
    where, draw = Path(sys.argv[1]), random.Random(9)
    for _ in range(int(sys.argv[2])):
        numbers = killed(where, draw.uniform(0, 0.03))
        with History(where, read_only=True) as reader:
            assert reader.rows("PRAGMA integrity_check") == [("ok",)]
            runs = reader.runs()
            ids = [stored_report(reader, run).run.id for run in runs[-3:]]
        assert ids == [run.run_id for run in runs[-3:]]
        print(json.dumps({"said": numbers, "held": [run.number for run in runs]}))

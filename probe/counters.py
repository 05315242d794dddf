"""The namespace's own packet counters, from /proc: did anything get past this host's firewall while we tried?

Ip OutRequests counts packets that the host made, OutTransmits those that its firewall let go (RFC 4293
ipSystemStatsOutRequests, …OutTransmits; Linux 6.7 and later tell them apart). Read-only and unprivileged.
"""

from collections.abc import Callable

from probe.documents import Counters

Read = Callable[[str], str]


def read_counters(read: Read | None = None) -> dict[int, Counters]:
    """By IP version; a version whose counters this kernel does not tell is missing."""
    read = read or _read
    found = {4: _of_snmp(read("/proc/self/net/snmp")), 6: _of_snmp6(read("/proc/self/net/snmp6"))}
    return {version: counters for version, counters in found.items() if counters is not None}


def moved(before: dict[int, Counters], after: dict[int, Counters]) -> dict[int, Counters]:
    """How far each counter moved."""
    return {
        version: Counters(last.requests - before[version].requests, last.transmits - before[version].transmits)
        for version, last in after.items()
        if version in before
    }


def _of_snmp(text: str) -> Counters | None:
    """`Ip: NAMES…` and the line after it with the values."""
    lines = [line.split() for line in text.splitlines() if line.startswith("Ip:")]
    return _counters(dict(zip(lines[0], lines[1], strict=False))) if len(lines) == 2 else None


def _of_snmp6(text: str) -> Counters | None:
    """`Ip6NAME VALUE`, line by line."""
    pairs = (line.split() for line in text.splitlines())
    return _counters({pair[0].removeprefix("Ip6"): pair[1] for pair in pairs if len(pair) == 2})


def _counters(values: dict[str, str]) -> Counters | None:
    requests, transmits = values.get("OutRequests", ""), values.get("OutTransmits", "")
    if not (requests.isascii() and requests.isdigit() and transmits.isascii() and transmits.isdigit()):
        return None
    return Counters(int(requests), int(transmits))


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(64 * 1024)
    except OSError:
        return ""

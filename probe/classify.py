"""Facts → outcome: what the network did to one row. Literal tables over errno, ICMP and DNS words; no policy here.

What a single errno or ICMP error means stands in signs.py; here are accepts, names, and rows with several addresses.
"""

from collections.abc import Iterable, Mapping, Sequence

from probe.addresses import is_sinkhole
from probe.documents import Attempt, Check, DnsAnswer, Record, Vantage
from probe.model import DnsResolver, EnforcerKind, Outcome, Transport, Via
from probe.paths import Path, Surroundings, ends_at_next_hop, family, path_of
from probe.report import Enforcer, Observed
from probe.signs import SILENCE, failure_of, of_error, of_silence, who

O, K = Outcome, EnforcerKind  # noqa: E741 - the tables below are read by column

Around = Mapping[int, Surroundings]  # by IP version

_RCODE: dict[str, tuple[Outcome, EnforcerKind | None, str]] = {
    "NOERROR": (O.NAME_UNRESOLVED, None, "dns_no_answer"),
    "NXDOMAIN": (O.NAME_UNRESOLVED, None, "dns_nxdomain_error"),
    "SERVFAIL": (O.NAME_UNRESOLVED, None, "dns_servfail_error"),
    "REFUSED": (O.NAME_DENIED, K.RESOLVER, "dns_refused_error"),
}

# HTTP statuses that state a policy decision (RFC 9110 15.5.4, 15.5.8; RFC 7725; RFC 6585 6). Whose decision, only the
# distance of the acceptor tells: a far end may send each of them, headers included.
_DECISIONS = {403, 407, 451, 511}

# Several addresses or servers of one row: the one that speaks most against "blocked" stands for the row.
_WORST_FIRST: tuple[tuple[Outcome, str], ...] = (
    (O.REACHED, "*"),
    (O.REFUSED, "peer"),
    (O.INTERCEPTED, "*"),
    (O.ACCEPTED, "*"),
    (O.BROKEN, "*"),
    (O.NOT_RUN, "*"),
    (O.REFUSED, "unknown"),
    (O.REJECTED, "unknown"),
    (O.REJECTED, "neighbour"),
    (O.PROXY_DENIED, "unknown"),
    (O.NAME_UNRESOLVED, "*"),  # half of a name that was never looked up
    (O.NAME_DENIED, "*"),
    (O.SILENT, "unknown"),
    (O.REFUSED, "beyond"),
    (O.REJECTED, "beyond"),
    (O.REFUSED, "filter"),
    (O.REJECTED, "filter"),
    (O.PROXY_DENIED, "filter"),
    (O.SILENT, "filter"),
    (O.DENIED, "*"),
    (O.NO_ROUTE, "*"),
)


def observe(
    check: Check,
    record: Record | None,
    vantage: Vantage | None,
    made_up: frozenset[str] = frozenset(),
    around: Around | None = None,
) -> Observed:
    """One row's outcome. `made_up`: see made_up_addresses(). `around`: see paths.survey()."""
    return worst(record, [] if record is None else outcomes(check, record, vantage, made_up, around or {}))


def worst(record: Record | None, each: Sequence[tuple[Attempt, Observed]]) -> Observed:
    """A row's outcome from those of its addresses: the one that speaks most against "blocked"."""
    if record is None:
        return Observed(O.BROKEN, None, None)
    if record.not_run is not None:
        return Observed(O.NOT_RUN, None, None, record.attempts)
    if not each:
        return Observed(O.BROKEN, None, None, record.attempts)
    found = min((one for _, one in each), key=_rank)
    return Observed(found.outcome, found.failure, found.enforcer, record.attempts)


def outcomes(
    check: Check, record: Record, vantage: Vantage | None, made_up: frozenset[str], around: Around
) -> list[tuple[Attempt, Observed]]:
    """One (attempt, outcome) per address or server of a row, and per look-up that was never answered."""
    tried = [attempt for attempt in record.attempts if attempt.step in ("connect", "send", "query", "raw")]
    if check.query is not None:
        # A connection that carried a question is judged by its answer.
        asked = [attempt for attempt in tried if attempt.step == "query"] or tried
        return [(attempt, _of_query(check, attempt, vantage)) for attempt in asked]
    if tried:
        if check.destination.via is Via.PROXY and any(attempt.result == "connected" for attempt in tried):
            return [(next(a for a in tried if a.result == "connected"), _of_proxy(record))]
        found = [_of_address(check, group, record, vantage, made_up, around) for group in _by_address(tried).values()]
        return found + [(attempt, _of_lookup(attempt, vantage)) for attempt in _unanswered(record)]
    named = [(a, _of_lookup(a, vantage)) for a in record.attempts if a.step in ("resolve", "listen")]
    # A sinkhole for one type and nothing for the other is a denied name.
    denied = [pair for pair in named if pair[1].outcome is O.NAME_DENIED]
    return denied or named


def _unanswered(record: Record) -> list[Attempt]:
    """Look-ups of a type that no server answered: that half of the name's addresses was never tried."""
    lookups = [attempt for attempt in record.attempts if attempt.step == "resolve"]
    said = {a.dns.type for a in lookups if a.dns is not None and a.dns.rcode in ("NOERROR", "NXDOMAIN")}
    # A server is asked for A and AAAA together, and both are in the record.
    return [a for place, a in enumerate(lookups) if ("A", "AAAA")[place % 2] not in said]


def made_up_addresses(rows: Iterable[tuple[Check, Record | None]]) -> frozenset[str]:
    """Addresses that a resolver gave for names which do not exist: those of its block page or captive portal."""
    found: set[str] = set()
    for check, record in rows:
        unreal = check.reserved and check.destination.host is not None
        unreal = unreal or (check.query is not None and check.query.name.endswith(".invalid"))
        if unreal and record is not None:
            found |= {text for a in record.attempts if a.dns is not None for text in a.dns.records}
    return frozenset(found)


def _rank(observed: Observed) -> int:
    mine = who(observed.enforcer)
    return next(
        i for i, (outcome, whose) in enumerate(_WORST_FIRST) if outcome is observed.outcome and whose in ("*", mine)
    )


def _by_address(attempts: Iterable[Attempt]) -> dict[str | None, list[Attempt]]:
    groups: dict[str | None, list[Attempt]] = {}
    for attempt in attempts:
        groups.setdefault(attempt.address, []).append(attempt)
    return groups


def _of_address(
    check: Check,
    group: list[Attempt],
    record: Record,
    vantage: Vantage | None,
    made_up: frozenset[str],
    around: Around,
) -> tuple[Attempt, Observed]:
    """Any answer to any try counts; silence is what is left."""
    address = group[0].address or ""
    path = path_of(record, group[0].address)
    near = around.get(family(address), Surroundings())
    if check.destination.host is not None and _sunk(address):  # this very host
        return group[0], Observed(O.NAME_DENIED, "dns_bogon_error", Enforcer(K.RESOLVER))
    for attempt in group:
        ttls = {answer.ttl for answer in attempt.raw if answer.kind in ("syn-ack", "rst")}
        if len(ttls) > 1:  # two senders in one name: something on the way answers as well
            return attempt, Observed(O.INTERCEPTED, None, Enforcer(K.MIDDLEBOX))
        if attempt.result in ("connected", "answered"):
            later = [a for a in record.attempts if a.step in ("talk", "walk") and a.address == attempt.address]
            if attempt.result == "answered":  # a datagram is its own conversation
                later.append(attempt)
            seen = _of_accept(check, later, vantage, path, near)
            if seen.outcome is O.REACHED and check.destination.host is not None and address in made_up:
                # The resolver gives this address for names which do not exist: a block page, or a proxy for all names.
                seen = Observed(O.INTERCEPTED, None, Enforcer(K.MIDDLEBOX))
            return attempt, seen
    if any(a.step == "walk" and a.result == "connected" and a.address == group[0].address for a in record.attempts):
        # Any answer to any try counts: a filter that knows the system's own TTL only, or one that lets a late SYN pass.
        return group[0], Observed(O.ACCEPTED, None, None)
    failed = [attempt for attempt in group if attempt.result == "error"]
    if failed:
        repeated = any(a.again for a in failed) and len(failed) == len(group)
        twin = next((a for a in record.attempts if a.step == "twin" and a.address == group[0].address), None)
        read = [(attempt, of_error(attempt, vantage, path, near, repeated, twin)) for attempt in failed]
        return min(read, key=lambda pair: _rank(pair[1]))
    return group[0], of_silence(group, path, near)


# --- accepts ----------------------------------------------------------------------------------------------------------


def _of_accept(
    check: Check, later: list[Attempt], vantage: Vantage | None, path: Path, around: Surroundings
) -> Observed:
    talks = [attempt for attempt in later if attempt.step != "walk" and attempt.least is None]
    spoke = next((talk.data for talk in talks if talk.data is not None), None)
    shook = any(talk.tls is not None and talk.tls.handshake for talk in talks)
    near = any(ends_at_next_hop(attempt, vantage) for attempt in later)
    # A SYN proxy lets packets go on to time out farther out, and yet answers from nearer than they came.
    proxied = bool(around.honest) and path.forward is not None and path.back is not None and path.back < path.forward
    if proxied and (not (spoke or shook) or any(t.least is not None and t.result == "answered" for t in later)):
        return Observed(O.INTERCEPTED, None, Enforcer(K.MIDDLEBOX, hop=path.back))
    if spoke is not None and spoke.http_status in _DECISIONS:
        return Observed(O.PROXY_DENIED, None, Enforcer(K.PROXY, hop=1) if near else Enforcer(K.UNKNOWN))
    if near:
        return Observed(O.INTERCEPTED, None, Enforcer(K.MIDDLEBOX, hop=1))
    if any(talk.tls is not None and talk.tls.verified for talk in talks):
        return Observed(O.REACHED, None, Enforcer(K.PEER))
    if any(talk.tls is not None and talk.tls.verified is False for talk in talks):
        return Observed(O.INTERCEPTED, "ssl_invalid_certificate", Enforcer(K.MIDDLEBOX))
    if (spoke is not None or shook) and not (check.reserved and check.destination.host is not None):
        return Observed(O.REACHED, None, Enforcer(K.PEER))
    if check.reserved:  # nobody lives there, or the name does not exist
        return Observed(O.INTERCEPTED, None, Enforcer(K.MIDDLEBOX))
    return Observed(O.ACCEPTED, None, None)


def _of_proxy(record: Record) -> Observed:
    """What a proxy that was reached made of the request for a tunnel. The worst counts.

    What comes after a grant may still be the proxy's own error page: only a collector's receipt shows the far end.
    """
    statuses = [a.data.http_status or 0 for a in record.attempts if a.step == "talk" and a.data is not None]
    if any(200 <= status < 300 for status in statuses):
        return Observed(O.ACCEPTED, None, Enforcer(K.PROXY))
    if any(status in _DECISIONS for status in statuses):
        return Observed(O.PROXY_DENIED, None, Enforcer(K.PROXY))
    # It could not, or said nothing: that proves nothing of what it may do the next time.
    return Observed(O.NAME_UNRESOLVED, None if statuses else SILENCE, Enforcer(K.PROXY))


# --- names ------------------------------------------------------------------------------------------------------------


def _of_lookup(attempt: Attempt, vantage: Vantage | None) -> Observed:
    """A row that never got an address (or whose own listener was refused)."""
    if attempt.step == "listen":
        return of_error(attempt, vantage)
    if attempt.dns is None:
        failure = failure_of(attempt.error or "") if attempt.error else SILENCE
        return Observed(O.NAME_UNRESOLVED, failure, None)
    return _of_answer(attempt.dns, None, reserved=False)


def _of_query(check: Check, attempt: Attempt, vantage: Vantage | None) -> Observed:
    assert check.query is not None
    explicit = check.query.resolver is DnsResolver.EXPLICIT
    if attempt.dns is not None:
        # Nobody runs a resolver at a reserved address: whoever answers there stands in between.
        reserved = explicit and check.reserved
        answers = [_of_answer(answer, check.query.expect, reserved, check.query.name)
                   for answer in (attempt.dns, *attempt.late)]  # fmt: skip
        if attempt.late and attempt.tries == 1 and answers[0].outcome is not O.REACHED:
            # Two answers to one datagram: two senders, and an injected reply beats the real one (RFC 5452).
            real = next((one for one in answers if one.outcome is O.REACHED), None)
            return real or Observed(O.INTERCEPTED, None, Enforcer(K.MIDDLEBOX))
        return answers[0]
    if attempt.result == "error":
        observed = of_error(attempt, vantage)
        if check.query.hops is not None and attempt.stage == "receive":  # it died on the way, as it was to
            return Observed(O.NAME_UNRESOLVED, observed.failure, None)
        # "Nobody listens on the resolver's port" is no filter's word on what may leave.
        if observed.outcome is O.REFUSED and who(observed.enforcer) != "filter":
            return Observed(O.NAME_UNRESOLVED, observed.failure, None)
        return observed
    if explicit and attempt.transport is Transport.TCP and attempt.result == "connected":
        outcome = O.INTERCEPTED if check.reserved else O.ACCEPTED
        return Observed(outcome, SILENCE, Enforcer(K.MIDDLEBOX) if check.reserved else None)
    # The silence of a query that was to die on the way is no sign of a filter.
    speaks = explicit and check.query.hops is None
    return Observed(O.SILENT if speaks else O.NAME_UNRESOLVED, SILENCE, None)


def _of_answer(answer: DnsAnswer, expect: str | None, reserved: bool, name: str = "") -> Observed:
    records = answer.records if answer.rcode == "NOERROR" else ()
    if expect is not None and any(expect == record.strip('"') for record in records):
        return Observed(O.REACHED, None, Enforcer(K.PEER))
    if reserved:
        return Observed(O.INTERCEPTED, None, Enforcer(K.MIDDLEBOX))
    if not records:
        outcome, kind, failure = _RCODE.get(answer.rcode, (O.NAME_UNRESOLVED, None, "dns_server_misbehaving"))
        return Observed(outcome, failure, Enforcer(kind) if kind else None)
    if answer.type in ("A", "AAAA") and all(_sunk(record) for record in records):
        return Observed(O.NAME_DENIED, "dns_bogon_error", Enforcer(K.RESOLVER))
    if name.endswith(".invalid"):
        return Observed(O.INTERCEPTED, None, Enforcer(K.RESOLVER))  # RFC 6761 6.4: this name exists nowhere
    return Observed(O.ACCEPTED, None, None)


def _sunk(record: str) -> bool:
    try:
        return is_sinkhole(record)
    except ValueError:
        return False

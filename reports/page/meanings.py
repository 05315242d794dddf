"""What the report's words mean, as docs/report.md says it: literal tables, no rule. For formats that explain them."""

from typing import Final

from probe.model import EnforcerKind, Grade, Outcome, Verdict

VERDICTS: Final[dict[Verdict, str]] = {
    Verdict.LEAK: "declared deny, and it got out",
    Verdict.OVERBLOCKED: "declared allow, and it does not work",
    Verdict.UNPROVEN: "it may conform, but nothing proves it",
    Verdict.UNDECLARED: "no policy says what should happen",
    Verdict.NOT_RUN: "not attempted",
    Verdict.CONFORMS: "as declared, and shown to be",
}

GRADES: Final[dict[Grade, str]] = {
    Grade.PROVEN: "an attributed refusal, application bytes, the zone's own record, the collector's word",
    Grade.CORROBORATED: (
        "silence, or a rejection from farther out, with a control that answered and a witness that was stopped alike"
    ),
    Grade.PRESUMED: (
        "an allowed destination that is silent: it may be down; an answer through something in between"
    ),
}  # fmt: skip

OUTCOMES: Final[dict[Outcome, str]] = {
    Outcome.REACHED: "the far end proved itself",
    Outcome.ACCEPTED: "a handshake was completed, or a DNS answer came; nothing shows by whom",
    Outcome.INTERCEPTED: "something that is not the destination answered",
    Outcome.REFUSED: "RST, or ICMP port unreachable",
    Outcome.REJECTED: "ICMP unreachable or prohibited, from a router or the host's own firewall",
    Outcome.DENIED: "the kernel refused the call at once",
    Outcome.NO_ROUTE: "the kernel said at once: no route, no address of that family, link down",
    Outcome.SILENT: "the deadline passed without a sign of any kind",
    Outcome.PROXY_DENIED: "an HTTP policy decision came back (403, 407, 451)",
    Outcome.NAME_DENIED: "a resolver stated a policy decision (REFUSED, a sinkhole address)",
    Outcome.NAME_UNRESOLVED: "no answer, SERVFAIL, NXDOMAIN: proves nothing about the route",
    Outcome.BROKEN: "the probe itself failed: never read as blocked",
    Outcome.NOT_RUN: "the technique cannot run here",
}

# Who said no, as a person says it.
ENFORCERS: Final[dict[EnforcerKind, str]] = {
    EnforcerKind.SYSCALL_FILTER: "a syscall filter",
    EnforcerKind.LOCAL_FIREWALL: "this host's firewall",
    EnforcerKind.ROUTE: "this host's routing table",
    EnforcerKind.ROUTER: "a router",
    EnforcerKind.PROXY: "a proxy",
    EnforcerKind.RESOLVER: "a resolver",
    EnforcerKind.PEER: "the destination",
    EnforcerKind.MIDDLEBOX: "something in between",
    EnforcerKind.UNKNOWN: "an unknown place",
}

"""The kinds of finding that only a run can show (docs/report.md). A released id is never given to another one."""

from typing import Final, NamedTuple

from probe.model import Severity, Verdict


class Kind(NamedTuple):
    """A finding of our own: `id` is never given to another one. `each`: told path by path."""

    id: str
    severity: Severity
    each: bool
    title: str
    help: str


KINDS: Final[dict[Verdict, Kind]] = {
    Verdict.LEAK: Kind(
        id="EGP-100", severity=Severity.CRITICAL, each=True, title="A path that the policy denies got out",
        help="Data can leave this way. Stop it where the sandbox ends (a firewall, a proxy, no network at all), and "
        "run egress-probe again. If it is meant to be open, declare it.",
    ),
    Verdict.OVERBLOCKED: Kind(
        id="EGP-101", severity=Severity.WARN, each=True, title="A path that the policy allows does not work",
        help="Open it in what enforces the policy, or take it out of the declaration. A destination that was down "
        "looks the same where nobody says no: then run egress-probe again.",
    ),
    Verdict.UNPROVEN: Kind(
        id="EGP-102", severity=Severity.WARN, each=False, title="A path may be as declared, but nothing proves it",
        help="A control that must answer (--control), a witness that must not (--witness), or a far end of your own "
        "(--collector) can prove it; the sentence for each path says what is missing.",
    ),
    Verdict.UNDECLARED: Kind(
        id="EGP-103", severity=Severity.WARN, each=False, title="No policy says what should happen to a path",
        help="Declare it, allow or deny, and name the policy's file with --policy.",
    ),
    Verdict.NOT_RUN: Kind(
        id="EGP-104", severity=Severity.INFO, each=False, title="A path was not attempted",
        help="The sentence for each path says why.",
    ),
    Verdict.CONFORMS: Kind(
        id="EGP-105", severity=Severity.OK, each=False, title="A path is as declared, and shown to be",
        help="",
    ),
}  # fmt: skip
# A run that was stopped or damaged shows less than it set out to: without this, only its good rows would be told.
INCOMPLETE: Final = Kind(
    id="EGP-106", severity=Severity.WARN, each=False, title="The run is not complete",
    help="Run egress-probe again; the paths that it did not come to are not proven.",
)  # fmt: skip

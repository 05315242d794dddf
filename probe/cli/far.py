"""The operator's far end on the command line: its URL, its bearer token, and stored arrivals."""

from collections.abc import Mapping
from dataclasses import dataclass

from probe.arrived import far_problem
from probe.codec import DecodeError, decode, parse_json
from probe.documents import Collector, FarEnd, Plan
from probe.errors import UserError
from probe.farclient import OPTION, Client, parse_url
from probe.files import read_evidence_text, read_text

TOKEN_VARIABLE = "EGRESS_PROBE_COLLECTOR_TOKEN"  # noqa: S105 - the variable's name


@dataclass(frozen=True, slots=True)
class FarSide:
    """A collector, and a client to ask it."""

    collector: Collector
    client: Client


def far_end(url: str, token_file: str | None, environment: Mapping[str, str]) -> FarSide:
    """The collector that the options name. One whose URL does not say its zone is asked. Raises UserError."""
    address, collector = parse_url(url)
    given = environment.get(TOKEN_VARIABLE, "") if token_file is None else read_text(token_file)
    token = given.strip()
    if not token:
        raise UserError(
            f"{OPTION} {url}: its bearer token is needed: --collector-token-file FILE, or the variable {TOKEN_VARIABLE}"
        )
    if not (token.isascii() and token.isprintable()) or " " in token:
        where = f"variable {TOKEN_VARIABLE}" if token_file is None else token_file
        raise UserError(f"{OPTION} {url}: {where}: expected one line, the bearer token")
    client = Client(address, token)
    return FarSide(collector or client.info(), client)


def from_url(url: str) -> Collector:
    """The collector as its URL alone tells it: `plan` asks nobody. Raises UserError."""
    collector = parse_url(url)[1]
    if collector is None:
        raise UserError(
            f"{OPTION} {url}: tells no zone, and `plan` asks nobody: give the whole URL that "
            "`egress-probe collector serve` printed"
        )
    return collector


def stored_arrivals(path: str, plan: Plan) -> FarEnd:
    """What `run --arrivals-out` wrote. Raises UserError."""
    try:
        far = decode(FarEnd, parse_json(read_evidence_text(path), path))
    except DecodeError as error:
        raise UserError(f"{path}: {error}") from None
    problem = far_problem(far)
    if problem is not None:
        raise UserError(f"{path}: {problem}")
    if plan.collector is None:
        raise UserError(f"{path}: its plan has no collector, so that no arrival could be of it")
    if far.said.run_id != plan.run_id:
        raise UserError(f"{path}: of run {far.said.run_id}, not of the plan's ({plan.run_id})")
    return far

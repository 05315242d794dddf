"""From command-line options to a plan: policies are found, scenarios chosen, host facts gathered."""

import os
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import click

from probe.checks import findings
from probe.cli.options import boundary, endpoint, resolver
from probe.destinations import Choices, Endpoint, with_collector
from probe.documents import Collector, Plan, Settings
from probe.errors import UserError
from probe.files import load_scenarios, read_policies, usual_places
from probe.hostfacts import gather
from probe.model import Action, Channel, Destination, Policy
from probe.plan import Inputs, make_plan
from probe.policies.decide import decide
from probe.policies.patterns import domain_pattern
from probe.scenario import Scenario
from probe.techniques import all_traits
from probe.timing import MOST_TRIES
from probe.tokens import new_run_id

# IANA runs it for use in documents; a one-off run may use it as witness where none is given.
DEFAULT_WITNESS = Endpoint(Destination("example.com", None, 443))


@dataclass(frozen=True, slots=True)
class Request:
    """The options of `plan` and `run`."""

    policies: tuple[str, ...] = ()
    dialect: str | None = None
    agent: str | None = None
    scenarios: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    witnesses: tuple[str, ...] = ()
    zone: str | None = None
    random_public: int = 0
    seed: str = ""
    deadline: float | None = None
    rate: float = 200.0
    concurrency: int = 0
    tries: int = MOST_TRIES
    boundary: str | None = None
    walk: bool = True
    scan_signature: bool = False
    collector: Collector | None = None
    vpc_resolver: bool = False
    resolvers: tuple[str, ...] = ()


def plan_for(request: Request, default_witness: bool = True) -> Plan:
    """The plan for the named policies. Raises UserError. Sends nothing."""
    return plan_with(find_policies(request.policies, request.dialect, request.agent), request, default_witness)


def plan_with(found: tuple[Policy, ...], request: Request, default_witness: bool = True) -> Plan:
    """The plan for policies that are already read."""
    now = time.time()
    run_id = new_run_id(int(now * 1000))
    choices = _choices(request, run_id, found, default_witness)
    notes = []
    if choices.witnesses and not request.witnesses and request.collector is None:
        notes.append(f"no --witness was given: {choices.witnesses[0].destination} is used")
    return make_plan(
        Inputs(
            run_id=run_id,
            created=datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            policies=found,
            baseline=findings(gather(), found),
            scenarios=choose(request.scenarios, choices),
            choices=choices,
            settings=Settings(
                request.deadline,
                request.rate,
                request.concurrency,
                tries=request.tries,
                seed=request.seed,
                walk=request.walk,
                scan_signature=request.scan_signature,
            ),
            traits=all_traits(),
            notes=tuple(notes),
            boundary=None if request.boundary is None else boundary(request.boundary),
            collector=request.collector,
        )
    )


def find_policies(paths: tuple[str, ...], dialect: str | None, agent: str | None) -> tuple[Policy, ...]:
    """The named policies, or those in the usual places; what was found is printed on stderr."""
    if not paths:
        paths = tuple(usual_places(os.environ))
        click.echo(f"egress-probe: policy: {', '.join(paths) or 'none found in the usual places'}", err=True)
    return read_policies(paths, os.environ, dialect, agent)


def _choices(request: Request, run_id: str, policies: tuple[Policy, ...], default_witness: bool) -> Choices:
    witnesses = tuple(endpoint(text, "--witness") for text in request.witnesses)
    for text, witness in zip(request.witnesses, witnesses, strict=True):
        declared = decide(policies, witness.destination, Channel(witness.transport.value))
        if declared.action is Action.ALLOW:
            raise UserError(f"--witness {text}: {declared.by} allows it (a witness must be denied)")
    if not witnesses and default_witness and request.collector is None:
        denied = decide(policies, DEFAULT_WITNESS.destination, Channel.TCP).action is Action.DENY
        witnesses = (DEFAULT_WITNESS,) if denied else ()
    zone = None if request.zone is None else domain_pattern(request.zone, "--zone")
    if zone is not None and zone.startswith("*."):
        raise UserError(f"--zone {request.zone}: name the zone itself, without *.")
    choices = Choices(
        controls=tuple(endpoint(text, "--control") for text in request.controls),
        witnesses=witnesses,
        own_witnesses=bool(request.witnesses or request.collector),
        zone=zone,
        random_public=request.random_public,
        seed=request.seed or run_id,
        vpc_resolver=request.vpc_resolver,
        resolvers=tuple(dict.fromkeys(map(resolver, request.resolvers))),
    )
    return choices if request.collector is None else with_collector(choices, policies, request.collector)


def choose(names: tuple[str, ...], choices: Choices) -> tuple[Scenario, ...]:
    """The chosen scenarios. Controls and witnesses are always there: without them silence means nothing."""
    every = {scenario.id: scenario for scenario in load_scenarios(())}
    wanted = load_scenarios(names)
    given = {
        "--random-public": bool(choices.random_public),
        "--collector": choices.collector is not None,
        "--vpc-resolver": choices.vpc_resolver,
    }
    chosen = [s for s in wanted if s.opt_in is None or given[s.opt_in]]
    if names and len(chosen) < len(set(names)):
        missing = next(s for s in wanted if s not in chosen)
        raise UserError(f"--scenario {missing.id}: needs {missing.opt_in} as well")
    present = {scenario.id for scenario in chosen}
    if choices.collector is not None and "far-end" not in present:
        chosen.append(every["far-end"])  # its permitted tokens are what makes nothing-arrived mean something
    added = [("latency-baseline", "control-"), ("undeclared-domains", "witness-")]
    if not choices.controls:
        added.append(("declared-entries", "declared-"))  # its allow entries are the controls
    for name, kind in added:
        if name not in present:
            kept = tuple(spec for spec in every[name].check if spec.destinations.startswith(kind))
            chosen.append(replace(every[name], check=kept))
    return tuple(dict.fromkeys(chosen))

"""A world: what enforces, what is declared, and the truth. TOML → World, strictly; report and truth → misses."""

from dataclasses import dataclass, fields
from importlib import resources
from typing import Literal

from probe.codec import DecodeError, decode, parse_toml
from probe.errors import UserError
from probe.model import Action, Channel, Grade, Purpose, Verdict
from probe.report import Report, Result


@dataclass(frozen=True, slots=True)
class PolicyText:
    """The policy that the sandbox declares, as a file would hold it."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Run:
    """The operator's part."""

    scenarios: tuple[str, ...] = ()
    control: tuple[str, ...] = ()
    witness: tuple[str, ...] = ()
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`link`: the wire to the gateway exists; `next_hop`: where the default route leads. `nft`: rules inside."""

    link: bool = True
    next_hop: Literal["gateway", "nobody", "none"] = "gateway"
    nft: str = ""


@dataclass(frozen=True, slots=True)
class Gateway:
    """`nft`: rules on the gateway; `forward`: it passes packets on; `resolver`: unbound, for all names or for some."""

    forward: bool = True
    nft: str = ""
    resolver: Literal["none", "open", "refuse"] = "none"
    resolver_allows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Truth:
    """The verdict that rows must have which match every field that is set. The first truth that matches counts."""

    verdict: Verdict
    grade: Grade | None = None
    family: int | None = None
    channel: Channel | None = None
    declared: Action | None = None
    purpose: Purpose | None = None
    scenario: str | None = None
    host: bool | None = None  # the destination is a name


@dataclass(frozen=True, slots=True)
class World:
    """One world file."""

    id: str
    title: str
    shows: str
    exit_code: int
    policy: PolicyText
    truth: tuple[Truth, ...]
    run: Run = Run()
    sandbox: Sandbox = Sandbox()
    gateway: Gateway = Gateway()


def world_names() -> list[str]:
    """The ids of our worlds, sorted."""
    files = resources.files("scenarios").joinpath("worlds").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def load_world(name: str) -> World:
    """A world by id. Raises UserError for one that does not exist."""
    if name not in world_names():
        raise UserError(f"lab {name}: unknown world (egress-probe lab --list)")
    text = resources.files("scenarios").joinpath("worlds", f"{name}.toml").read_text(encoding="utf-8")
    return parse_world(f"{name}.toml", text)


def parse_world(path: str, text: str) -> World:
    """The world in `text`. Raises UserError that names file and key."""
    try:
        world = decode(World, parse_toml(text, path))
    except DecodeError as error:
        raise UserError(f"{path}: {error}") from None
    if path.rsplit("/", 1)[-1] != f"{world.id}.toml":
        raise UserError(f"{path}: id: {world.id!r} is not the file's name")
    return world


def misses(world: World, report: Report) -> list[str]:
    """Where the report differs from the world's truth, one plain line each."""
    found = [miss for result in report.results if (miss := _miss(world, result))]
    unused = [truth for truth in world.truth if not any(_matches(truth, result) for result in report.results)]
    found += [f"no row for the truth {_words(truth)}" for truth in unused]
    if report.summary.exit_code != world.exit_code:
        found.append(f"exit code {report.summary.exit_code}, but the truth is {world.exit_code}")
    return found


def _miss(world: World, result: Result) -> str | None:
    if result.purpose is Purpose.SELF_TEST:
        return None if result.verdict is Verdict.CONFORMS else f"{result.id}: a self-test missed"
    truth = next((truth for truth in world.truth if _matches(truth, result)), None)
    if truth is None:
        return f"{result.id}: the world states no truth for it"
    if (result.verdict, result.grade) == (truth.verdict, truth.grade):
        return None
    return (
        f"{result.id}: {_graded(result.verdict, result.grade)}, but the truth is {_graded(truth.verdict, truth.grade)}"
    )


def _graded(verdict: Verdict, grade: Grade | None) -> str:
    return verdict.value + (f" ({grade.value})" if grade else "")


def _words(truth: Truth) -> str:
    return " ".join(f"{f.name}={value}" for f in fields(truth) if (value := getattr(truth, f.name)) is not None)


def _matches(truth: Truth, result: Result) -> bool:
    address = result.destination.address
    facts = {
        "family": None if address is None else (6 if ":" in address else 4),
        "channel": result.channel,
        "declared": result.declared.action,
        "purpose": result.purpose,
        "scenario": result.scenario,
        "host": result.destination.host is not None,
    }
    return all(getattr(truth, name) in (None, value) for name, value in facts.items())

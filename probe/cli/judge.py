"""`egress-probe judge PLAN EVIDENCE`: stored evidence, judged again with today's rules."""

from datetime import datetime

import click

from probe.cli.far import stored_arrivals
from probe.cli.options import check_outputs, output_options, print_report
from probe.codec import DecodeError, decode, parse_json
from probe.documents import Plan
from probe.errors import UserError
from probe.evidence import read_evidence
from probe.files import read_evidence_text
from probe.judge import judge as judged


@click.command(short_help="Judge stored evidence again.")
@click.argument("plan")
@click.argument("evidence")
@click.option("--arrivals", metavar="FILE", help="What the collector saw: the file that `run --arrivals-out` wrote.")
@output_options
def judge(plan: str, evidence: str, arrivals: str | None, form: str, outputs: tuple[str, ...], fail_on: str) -> int:
    """Judge stored evidence again: the plan and the evidence that `run --plan-out … --evidence-out …` wrote.

    \b
    Example:
      egress-probe judge plan.json evidence.jsonl --format markdown
      egress-probe judge plan.json evidence.jsonl --arrivals arrivals.json
    """
    check_outputs(form, outputs)
    try:
        made = decode(Plan, parse_json(read_evidence_text(plan), plan))
        datetime.fromisoformat(made.created)
    except DecodeError as error:
        raise UserError(f"{plan}: {error}") from None
    except ValueError:
        raise UserError(f"{plan}: created: {made.created!r} is not a time") from None
    lines = read_evidence_text(evidence).splitlines()
    far = None if arrivals is None else stored_arrivals(arrivals, made)
    return print_report(judged(made, read_evidence(lines, made, evidence), fail_on, far), form, outputs)

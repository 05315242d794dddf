"""`egress-probe report REPORT.json`: render a stored report in another format."""

import click

from probe.cli.options import check_outputs, print_report
from probe.codec import DecodeError, decode, parse_json
from probe.errors import UserError
from probe.files import read_evidence_text
from probe.report import Report


@click.command(short_help="Render a stored report in another format.")
@click.argument("report")
@click.option("--format", "form", default="table", show_default=True, metavar="NAME")
@click.option("-o", "--output", "outputs", multiple=True, metavar="FILE")
def report(report: str, form: str, outputs: tuple[str, ...]) -> int:
    """Render a stored report (`run --format json`) in another format. The exit code is the report's own.

    \b
    Example:
      egress-probe report report.json --format markdown
    """
    check_outputs(form, outputs)
    try:
        stored = decode(Report, parse_json(read_evidence_text(report), report))
    except DecodeError as error:
        raise UserError(f"{report}: {error}") from None
    return print_report(stored, form, outputs)

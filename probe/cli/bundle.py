"""`egress-probe bundle`: the agent as one file."""

from pathlib import Path

import click

from probe.cli.options import check_writable
from probe.errors import UserError


@click.command(short_help="Write the agent as one file that any Python runs.")
@click.option("-o", "--output", "output", required=True, metavar="FILE", help="Where to write it.")
def bundle(output: str) -> int:
    """Write the agent as one file: pure Python, run as `python3 -I FILE agent`, with the orders on stdin.

    The same installation and Python give the same bytes, and the same SHA-256 as a report's artifact_sha256 (without
    the first line, which makes the file runnable).

    \b
    Examples:
      egress-probe bundle -o agent.pyz
      egress-probe plan --policy egress-policy.toml --plan-out plan.json --orders-out orders.json
      python3 -I -B agent.pyz agent < orders.json > evidence.jsonl      (inside)
      egress-probe judge plan.json evidence.jsonl                    (outside)

    Exit codes: 0 written, 2 usage or configuration.
    """
    from probe.shipping.archive import build

    check_writable(output)
    archive = build()
    try:
        Path(output).write_bytes(archive.zipapp)
        Path(output).chmod(0o755)
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror}") from None
    click.echo(f"{output}: {len(archive.zipapp):,} bytes, archive sha256 {archive.sha256}")
    return 0

"""Format `html`: one page for a person that needs nothing else: a file, an attachment, without scripts.

Every text of a report passes through clean() and autoescape, and no report's text is ever trusted as markup.
"""

import base64
import functools
import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Final

from probe.report import Report
from reports import picture, words
from reports.page import attempts, meanings, overview, timeline
from reports.page.drawing import draw
from reports.style import Style, clean

if TYPE_CHECKING:
    from jinja2 import Environment

# A page for 200 rows stays under 1 MB: that many attempts of a row, and that many in all, leaks first.
MOST_ATTEMPTS: Final = 2400
MOST_TEXT: Final = 1000


def render(report: Report, style: Style) -> str:  # noqa: ARG001 - every format has this shape
    """The page."""
    rows = words.rows(report)
    drawn = picture.layout(report)
    numbers = {row.id: number for number, row in enumerate(rows)}
    return (
        _environment()
        .get_template("page.html")
        .render(
            report=report,
            headline=words.headline(report),
            look=overview.look(report, rows),
            counts=overview.counts(rows),
            facts=overview.facts(report),
            picture=drawn,
            drawing=draw(drawn),
            lane_of={number: i for i, lane in enumerate(drawn.lanes) for number in lane.rows},
            changes=overview.changes(report, numbers),
            grid=timeline.grid(report),
            rows=rows,
            shown=attempts.budgets(rows, MOST_ATTEMPTS),
            findings=overview.findings(report, numbers),
        )
    )


# --- the template -----------------------------------------------------------------------------------------------------


@functools.cache
def _environment() -> "Environment":
    """The page's own style and script are the only markup that is trusted; the policy names them by their hashes."""
    # Imported here: the other formats, and so every run, do not pay for it.
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=PackageLoader("reports", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: _visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    css, script = own("page.css"), own("page.js")
    made.globals |= {
        "css": Markup(css),  # noqa: S704 - our own file
        "script": Markup(script),  # noqa: S704
        "policy": content_policy(css, script),
        "words": words,
        "attempts": attempts,
        "meanings": meanings,
        "moment": overview.moment,
    }
    return made


def own(name: str) -> str:
    """A file of reports/page."""
    return resources.files("reports").joinpath("page", name).read_text(encoding="utf-8")


def content_policy(css: str, script: str) -> str:
    """Nothing may be loaded, sent or framed; only this very style and this very script may act (CSP level 3)."""
    rest = "base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; style-src '{_hash(css)}'; script-src '{_hash(script)}'; {rest}"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _visible(text: str) -> str:
    return text if len(text) <= MOST_TEXT and text.isprintable() else clean(text, MOST_TEXT)

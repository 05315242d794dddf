"""Report formats: one file each, report → text. They render; they decide nothing. This file is the registry."""

from collections.abc import Callable

from probe.report import Report
from reports import clawpinch, csv, html, json, jsonl, junit, markdown, sarif, table
from reports.style import Style

FORMATS: dict[str, Callable[[Report, Style], str]] = {
    "table": table.render,
    "json": json.render,
    "jsonl": jsonl.render,
    "markdown": markdown.render,
    "html": html.render,
    "sarif": sarif.render,
    "junit": junit.render,
    "csv": csv.render,
    "clawpinch": clawpinch.render,
}

# `.json` is our own; what other tools read as JSON is chosen by --format.
SUFFIXES = {
    ".txt": "table",
    ".json": "json",
    ".jsonl": "jsonl",
    ".md": "markdown",
    ".html": "html",
    ".sarif": "sarif",
    ".xml": "junit",
    ".csv": "csv",
}

"""Report formats: one file each, report → text. They render; they decide nothing. This file is the registry."""

from collections.abc import Callable

from probe.report import Report
from reports import json, jsonl, markdown, table
from reports.style import Style

FORMATS: dict[str, Callable[[Report, Style], str]] = {
    "table": table.render,
    "json": json.render,
    "jsonl": jsonl.render,
    "markdown": markdown.render,
}

SUFFIXES = {".txt": "table", ".json": "json", ".jsonl": "jsonl", ".md": "markdown"}

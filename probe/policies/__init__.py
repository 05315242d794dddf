"""Declared policies: one file per dialect, text → Policy. This file is the registry and the reading of a file's bytes.

What a dialect does not understand it refuses, by name; it never guesses. `decide.py` answers for a destination.
"""

from collections.abc import Callable
from typing import NamedTuple

from probe.errors import UserError
from probe.model import Policy
from probe.policies import clawpinch, docker, native, openclaw
from probe.policies.includes import resolve_includes
from probe.policies.lines import located
from probe.policies.text import Document, parse_document, table


class Context(NamedTuple):
    """What a dialect may need besides the text. `read` gives the text of an included file or raises UserError."""

    read: Callable[[str], str]
    environment: dict[str, str]
    agent: str | None = None  # OpenClaw's agent, or the service of a compose file


class Dialect(NamedTuple):
    """`recognises` looks at the parsed content; `parse` gives the policy or raises UserError."""

    recognises: Callable[[Document], bool]
    parse: Callable[[Document, Context], Policy]


DIALECTS: dict[str, Dialect] = {
    "native": Dialect(native.recognises, native.parse),
    "openclaw": Dialect(openclaw.recognises, openclaw.parse),
    "clawpinch": Dialect(clawpinch.recognises, clawpinch.parse),
    "docker": Dialect(docker.recognises, docker.parse),
}


def parse_policy(path: str, text: str, context: Context, dialect: str | None = None) -> tuple[Policy, ...]:
    """The policies that one file declares: usually one; an openclaw.json with the seed's keys declares two."""
    if dialect is not None and dialect not in DIALECTS:
        raise UserError(f"--dialect {dialect}: unknown dialect (known: {', '.join(DIALECTS)})")
    document = parse_document(path, text)
    if document.syntax == "json5":
        whole = resolve_includes(path, document.tree, context.read)
        document = document._replace(tree=table(path, whole))
    names = [dialect] if dialect else [name for name, known in DIALECTS.items() if known.recognises(document)]
    if not names:
        raise UserError(
            f"{path}: no known policy dialect (known: {', '.join(DIALECTS)}; --dialect forces one)",
        )
    return tuple(located(DIALECTS[name].parse(document, context), document, text) for name in names)

"""Where a key stands in a policy's text: key path → line, from 1. A line that is not certain is not told.

The parsers of TOML and JSON5 keep no positions, so a file is read once more for them, without its values.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from probe.model import Policy
from probe.policies.text import Document

Lines = dict[str, int]

# An $include brings keys from elsewhere; the others are line ends for some readers and not for others.
_HARD = re.compile("\\$include|[\x85\u2028\u2029]|\r(?!\n)")
_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]#]+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(
    r"\s*((?:[A-Za-z0-9_-]+|\"[^\"\n]*\"|'[^'\n]*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"\n]*\"|'[^'\n]*'))*)\s*="
)
_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?\*/)|(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<mark>[{}\[\]:,])"""
    r"""|(?P<word>[^\s{}\[\]:,"'/]+)""",
    re.DOTALL,
)


def located(policy: Policy, document: Document, text: str) -> Policy:
    """`policy` with file and line of every rule. A rule's `by` starts with its file's name and its key.

    Where that is not certain no line is told.
    """
    lines = {} if _HARD.search(text) else _READERS[document.syntax](document.tree, text)

    def line(by: str) -> int | None:
        words = by.removeprefix(f"{document.name}: ").split(" ")
        key = words[0].rstrip(":")
        return lines.get(key) or lines.get(re.sub(r"\[\d+\]$", "", key))

    return replace(
        policy,
        rules=tuple(replace(rule, path=document.path, line=line(rule.by)) for rule in policy.rules),
        dns=None if policy.dns is None else replace(policy.dns, path=document.path, line=line(policy.dns.by)),
        default_line=line(policy.default_by),
    )


# --- TOML -------------------------------------------------------------------------------------------------------------


def _toml(tree: dict[str, Any], text: str) -> Lines:
    """Headers and keys, line by line. A text of several lines may look like them: then the counts do not fit."""
    found: Lines = {}
    counts: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.fullmatch(line):
            name = _dotted(header[2])
            if header[1] == "[[":
                counts[name] = counts.get(name, -1) + 1
                name = f"{name}[{counts[name]}]"
            found.setdefault(name, number)
            table = f"{name}."
        elif key := _KEY.match(line):
            found.setdefault(table + _dotted(key[1]), number)
    arrays = {name: len(value) for name, value in tree.items() if isinstance(value, list)}
    same = all(arrays.get(name, 0) == last + 1 for name, last in counts.items() if "." not in name)
    return found if same and '"""' not in text and "'''" not in text else {}


def _dotted(text: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in text.split("."))


# --- JSON5 ------------------------------------------------------------------------------------------------------------


def _json5(tree: dict[str, Any], text: str) -> Lines:  # noqa: ARG001 - every reader has this shape
    """The text was parsed before, so that braces fit; of a key that stands twice the last counts, as it does there."""
    found: Lines = {}
    stack: list[list[Any]] = []  # of each open bracket: its path, and the key or index within
    name = ""
    for kind, piece, line in _tokens(text):
        path = _path(stack)
        if piece in ("{", "[") and kind == "mark":
            found[path] = line
            stack.append([path, 0 if piece == "[" else None])
        elif piece in ("}", "]") and kind == "mark":
            stack.pop()
        elif piece == ":" and kind == "mark":
            stack[-1][1] = name
            found[_path(stack)] = line
        elif piece == "," and kind == "mark":
            stack[-1][1] = stack[-1][1] + 1 if isinstance(stack[-1][1], int) else None
        else:
            # A key, if a colon follows. One with a dot in it looks like two: nothing is told of what it holds.
            name = (piece[1:-1] if kind == "text" else piece).replace(".", "\0")
            if stack and isinstance(stack[-1][1], int):
                found[path] = line
    return found


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    line = 1
    for match in _TOKEN.finditer(text.removeprefix("\ufeff")):
        if match.lastgroup != "space":
            yield str(match.lastgroup), match[0], line
        line += match[0].count("\n")


def _path(stack: list[list[Any]]) -> str:
    if not stack:
        return ""
    path, at = stack[-1]
    if at is None:
        return str(path)
    if isinstance(at, int):
        return f"{path}[{at}]"
    return f"{path}.{at}" if path else str(at)


def _list(tree: dict[str, Any], text: str) -> Lines:
    """`docker inspect`: rules name the key within the one container, wherever in the list that stands."""
    objects = tree.get("", [])
    index = next((n for n, one in enumerate(objects) if isinstance(one, dict) and "HostConfig" in one), 0)
    prefix = f"[{index}]."
    return {key.removeprefix(prefix): line for key, line in _json5(tree, text).items() if key.startswith(prefix)}


# --- YAML -------------------------------------------------------------------------------------------------------------


def _yaml(tree: dict[str, Any], text: str) -> Lines:  # noqa: ARG001 - every reader has this shape
    import yaml

    found: Lines = {}
    seen: set[int] = set()

    def walk(node: Any, path: str, depth: int) -> None:
        if depth > _DEEPEST or id(node) in seen:  # an alias stands for what was walked already, or for what it is in
            return
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                name = str(key.value).replace(".", "\0")  # one with a dot in it looks like two
                inner = f"{path}.{name}" if path else name
                found.setdefault(inner, key.start_mark.line + 1)
                walk(value, inner, depth + 1)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                found.setdefault(f"{path}[{index}]", value.start_mark.line + 1)

    walk(yaml.compose(text, yaml.SafeLoader), "", 0)
    return found


_DEEPEST = 8
_READERS: dict[str, Callable[[dict[str, Any], str], Lines]] = {
    "toml": _toml,
    "json5": _json5,
    "list": _list,
    "yaml": _yaml,
}

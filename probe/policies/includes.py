"""OpenClaw's `$include` and `${VAR}`. Source: openclaw src/config/includes.ts and env-substitution.ts.

`$include` is a path or a list of paths, in any table; relative to the including file, inside the top file's folder; at
most ten levels. Tables merge, lists are joined, the later value wins, and the keys beside `$include` win over it.
`${VAR}` is upper case only; `$${VAR}` is literal.
"""

import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any

from probe.errors import UserError
from probe.policies.text import parse_json5

_DEPTH = 10
_MOST_FILES = 100  # eight files that include each other eight times over would be millions
_VARIABLE = re.compile(r"(\$?)\$\{([A-Z_][A-Z0-9_]*)\}")


def resolve_includes(path: str, tree: Any, read: Callable[[str], str]) -> Any:
    """`tree` with every `$include` replaced. Raises UserError for a loop, an escape, a bad form, a missing file."""
    left = [_MOST_FILES]

    def counted(name: str) -> str:
        left[0] -= 1
        if left[0] < 0:
            raise UserError(f"{path}: $include: more than {_MOST_FILES} files")
        return read(name)

    return _walk(tree, (path,), posixpath.dirname(path), counted)


def _walk(tree: Any, chain: tuple[str, ...], root: str, read: Callable[[str], str]) -> Any:
    if isinstance(tree, list):
        return [_walk(item, chain, root, read) for item in tree]
    if not isinstance(tree, dict):
        return tree
    rest = {key: _walk(value, chain, root, read) for key, value in tree.items() if key != "$include"}
    if "$include" not in tree:
        return rest
    included = _included(tree["$include"], chain, root, read)
    if not rest:
        return included
    if not isinstance(included, dict):
        raise UserError(f"{chain[-1]}: $include: keys beside it need an included file that holds a table")
    return merge(included, rest)


def _included(value: Any, chain: tuple[str, ...], root: str, read: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return _load(value, chain, root, read)
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise UserError(f"{chain[-1]}: $include: expected a path or a list of paths")
    merged: Any = {}
    for name in value:
        merged = merge(merged, _load(name, chain, root, read))
    return merged


def _load(name: str, chain: tuple[str, ...], root: str, read: Callable[[str], str]) -> Any:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(chain[-1]), name))
    if posixpath.relpath(path, root or ".").startswith(".."):
        raise UserError(f"{chain[-1]}: $include: {name!r} lies outside the configuration's folder")
    if path in chain:
        raise UserError(f"{chain[-1]}: $include: loop: {' -> '.join((*chain, path))}")
    if len(chain) > _DEPTH:
        raise UserError(f"{chain[-1]}: $include: more than {_DEPTH} levels deep")
    return _walk(parse_json5(path, read(path)), (*chain, path), root, read)


def merge(under: Any, over: Any) -> Any:
    """OpenClaw's deep merge: tables recursively, lists joined, else `over`."""
    if isinstance(under, dict) and isinstance(over, dict):
        return under | {key: merge(under[key], value) if key in under else value for key, value in over.items()}
    if isinstance(under, list) and isinstance(over, list):
        return under + over
    return over


def substitute(value: Any, environment: Mapping[str, str], where: str) -> Any:
    """`value` with `${VAR}` replaced in every string. Raises UserError for a missing or empty variable."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: _variable(found, environment, where), value)
    if isinstance(value, list):
        return [substitute(item, environment, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {key: substitute(item, environment, f"{where}.{key}") for key, item in value.items()}
    return value


def _variable(found: re.Match[str], environment: Mapping[str, str], where: str) -> str:
    if found[1]:
        return found[0][1:]
    if not environment.get(found[2]):
        raise UserError(f"{where}: ${{{found[2]}}} is not set in the environment")
    return environment[found[2]]

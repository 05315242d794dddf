"""The bytes of a policy file as a plain tree: TOML, JSON or JSON5, recognised by content."""

import json
import re
from typing import Any, NamedTuple

import json5

from probe.codec import parse_toml
from probe.errors import UserError

# json5 is pure Python and slow (about 20 ms per KiB); a policy of this size is not written by people.
JSON5_LIMIT = 256 * 1024


class Document(NamedTuple):
    """A parsed file. `path` is how the user named it."""

    path: str
    tree: dict[str, Any]
    syntax: str  # "toml" | "json5"

    @property
    def name(self) -> str:
        """The last part of the path: how rules name their file."""
        return self.path.rsplit("/", 1)[-1]


def parse_document(path: str, text: str) -> Document:
    """TOML or JSON5 text as a tree. Raises UserError with the line."""
    if _looks_like_json(path, text):
        return Document(path, table(path, parse_json5(path, text)), "json5")
    return Document(path, parse_toml(text, path), "toml")


def _looks_like_json(path: str, text: str) -> bool:
    bare = re.sub(r"\A(\s|//[^\n]*(\n|\Z)|/\*.*?\*/|\ufeff)*", "", text, flags=re.DOTALL)
    return bare.startswith("{") or path.endswith((".json", ".json5"))


def parse_json5(path: str, text: str) -> Any:
    """JSON5 text as plain types. Strict JSON takes the fast way."""
    text = text.removeprefix("\ufeff")
    try:
        return json.loads(text)
    except RecursionError:
        raise UserError(f"{path}: not JSON5: nested too deeply") from None
    except ValueError:
        pass
    if len(text) > JSON5_LIMIT:
        raise UserError(f"{path}: not JSON, and larger than the {JSON5_LIMIT // 1024} KiB that are read as JSON5")
    try:
        return json5.loads(text)
    except RecursionError:
        raise UserError(f"{path}: not JSON5: nested too deeply") from None
    except ValueError as error:
        message = str(error)
        line = re.match(r"<string>:(\d+) ", message)
        where = f"{path}:{line[1]}" if line else path
        raise UserError(f"{where}: not JSON5: {message[line.end() :] if line else message}") from None


def table(path: str, tree: Any) -> dict[str, Any]:
    """`tree` if it is a table. Raises UserError."""
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected a table at the top, got {type(tree).__name__}")
    return tree

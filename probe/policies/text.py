"""The bytes of a policy file as a plain tree: TOML, JSON or JSON5, recognised by content; YAML, by its suffix."""

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
    syntax: str  # "toml" | "json5" | "yaml" | "list": JSON whose top is a list, which stands under ""

    @property
    def name(self) -> str:
        """The last part of the path: how rules name their file."""
        return self.path.rsplit("/", 1)[-1]


def parse_document(path: str, text: str) -> Document:
    """TOML or JSON5 text as a tree. Raises UserError with the line."""
    if path.endswith((".yml", ".yaml")):
        return Document(path, table(path, _parse_yaml(path, text)), "yaml")
    if (listed := _json_list(text)) is not None:
        return Document(path, {"": listed}, "list")
    if _looks_like_json(path, text):
        return Document(path, table(path, parse_json5(path, text)), "json5")
    return Document(path, parse_toml(text, path), "toml")


def _json_list(text: str) -> list[Any] | None:
    """A JSON list of objects; a TOML file may start with a bracket too."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if found and isinstance(found, list) and all(isinstance(one, dict) for one in found) else None


def _parse_yaml(path: str, text: str) -> Any:
    import yaml  # 25 ms, and most policies are none

    class Loader(yaml.SafeLoader):
        """Refuses a key that stands twice: the last one would win without a word."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and keys.count(key.value) > 1:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} twice", key.start_mark)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)  # noqa: S506 - a SafeLoader
    except RecursionError:
        raise UserError(f"{path}: not YAML: nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else path
        raise UserError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}") from None
    except (ValueError, OverflowError) as error:  # a date or a number that is none
        raise UserError(f"{path}: not YAML: {error}") from None


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

"""JSON text ⇄ nouns, strictly: unknown keys, wrong types and missing keys are refused, with their path.

One converter for both directions and both halves; pure Python, because the agent uses it too.
"""

import json
import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, TypeVar, get_args, get_origin

from cattrs import Converter, ForbiddenExtraKeysError, transform_error
from cattrs.cols import list_structure_factory
from cattrs.gen import make_dict_unstructure_fn

from probe import model
from probe.documents import Arrival, Attempt, Data, DnsAnswer, Icmp, Order, Tls
from probe.errors import UserError

T = TypeVar("T")


@dataclass
class DecodeError(Exception):
    """A value does not fit its type. `path` is like `checks[3].destination.port`."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem


def has_half(text: str) -> bool:
    """Whether it holds half of a character (a lone surrogate), which no UTF-8 can."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def _strict(kind: type, *also: type) -> Any:
    def hook(value: Any, _: Any) -> Any:
        # bool is a subclass of int: `port = true` must not pass as 1.
        if type(value) not in (kind, *also):
            raise TypeError(f"expected {_WORDS[kind]}, got {_shown(value)}")
        # JSON can spell half of a character; nothing that writes text can.
        if kind is str and has_half(value):
            raise TypeError(f"expected text, got half of a character: {_shown(value)}")
        return kind(value)

    return hook


_SURROGATE = re.compile("[\ud800-\udfff]")
_WORDS = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _enum(value: Any, kind: Any) -> Any:
    if type(value) is str and value in set(kind):
        return kind(value)
    raise TypeError(f"expected one of {', '.join(kind)}, got {_shown(value)}")


def _literal(value: Any, kind: Any) -> Any:
    if type(value) is str and value in get_args(kind):
        return value
    raise TypeError(f"expected one of {', '.join(map(str, get_args(kind)))}, got {_shown(value)}")


def _list_only(made: Converter) -> Any:
    # cattrs takes any iterable for a tuple: a string would become its letters, a table its keys.
    def factory(kind: Any) -> Any:
        inner = list_structure_factory(kind, made)

        def hook(value: Any, _: Any) -> Any:
            if type(value) is not list:
                raise TypeError(f"expected a list, got {_shown(value)}")
            return tuple(inner(value, kind))

        return hook

    return factory


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _converter() -> Converter:
    made = Converter(forbid_extra_keys=True, detailed_validation=True)
    made.register_structure_hook_factory(_is_tuple, _list_only(made))
    made.register_structure_hook_func(_is_literal, _literal)
    for kind, also in ((int, ()), (float, (int,)), (str, ()), (bool, ())):
        made.register_structure_hook(kind, _strict(kind, *also))
    for word in vars(model).values():
        # One by one: cattrs would take the hook for str for every subclass of str.
        if isinstance(word, type) and issubclass(word, StrEnum):
            made.register_structure_hook(word, _enum)
    # The inner parts of evidence are sparse: what is not there is left out.
    for sparse in (Arrival, Attempt, Data, DnsAnswer, Icmp, Tls, Order):
        made.register_unstructure_hook(sparse, make_dict_unstructure_fn(sparse, made, _cattrs_omit_if_default=True))
    return made


_CONVERTER = _converter()


def decode(kind: type[T], value: Any) -> T:
    """`value` (plain JSON types) as `kind`. Raises DecodeError for the first thing that does not fit."""
    try:
        return _CONVERTER.structure(value, kind)
    except RecursionError:
        raise DecodeError("", "nested too deeply") from None
    except Exception as error:  # noqa: BLE001 - cattrs raises groups of whatever the hooks raised; all become one line
        raise _first(error) from None


def _first(error: Exception) -> DecodeError:
    if not isinstance(error, ExceptionGroup):
        return DecodeError("", _format(error, None))
    line = transform_error(error, path="", format_exception=_format)[0]
    problem, _, path = line.rpartition(" @ ")
    return DecodeError(path.lstrip("."), problem)


def _format(error: BaseException, _kind: Any) -> str:
    if isinstance(error, ForbiddenExtraKeysError):
        return f"unknown key {sorted(error.extra_fields)[0]!r}"
    if isinstance(error, KeyError):
        return "missing"
    # cattrs asked something that is no table for its keys
    if isinstance(error, AttributeError) or "is not iterable" in str(error):
        return "expected a table"
    return str(error) or type(error).__name__


def encode(value: Any) -> Any:
    """`value` as plain JSON types."""
    return _CONVERTER.unstructure(value)


def to_line(value: Any) -> str:
    """`value` as one line of JSON, without the newline. Non-ASCII is escaped: a terminal cannot be driven by it."""
    return json.dumps(encode(value), separators=(",", ":"), allow_nan=False)


def parse_json(text: str, path: str, line: int | None = None) -> Any:
    """JSON text to plain types. Raises UserError that names `path` and the line; `line`: `text` is that line of it."""
    where = f"{path}:{line}" if line else path
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise UserError(f"{where}: not JSON: nested too deeply") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{line or error.lineno}: not JSON: {error.msg} (column {error.colno})") from None
    except ValueError as error:
        raise UserError(f"{where}: not JSON: {error}") from None


def parse_toml(text: str, path: str) -> dict[str, Any]:
    """TOML text to plain types. Raises UserError that names `path` and, where tomllib tells it, the line."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UserError(f"{path}: not TOML: nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, or an integer of thousands of digits
        line = re.search(r"at line (\d+)", str(error))
        raise UserError(f"{path}:{line[1]}: not TOML: {error}" if line else f"{path}: not TOML: {error}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


__all__ = ["DecodeError", "decode", "encode", "has_half", "parse_json", "parse_toml", "to_line"]
